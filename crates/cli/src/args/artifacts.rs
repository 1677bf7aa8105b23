//! Where code is kept, as `serve` takes it.

use clap::Args;

/// What `serve` takes about artifacts.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ArtifactsArgs {
    /// Where code is kept: a folder, or a bucket as s3://bucket/prefix?region=NAME; with &endpoint=URL, &path_style=BOOL,
    /// &allow_http=true, &timeout=10s as needed. Credentials are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what the
    /// machine has in AWS [default: DIR/artifacts].
    #[arg(long, value_name = "LOCATION", env = "IMPULS_ARTIFACTS")]
    pub artifacts: Option<String>,
}

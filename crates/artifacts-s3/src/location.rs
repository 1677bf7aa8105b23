//! Which bucket, and how to reach it: `s3://bucket/prefix?endpoint=…&region=…`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

/// How long one request may take unless the location says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request may be allowed to take, in seconds.
const TIMEOUTS: std::ops::RangeInclusive<u64> = 1..=600;
/// Where requests go of which nobody says where: the region that S3 began with.
const REGION: &str = "us-east-1";
/// The variables of AWS' own tools that say how to get credentials. Whatever they say is handed on as it is.
const CREDENTIALS: [&str; 10] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
];

/// A bucket and how to reach it. `Display` names bucket, prefix and endpoint; `Debug` shows no credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    pub(crate) bucket: String,
    /// Without slashes at either end; may be empty.
    pub(crate) prefix: String,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<Url>,
    pub(crate) path_style: Option<bool>,
    pub(crate) allow_http: bool,
    pub(crate) timeout: Duration,
    /// Variables of [`CREDENTIALS`].
    pub(crate) credentials: BTreeMap<String, String>,
}

/// Why a text is no location, or one that is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// It is no such URL.
    #[error("a bucket is written s3://bucket/prefix, with parameters such as ?region=eu-central-1 behind it")]
    Form,
    /// There is no such parameter.
    #[error(
        "the bucket's location has a parameter {0:?}; those that are: endpoint, region, path_style, allow_http, timeout"
    )]
    Parameter(String),
    /// A parameter has no such value.
    #[error("the parameter {name} of the bucket's location is {wanted}, not {value:?}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What it may be.
        wanted: &'static str,
        /// What it was.
        value: String,
    },
    /// The endpoint is no URL of a server.
    #[error("the endpoint {0:?} is no URL such as https://s3.example.com")]
    Endpoint(String),
    /// A URL with a password would be written into logs.
    #[error(
        "an endpoint takes no user and no password; credentials are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    Password,
    /// Code would travel for everybody to read and to change.
    #[error(
        "the endpoint {0} is not encrypted; if that is meant, add the parameter allow_http=true to the location"
    )]
    Unencrypted(String),
}

impl Location {
    /// The same with what the variables of AWS' own tools say of credentials and, where the location says nothing, of
    /// region and endpoint (`AWS_ENDPOINT_URL_S3` before `AWS_ENDPOINT_URL`, `AWS_REGION` before `AWS_DEFAULT_REGION`). Others
    /// are ignored.
    pub fn with_variables(mut self, variables: &BTreeMap<String, String>) -> Result<Self, LocationError> {
        let first = |names: [&str; 2]| {
            names.into_iter().filter_map(|name| variables.get(name)).find(|value| !value.is_empty())
        };
        if self.endpoint.is_none()
            && let Some(text) = first(["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
        {
            self.endpoint = Some(endpoint(text)?);
        }
        if self.region.is_none() {
            self.region = first(["AWS_REGION", "AWS_DEFAULT_REGION"]).cloned();
        }
        self.credentials = variables
            .iter()
            .filter(|(name, value)| CREDENTIALS.contains(&name.as_str()) && !value.is_empty())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        match &self.endpoint {
            Some(endpoint) if endpoint.scheme() == "http" && !self.allow_http => {
                Err(LocationError::Unencrypted(endpoint.to_string()))
            }
            _ => Ok(self),
        }
    }

    pub(crate) fn region(&self) -> &str {
        self.region.as_deref().unwrap_or(REGION)
    }

    /// A server that is not AWS' seldom has a name for every bucket.
    pub(crate) fn is_path_style(&self) -> bool {
        self.path_style.unwrap_or(self.endpoint.is_some())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), LocationError> {
        match name {
            "endpoint" => self.endpoint = Some(endpoint(value)?),
            "region" => self.region = Some(value.to_owned()).filter(|region| !region.is_empty()),
            "path_style" => self.path_style = Some(switch("path_style", value)?),
            "allow_http" => self.allow_http = switch("allow_http", value)?,
            "timeout" => {
                let seconds = value.strip_suffix('s').unwrap_or(value).parse().ok();
                let seconds = seconds.filter(|seconds| TIMEOUTS.contains(seconds));
                let wrong = || LocationError::Value {
                    name: "timeout",
                    wanted: "1s to 600s",
                    value: value.to_owned(),
                };
                self.timeout = Duration::from_secs(seconds.ok_or_else(wrong)?);
            }
            other => return Err(LocationError::Parameter(other.to_owned())),
        }
        Ok(())
    }
}

fn switch(name: &'static str, value: &str) -> Result<bool, LocationError> {
    match value {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(LocationError::Value { name, wanted: "true or false", value: value.to_owned() }),
    }
}

fn endpoint(text: &str) -> Result<Url, LocationError> {
    let url = text.parse::<Url>().ok().filter(|url| {
        ["http", "https"].contains(&url.scheme()) && url.host().is_some() && url.query().is_none()
    });
    // What is no URL may still have a password in it.
    let shown = || text.rsplit('@').next().unwrap_or_default().to_owned();
    let url = url.ok_or_else(|| LocationError::Endpoint(shown()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(LocationError::Password);
    }
    Ok(url)
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let url = text.parse::<Url>().ok().filter(|url| {
            url.scheme() == "s3"
                && url.username().is_empty()
                && url.password().is_none()
                && url.port().is_none()
        });
        let url = url.ok_or(LocationError::Form)?;
        let bucket = url.host_str().filter(|bucket| !bucket.is_empty()).ok_or(LocationError::Form)?;
        let mut location = Self {
            bucket: bucket.to_owned(),
            prefix: url.path().trim_matches('/').to_owned(),
            region: None,
            endpoint: None,
            path_style: None,
            allow_http: false,
            timeout: TIMEOUT,
            credentials: BTreeMap::new(),
        };
        for (name, value) in url.query_pairs() {
            location.set(&name, &value)?;
        }
        Ok(location)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket {}", self.bucket)?;
        match &self.endpoint {
            Some(endpoint) => write!(f, " at {}", endpoint.as_str().trim_end_matches('/')),
            None => write!(f, " of AWS in the region {}", self.region()),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Location")
            .field("place", &self.to_string())
            .field("prefix", &self.prefix)
            .field("credentials", &self.credentials.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, variables: &[(&str, &str)]) -> Result<Location, LocationError> {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        text.parse::<Location>()?.with_variables(&variables)
    }

    #[test]
    fn a_location_has_bucket_prefix_and_parameters() {
        let bare = with("s3://code", &[]).unwrap();
        assert_eq!((bare.bucket.as_str(), bare.prefix.as_str()), ("code", ""));
        assert!(!bare.is_path_style());
        assert_eq!(bare.to_string(), "bucket code of AWS in the region us-east-1");
        let full =
            "s3://code/a/b/?endpoint=http%3A%2F%2F127.0.0.1%3A9000&allow_http=true&region=eu-1&timeout=3s";
        let full = with(full, &[("AWS_REGION", "us-2")]).unwrap();
        assert_eq!((full.prefix.as_str(), full.region()), ("a/b", "eu-1"));
        assert!(full.is_path_style());
        assert_eq!(full.timeout, Duration::from_secs(3));
        assert_eq!(full.to_string(), "bucket code at http://127.0.0.1:9000");
        // Nobody has to encode what needs no encoding.
        let plain = with("s3://code?endpoint=https://s3.example.com:9000&path_style=false", &[]).unwrap();
        assert_eq!(plain.to_string(), "bucket code at https://s3.example.com:9000");
        assert!(!plain.is_path_style());
    }

    #[test]
    fn variables_say_what_the_location_does_not() {
        let both =
            [("AWS_ENDPOINT_URL", "https://all.example"), ("AWS_ENDPOINT_URL_S3", "https://s3.example")];
        assert_eq!(with("s3://b", &both).unwrap().to_string(), "bucket b at https://s3.example");
        let own = with("s3://b?endpoint=https://own.example", &both).unwrap();
        assert_eq!(own.to_string(), "bucket b at https://own.example");
        let keys =
            [("AWS_SECRET_ACCESS_KEY", "open sesame"), ("AWS_PROFILE", "me"), ("AWS_SESSION_TOKEN", "")];
        let keys = with("s3://b", &keys).unwrap();
        assert_eq!(keys.credentials.keys().collect::<Vec<_>>(), ["AWS_SECRET_ACCESS_KEY"]);
        assert!(!format!("{keys:?}").contains("sesame"), "{keys:?}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = [
            ("s3://", "a bucket is written"),
            ("s3://key:secret@bucket", "a bucket is written"),
            ("bucket", "a bucket is written"),
            ("s3://b?endpoint=ftp://x", "is no URL such as"),
            ("s3://b?endpoint=nobody:secret@host", "is no URL such as"),
            ("s3://b?endpoint=https://me:secret@host", "takes no user"),
            ("s3://b?endpoint=http://host", "allow_http=true"),
            ("s3://b?path_style=maybe", "true or false"),
            ("s3://b?timeout=0s", "1s to 600s"),
            ("s3://b?bucket=c", "a parameter \"bucket\""),
        ];
        for (text, expected) in wrong {
            let refusal = with(text, &[]).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{text}: {refusal}");
            assert!(!refusal.contains("secret"), "{text}: {refusal}");
        }
    }
}

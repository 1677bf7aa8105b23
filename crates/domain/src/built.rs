//! What became of a revision's source when it was deployed.

use crate::digest::ArtifactDigest;

/// Why code cannot be built or loaded, as found at deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFailure {
    /// The language's own name of the error, such as `SyntaxError`; `BuildError` for what a build says.
    pub class: String,
    /// What is wrong, for a person; of a build the first errors with their places, at most 4 KiB.
    pub message: String,
    /// The file, relative to the code's folder, if one is to blame.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<u32>,
}

/// What a build made of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Built {
    /// Nothing: the source is what runs.
    #[default]
    AsIs,
    /// A ZIP archive whose files lie beside the source's when the code runs; of the same names the source's count.
    Archive(ArtifactDigest),
    /// Nothing, because the build failed; calls end in `InitError` with this.
    Failed(LoadFailure),
}

//! What became of a revision's source when it was deployed.

use std::fmt;

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

/// All of it in one text, the place first, as compilers do: `index.js:3: SyntaxError: Unexpected token ')'`. A message
/// that names the file itself, as those of builds do, is not told twice.
impl fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = self.file.as_ref().filter(|file| !self.message.contains(file.as_str())) {
            write!(f, "{file}:")?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        if !self.class.is_empty() {
            write!(f, "{}: ", self.class)?;
        }
        f.write_str(&self.message)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_in_one_text_begins_with_its_place() {
        let check = |file: Option<&str>, line, class: &str, expected: &str| {
            let failure = LoadFailure {
                class: class.to_owned(),
                message: "no".to_owned(),
                file: file.map(str::to_owned),
                line,
            };
            assert_eq!(failure.to_string(), expected);
        };
        check(Some("index.js"), Some(3), "SyntaxError", "index.js:3: SyntaxError: no");
        check(Some("index.js"), None, "SyntaxError", "index.js: SyntaxError: no");
        check(None, None, "BuildError", "BuildError: no");
        check(None, Some(3), "", "no");
        check(Some("no"), Some(3), "BuildError", "BuildError: no");
    }
}

//! Why a path cannot be deployed.

use std::io;
use std::path::{Path, PathBuf};

use super::detect::EXTENSIONS;

/// Those that say which language a file is in.
fn extensions() -> String {
    EXTENSIONS.map(|(extension, _)| format!(".{extension}")).join(", ")
}

/// Why a path cannot be deployed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackageError {
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{path} is a symbolic link, which functions cannot have; copy what it points at, or list it in .impulsignore",
        path = .0.display()
    )]
    Link(PathBuf),
    #[error("{path} is neither a file nor a folder; list it in .impulsignore", path = .0.display())]
    Special(PathBuf),
    #[error("the name of {path} is not UTF-8; list it in .impulsignore", path = .0.display())]
    FileName(PathBuf),
    #[error("the folder has more than 65,000 files; list some in .impulsignore")]
    Entries,
    #[error("the files have more than 250 MiB together; list some in .impulsignore")]
    Unpacked,
    #[error("the code has {bytes} bytes, and 52,428,800 (50 MiB) are allowed")]
    Packed { bytes: u64 },
    #[error("there is no file to deploy in {path}", path = .0.display())]
    Empty(PathBuf),
    #[error("{path} is not UTF-8 text", path = .0.display())]
    Text(PathBuf),
    #[error("{path} is not a zip archive", path = path.display())]
    Archive { path: PathBuf, source: zip::result::ZipError },
    #[error("cannot pack the folder")]
    Pack(#[source] zip::result::ZipError),
    #[error("{path} is not valid", path = path.display())]
    Project { path: PathBuf, source: toml::de::Error },
    #[error(".impulsignore is not valid")]
    Ignore(#[source] ignore::Error),
    #[error("line {line} of {path} is not KEY=VALUE", path = path.display())]
    EnvironmentLine { path: PathBuf, line: usize },
    #[error(
        "no function can be called after {path}: only letters, digits, `-` and `_` are allowed; give --name",
        path = .0.display()
    )]
    Name(PathBuf),
    #[error(
        "the language of {path} is not known: its name ends in none of {}; give --runtime",
        extensions(), path = .0.display()
    )]
    Extension(PathBuf),
    #[error("no index, main or app file says which language this is; give --runtime and --handler")]
    Runtime,
}

impl PackageError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }
}

//! Where the server keeps its data.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::path::{Path, PathBuf};

use super::ConfigError;

/// Where a system service keeps its data (Filesystem Hierarchy Standard 5.8).
const SYSTEM: &str = "/var/lib/impuls";

/// Where the server keeps its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    /// Exactly there.
    Given(PathBuf),
    /// In the system's folder when that is writable, else in the user's.
    Default {
        /// The system's folder.
        system: PathBuf,
        /// The user's folder, if the user has one.
        user: Option<PathBuf>,
    },
}

impl DataDir {
    /// The default for a user with these folders. `xdg_data_home` counts only when it is absolute, as the XDG base
    /// directory specification demands.
    pub(crate) fn default_for(xdg_data_home: Option<PathBuf>, home: Option<PathBuf>) -> Self {
        let data = xdg_data_home
            .filter(|path| path.is_absolute())
            .or_else(|| home.filter(|path| path.is_absolute()).map(|home| home.join(".local/share")));
        Self::Default { system: SYSTEM.into(), user: data.map(|data| data.join("impuls")) }
    }

    /// Decides where, and creates the system's folder if that is it. Looks at the disk; call it once.
    pub fn choose(&self) -> Result<PathBuf, ConfigError> {
        match self {
            Self::Given(path) => Ok(path.clone()),
            Self::Default { system, user } => match user {
                _ if is_writable(system).is_ok() => Ok(system.clone()),
                Some(user) => Ok(user.clone()),
                None => Err(ConfigError::NoDataDir),
            },
        }
    }
}

/// Permission bits do not tell (a read-only mount, a full user namespace), so a file is created and removed.
fn is_writable(folder: &Path) -> io::Result<()> {
    private_folder().create(folder)?;
    let probe = folder.join(format!(".writable-{}", std::process::id()));
    File::create_new(&probe)?;
    fs::remove_file(&probe)
}

/// Functions' code and settings are nobody else's business.
fn private_folder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(xdg: Option<&str>, home: Option<&str>, user: Option<&str>) {
        let expected = DataDir::Default { system: SYSTEM.into(), user: user.map(PathBuf::from) };
        assert_eq!(DataDir::default_for(xdg.map(PathBuf::from), home.map(PathBuf::from)), expected);
    }

    #[test]
    fn the_users_folder_follows_xdg() {
        check(Some("/x"), Some("/home/u"), Some("/x/impuls"));
        check(None, Some("/home/u"), Some("/home/u/.local/share/impuls"));
        check(Some("relative"), Some("/home/u"), Some("/home/u/.local/share/impuls"));
        check(Some(""), None, None);
    }

    #[test]
    fn the_systems_folder_is_taken_when_writable() {
        let scratch = tempfile::tempdir().unwrap();
        let system = scratch.path().join("lib/impuls");
        let user = scratch.path().join("user");
        let dir = DataDir::Default { system: system.clone(), user: Some(user.clone()) };
        assert_eq!(dir.choose().unwrap(), system);
        assert_eq!(fs::read_dir(&system).unwrap().count(), 0);
        let file = scratch.path().join("file");
        fs::write(&file, "").unwrap();
        let dir = DataDir::Default { system: file.join("x"), user: Some(user.clone()) };
        assert_eq!(dir.choose().unwrap(), user);
        let dir = DataDir::Default { system: file.join("x"), user: None };
        assert!(matches!(dir.choose(), Err(ConfigError::NoDataDir)));
    }
}

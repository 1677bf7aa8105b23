//! A program of this machine that runs in a root which is not this machine's: with its own loader and libraries in a folder
//! of their own, so that it neither needs nor disturbs those of the root.

use std::path::{Path, PathBuf};

use crate::spec::BindMount;

/// The folder of the loader and the libraries.
pub const LIBRARIES: &str = "/opt/impuls/lib";
/// How the names of loaders begin (ld.so(8); `ld-musl-…` for the other C library).
const LOADER: &str = "ld-";

/// What is mounted, and how the program is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The program, its loader and its libraries.
    pub mounts: Vec<BindMount>,
    /// The words that start it.
    pub command: Vec<String>,
}

impl Carried {
    /// The program `host`, to be at `guest`, with the libraries that it loads here. A program without libraries is started
    /// by itself.
    #[must_use]
    pub fn new(host: &Path, guest: &str, libraries: &[BindMount]) -> Self {
        let own = |library: &BindMount| {
            let name = library.guest.file_name()?;
            Some(BindMount { host: library.host.clone(), guest: Path::new(LIBRARIES).join(name) })
        };
        let mut mounts: Vec<BindMount> = libraries.iter().filter_map(own).collect();
        let is_loader = |mount: &&BindMount| {
            mount
                .guest
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(LOADER))
        };
        let loader = mounts.iter().find(is_loader).map(|mount| mount.guest.display().to_string());
        let mut command = match loader {
            Some(loader) => vec![loader, "--library-path".to_owned(), LIBRARIES.to_owned()],
            None => Vec::new(),
        };
        command.push(guest.to_owned());
        mounts.push(BindMount { host: host.to_owned(), guest: PathBuf::from(guest) });
        Self { mounts, command }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_started_by_its_own_loader_and_a_static_one_by_itself() {
        let library = |path: &str| BindMount { host: path.into(), guest: path.into() };
        let libraries =
            [library("/usr/lib/x86_64-linux-gnu/libc.so.6"), library("/lib64/ld-linux-x86-64.so.2")];
        let carried = Carried::new(Path::new("/srv/impuls"), "/opt/impuls/init", &libraries);
        let loader = "/opt/impuls/lib/ld-linux-x86-64.so.2";
        assert_eq!(carried.command, [loader, "--library-path", "/opt/impuls/lib", "/opt/impuls/init"]);
        let guests: Vec<&Path> = carried.mounts.iter().map(|mount| mount.guest.as_path()).collect();
        assert_eq!(guests, ["/opt/impuls/lib/libc.so.6", loader, "/opt/impuls/init"].map(Path::new));
        let carried = Carried::new(Path::new("/srv/impuls"), "/opt/impuls/init", &[]);
        assert_eq!((carried.command.len(), carried.mounts.len()), (1, 1));
    }
}

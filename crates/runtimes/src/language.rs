//! What a language must say about itself.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use impuls_domain::{Handler, RuntimeName};
use impuls_sandbox::RuntimeImage;

/// Where interpreters are looked for.
#[derive(Clone, Debug, Default)]
pub struct SearchPath {
    /// The value of `PATH`.
    pub path: OsString,
    /// The user's home, for version managers that keep interpreters below it.
    pub home: Option<PathBuf>,
}

impl SearchPath {
    /// Every folder of `PATH`, the system's own first: their interpreters start fastest and are kept up to date.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        let system = ["/usr/bin", "/usr/local/bin"].map(PathBuf::from);
        let mut folders: Vec<PathBuf> = system.to_vec();
        folders.extend(std::env::split_paths(&self.path).filter(|f| f.is_absolute() && !system.contains(f)));
        folders
    }
}

/// One installed version of a language.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Its version name, such as `nodejs20`.
    pub name: RuntimeName,
    /// Sorts versions of one language; the greatest is what the aliases mean.
    pub order: (u32, u32),
    /// The interpreter's full version.
    pub version: String,
    /// The interpreter on this machine.
    pub path: PathBuf,
    /// What its sandboxes are made from.
    pub image: Arc<RuntimeImage>,
}

/// A language.
pub trait Language: Send + Sync {
    /// Names that mean its newest installed version, such as `nodejs` and `node`.
    fn aliases(&self) -> &'static [&'static str];

    /// Version names that Impuls knows, installed or not.
    fn known(&self) -> Vec<String>;

    /// What to install for a known version that is absent.
    fn installation_hint(&self, name: &str) -> String;

    /// The versions that are installed, one per version name.
    fn detect(&self, search: &SearchPath) -> Vec<Installed>;

    /// The names under which the source of a single-file function is laid out, relative to the code's folder.
    fn source_files(&self, handler: &Handler) -> Vec<String>;
}

/// The handler's file part, or `index`.
pub(crate) fn source_stem(handler: &Handler) -> &str {
    handler.file().unwrap_or("index")
}

/// Whether this is a program itself and not a script that would start one (as version managers' shims are).
pub(crate) fn is_program(path: &Path) -> bool {
    let Ok(metadata) = path.metadata() else { return false };
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return false;
    }
    let mut magic = [0; 4];
    let read =
        std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic));
    read.is_ok() && magic == *b"\x7fELF"
}

/// What a program prints to standard output, run without any of our environment; `None` when it fails.
pub(crate) fn output(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

/// Compares a list of included files with the folder that they are from.
#[cfg(test)]
pub(crate) fn assert_complete(folder: &str, files: &[(&str, &str)]) {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut present: Vec<String> = entries
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    present.sort();
    let listed: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    assert_eq!(present, listed);
}

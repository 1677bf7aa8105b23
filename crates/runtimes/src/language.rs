//! What a language must say about itself.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use impuls_domain::{Contract, Handler, RuntimeName};
use impuls_sandbox::RuntimeImage;

use crate::build::{Build, Source};

/// Where interpreters are looked for.
#[derive(Clone, Debug, Default)]
pub struct SearchPath {
    /// The value of `PATH`.
    pub path: OsString,
    /// The user's home, for version managers that keep interpreters below it.
    pub home: Option<PathBuf>,
    /// A folder of toolchains, each with its programs in a folder `bin` of its own.
    pub toolchains: Option<PathBuf>,
    /// The program that runs other programs inside a sandbox when its first argument is `agent`.
    pub agent: PathBuf,
}

impl SearchPath {
    /// Every folder to look in, the system's own first: their interpreters start fastest and are kept up to date. Then
    /// the toolchains', then those of `PATH`.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        let system = ["/usr/bin", "/usr/local/bin"].map(PathBuf::from);
        let mut folders: Vec<PathBuf> = system.to_vec();
        let toolchains = self.toolchains.iter().filter_map(|folder| std::fs::read_dir(folder).ok());
        let mut bins: Vec<PathBuf> =
            toolchains.flatten().flatten().map(|entry| entry.path().join("bin")).collect();
        bins.sort();
        folders.extend(bins);
        folders.extend(std::env::split_paths(&self.path).filter(|f| f.is_absolute() && !system.contains(f)));
        folders
    }

    /// The toolchain, with links resolved, that this is the folder of programs of.
    pub(crate) fn toolchain_of(&self, folder: &Path) -> Option<PathBuf> {
        let toolchain = folder.parent()?;
        let is_one = toolchain.parent().is_some() && toolchain.parent() == self.toolchains.as_deref();
        is_one.then(|| toolchain.canonicalize().ok())?
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
    /// What its sandboxes are made from: those with the language's shim, or the agent's where it has none.
    pub image: Arc<RuntimeImage>,
    /// What the sandboxes are made from in which the agent runs the code as programs.
    pub agent_image: Arc<RuntimeImage>,
    /// The words before a program's file that run it, inside a sandbox; empty if the file itself is run.
    pub interpreter: Vec<String>,
    /// What builds code of this version, where that is not the interpreter's own image.
    pub toolchain: Option<Toolchain>,
}

/// What builds code.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// What build sandboxes are made from.
    pub image: Arc<RuntimeImage>,
    /// The words that begin the command of whatever builds, inside of them.
    pub program: Vec<String>,
}

impl Installed {
    /// Whether the language has a shim of its own.
    #[must_use]
    pub fn has_shim(&self) -> bool {
        !Arc::ptr_eq(&self.image, &self.agent_image)
    }

    /// What the sandboxes of this contract are made from.
    #[must_use]
    pub const fn image_for(&self, contract: Contract) -> &Arc<RuntimeImage> {
        if contract.needs_shim() { &self.image } else { &self.agent_image }
    }
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

    /// How code of this language may be shaped; the first is the default.
    fn contracts(&self) -> &'static [Contract];

    /// The names under which the source of a single-file function is laid out, relative to the code's folder.
    fn source_files(&self, contract: Contract, handler: &Handler) -> Vec<String>;

    /// The file that is run as a whole program, relative to the code's folder.
    fn program(&self, handler: &Handler) -> String;

    /// The word that tells the program inside a sandbox how to run code of a contract: the contract's own, unless
    /// building the code has made something else of it. `native` is a program that speaks the guest protocol itself.
    fn serves(&self, contract: Contract) -> &'static str {
        contract.as_str()
    }

    /// Files of the source whose text [`Language::build`] wants to see.
    fn manifests(&self) -> &'static [&'static str] {
        &[]
    }

    /// What this machine lacks to build the source, and what to do about it; `None` if nothing.
    fn lacks(&self, installed: &Installed, source: &Source<'_>) -> Option<String> {
        let _has_all = (installed, source);
        None
    }

    /// How the source is built by this version; `None` if it runs as it is.
    fn build(&self, installed: &Installed, source: &Source<'_>) -> Option<Build> {
        let _runs_as_it_is = (installed, source);
        None
    }
}

/// The handler's file part, or the usual name of such a file.
pub(crate) fn source_stem(contract: Contract, handler: &Handler) -> &str {
    handler.file().unwrap_or(if contract.needs_shim() { "index" } else { "main" })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toolchains_come_after_the_system_and_before_the_path() {
        let toolchains = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let search = SearchPath {
            path: "/a:relative:/usr/bin:/b".into(),
            toolchains: Some(toolchains.clone()),
            ..SearchPath::default()
        };
        let folders = search.folders();
        let own = folders.iter().position(|folder| *folder == toolchains.join("runtimes/bin")).unwrap();
        assert_eq!(folders[..2], ["/usr/bin", "/usr/local/bin"].map(PathBuf::from));
        assert_eq!(folders[folders.len() - 2..], ["/a", "/b"].map(PathBuf::from));
        assert!((2..folders.len() - 2).contains(&own));
        assert_eq!(
            search.toolchain_of(&folders[own]),
            Some(toolchains.join("runtimes").canonicalize().unwrap())
        );
        assert_eq!(search.toolchain_of(Path::new("/usr/bin")), None);
    }
}

//! Which files a program loads: the only ones of the host that its sandboxes see.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use impuls_sandbox::BindMount;
use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};
use object::{Endianness, ReadCache};

/// The folders that the loader searches in any case; a library from elsewhere is shown in the last but one.
const LOADER_FOLDERS: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];
/// Where the loader's configuration names further folders.
const LOADER_CONFIG: &str = "/etc/ld.so.conf.d";

/// Read-only mounts of every shared library that these programs and libraries need, and of the loader. Libraries
/// are looked for where the loader looks: in the paths that the binary names, then in the system's folders.
#[must_use]
pub fn libraries(binaries: &[PathBuf]) -> Vec<BindMount> {
    let folders = system_folders();
    let mut found: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
    let mut to_read: Vec<PathBuf> = binaries.to_vec();
    while let Some(binary) = to_read.pop() {
        if !seen.insert(binary.clone()) {
            continue;
        }
        let Some(needs) = Needs::of(&binary) else { continue };
        for library in needs.loader.iter().cloned().chain(needs.resolved(&folders)) {
            if let Ok(host) = library.canonicalize() {
                found.insert(guest_path(&library), host.clone());
                to_read.push(host);
            }
        }
    }
    found.into_iter().map(|(guest, host)| BindMount { host, guest }).collect()
}

/// The libraries of these names that the system has.
pub(crate) fn find(names: &[&str]) -> Vec<PathBuf> {
    let folders = system_folders();
    let find = |name: &&str| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    names.iter().filter_map(find).collect()
}

/// Read-only mounts of the libraries of these names that the system has, where the loader finds them.
pub(crate) fn shown(names: &[&str]) -> Vec<BindMount> {
    let found = find(names).into_iter();
    let mount =
        |path: PathBuf| path.canonicalize().ok().map(|host| BindMount { host, guest: guest_path(&path) });
    found.filter_map(mount).collect()
}

/// What one binary asks the loader for.
#[derive(Default)]
struct Needs {
    loader: Option<PathBuf>,
    names: Vec<String>,
    own_folders: Vec<PathBuf>,
}

impl Needs {
    /// `None` if the file is no 64-bit ELF binary with a dynamic section.
    fn of(path: &Path) -> Option<Self> {
        let data = ReadCache::new(File::open(path).ok()?);
        let header = FileHeader64::<Endianness>::parse(&data).ok()?;
        let endian = header.endian().ok()?;
        let mut needs = Self::default();
        for segment in header.program_headers(endian, &data).ok()? {
            if let Ok(Some(loader)) = segment.interpreter(endian, &data) {
                needs.loader = Some(PathBuf::from(String::from_utf8_lossy(loader).into_owned()));
            }
        }
        let sections = header.sections(endian, &data).ok()?;
        let (entries, link) = sections.dynamic(endian, &data).ok()??;
        let strings = sections.strings(endian, &data, link).ok()?;
        for entry in entries {
            let text =
                || entry.string(endian, strings).ok().map(|text| String::from_utf8_lossy(text).into_owned());
            match entry.tag(endian) {
                elf::DT_NEEDED => needs.names.extend(text()),
                elf::DT_RPATH | elf::DT_RUNPATH => needs.own_folders.extend(folders_in(&text()?, path)),
                _ => {}
            }
        }
        Some(needs)
    }

    fn resolved(&self, system: &[PathBuf]) -> impl Iterator<Item = PathBuf> {
        self.names.iter().filter_map(move |name| {
            let mut candidates = self.own_folders.iter().chain(system).map(|folder| folder.join(name));
            candidates.find(|candidate| candidate.is_file())
        })
    }
}

/// The folders of a search path inside a binary; `$ORIGIN` is the binary's own folder (`ld.so(8)`).
fn folders_in(text: &str, binary: &Path) -> Vec<PathBuf> {
    let origin = binary.parent().unwrap_or(Path::new("/")).to_string_lossy();
    let resolve =
        |folder: &str| PathBuf::from(folder.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin));
    text.split(':').filter(|folder| !folder.is_empty()).map(resolve).collect()
}

/// The folders of the loader's configuration, then those that it always searches.
fn system_folders() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(LOADER_CONFIG).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    let mut folders: Vec<PathBuf> = texts.flat_map(|text| configured_folders(&text)).collect();
    folders.extend(LOADER_FOLDERS.map(PathBuf::from));
    folders
}

/// One absolute path a line; `#` begins a comment (`ldconfig(8)`).
fn configured_folders(text: &str) -> Vec<PathBuf> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| line.starts_with('/')).map(PathBuf::from).collect()
}

/// Where a sandbox sees a library: at its own place, with links on the way to it resolved, if the loader looks
/// there by itself.
fn guest_path(library: &Path) -> PathBuf {
    let name = library.file_name().unwrap_or_default();
    let folder = library.parent().unwrap_or(Path::new("/"));
    if LOADER_FOLDERS.iter().any(|searched| folder.starts_with(searched)) {
        return folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).join(name);
    }
    Path::new("/usr/lib").join(name)
}

/// The links at the top of the host's root (`/lib` → `usr/lib` and its like), which loaders rely on.
#[must_use]
pub fn root_links() -> Vec<(PathBuf, PathBuf)> {
    let candidates = ["/bin", "/lib", "/lib32", "/lib64", "/sbin"].map(PathBuf::from);
    candidates.into_iter().filter_map(|link| Some((link.clone(), std::fs::read_link(&link).ok()?))).collect()
}

/// Where machines keep the certificates of the authorities that they trust, and where sandboxes see them.
const CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
const GUEST_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Where OpenSSL looks for them.
const OPENSSL_CERTIFICATES: &str = "/usr/lib/ssl/cert.pem";

/// A read-only mount of the certificates of the authorities that this machine trusts, if it has any.
#[must_use]
pub fn certificates() -> Option<BindMount> {
    let host = CERTIFICATES.iter().find_map(|path| PathBuf::from(path).canonicalize().ok())?;
    Some(BindMount { host, guest: PathBuf::from(GUEST_CERTIFICATES) })
}

/// The variable that tells a program with authorities of its own to trust this machine's as well, which may have more:
/// an operator's proxy or registry.
#[must_use]
pub fn trusting(variable: &str) -> Option<(String, String)> {
    certificates().map(|_| (variable.to_owned(), GUEST_CERTIFICATES.to_owned()))
}

/// The link by which OpenSSL finds them.
#[must_use]
pub fn certificates_link() -> (PathBuf, PathBuf) {
    (PathBuf::from(OPENSSL_CERTIFICATES), PathBuf::from(GUEST_CERTIFICATES))
}

/// Read-only mounts of harmless data files that language runtimes look for: time zones, the C.UTF-8 locale, and
/// certificates.
#[must_use]
pub fn shared_data() -> Vec<BindMount> {
    let candidates = ["/usr/share/zoneinfo", "/usr/lib/locale/C.utf8"].map(PathBuf::from);
    let existing = candidates.into_iter().filter(|path| path.is_dir());
    existing.map(|path| BindMount { host: path.clone(), guest: path }).chain(certificates()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_needs_its_loader_and_the_c_library() {
        let this = std::env::current_exe().unwrap();
        let guests: Vec<String> =
            libraries(&[this]).into_iter().map(|mount| mount.guest.display().to_string()).collect();
        assert!(
            guests.iter().any(|path| path.contains("/libc.so") || path.contains("/ld-musl")),
            "{guests:?}"
        );
        assert!(guests.iter().any(|path| path.contains("/ld-")), "{guests:?}");
    }

    #[test]
    fn a_script_needs_no_library() {
        assert!(libraries(&[PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))]).is_empty());
    }

    #[test]
    fn search_paths_know_the_origin() {
        let folders = folders_in("$ORIGIN/../lib:/opt/x:${ORIGIN}", Path::new("/a/b/program"));
        assert_eq!(folders, ["/a/b/../lib", "/opt/x", "/a/b"].map(PathBuf::from));
    }

    #[test]
    fn the_loaders_configuration_has_a_folder_a_line() {
        assert_eq!(
            configured_folders("# x\n/usr/local/lib\n\n /opt/lib # y\ninclude z\n"),
            [PathBuf::from("/usr/local/lib"), PathBuf::from("/opt/lib"),]
        );
    }

    #[test]
    fn a_library_from_elsewhere_is_shown_where_the_loader_looks() {
        assert_eq!(guest_path(Path::new("/opt/x/lib/libfoo.so.1")), Path::new("/usr/lib/libfoo.so.1"));
    }
}

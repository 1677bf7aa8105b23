//! Which files a program loads: the only ones of the host that its sandboxes see.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use impuls_sandbox::BindMount;

/// The folders that the loader searches by itself; a library from elsewhere is shown in the last of them.
const LOADER_FOLDERS: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];

/// Read-only mounts of every shared library that these programs and libraries need, and of the loader, as
/// `ldd` of the C library finds them.
#[must_use]
pub fn libraries(binaries: &[PathBuf]) -> Vec<BindMount> {
    let mut found: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for group in binaries.chunks(64) {
        let output = Command::new("ldd")
            .args(group)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .output();
        let Ok(output) = output else { continue };
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if let Some(library) = library_of(line)
                && let Ok(host) = library.canonicalize()
            {
                found.insert(guest_path(&library), host);
            }
        }
    }
    found.into_iter().map(|(guest, host)| BindMount { host, guest }).collect()
}

/// The path in a line of `ldd`: `libc.so.6 => /lib/…/libc.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn library_of(line: &str) -> Option<PathBuf> {
    let path = line.split_once("=>").map_or(line, |(_, path)| path).trim();
    let path = path.split_once(" (").map(|(path, _)| path)?;
    path.starts_with('/').then(|| PathBuf::from(path))
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

/// Read-only mounts of harmless data files that language runtimes look for: time zones and the C.UTF-8 locale.
#[must_use]
pub fn shared_data() -> Vec<BindMount> {
    let candidates = ["/usr/share/zoneinfo", "/usr/lib/locale/C.utf8"].map(PathBuf::from);
    let existing: BTreeSet<PathBuf> = candidates.into_iter().filter(|path| path.is_dir()).collect();
    existing.into_iter().map(|path| BindMount { host: path.clone(), guest: path }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ldd_name_libraries() {
        let check =
            |line: &str, expected: Option<&str>| assert_eq!(library_of(line), expected.map(PathBuf::from));
        check(
            "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)",
            Some("/lib/x86_64-linux-gnu/libc.so.6"),
        );
        check("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)", Some("/lib64/ld-linux-x86-64.so.2"));
        check("\tlinux-vdso.so.1 (0x00007f)", None);
        check("\tlibgone.so => not found", None);
        check("/usr/lib/python3.11/lib-dynload/_ssl.so:", None);
        check("\tstatically linked", None);
    }

    #[test]
    fn a_library_from_elsewhere_is_shown_where_the_loader_looks() {
        assert_eq!(guest_path(Path::new("/opt/x/lib/libfoo.so.1")), Path::new("/usr/lib/libfoo.so.1"));
    }
}

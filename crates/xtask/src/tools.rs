//! What this machine has: who we are, which interpreters there are.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::process;

/// The oldest Node.js that the shim supports.
pub const OLDEST_NODE: (u32, u32) = (18, 0);
/// The oldest Python that the shim supports.
pub const OLDEST_PYTHON: (u32, u32) = (3, 9);

/// The oldest Ruby that the shim supports.
pub const OLDEST_RUBY: (u32, u32) = (2, 7);

/// An interpreter of a language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The program itself, never a version manager's shim.
    pub path: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
}

/// Whether we may do everything on this machine.
pub fn is_root() -> bool {
    process::output_of("id", &["-u"]).as_deref() == Some("0")
}

/// Whether there is a Node.js that the shim supports; stops at the first.
pub fn has_node() -> bool {
    all_nodes().any(|node| node.version >= OLDEST_NODE)
}

/// Whether there is a Python that the shim supports; stops at the first.
pub fn has_python() -> bool {
    all_pythons().any(|python| python.version >= OLDEST_PYTHON)
}

/// Whether there is a Ruby that the shim supports; stops at the first.
pub fn has_ruby() -> bool {
    all_rubies().any(|ruby| ruby.version >= OLDEST_RUBY)
}

/// Whether some Ruby here can run tests.
pub fn has_minitest() -> bool {
    all_rubies().any(|ruby| process::output_of(&ruby.path, &["-e", "require 'minitest'"]).is_some())
}

/// Whether there is a .NET SDK; the program alone may be only what runs programs.
pub fn has_dotnet_sdk() -> bool {
    process::output_of("dotnet", &["--list-sdks"]).is_some_and(|sdks| !sdks.trim().is_empty())
}

/// Whether packages of this machine come from Debian's archive.
pub fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == "ID=debian") && process::output_of("apt-get", &["--version"]).is_some()
}

/// Whether a program of this name is on the PATH.
pub fn has(program: &str) -> bool {
    process::output_of("which", &[program]).is_some()
}

/// Whether an address can be reached and has something.
pub fn answers(url: &str) -> bool {
    process::output_of("curl", &["--silent", "--fail", "--location", "--max-time", "20", url]).is_some()
}

/// Whether the system's own Python can install packages.
pub fn has_pip() -> bool {
    process::output_of("/usr/bin/python3", &["-m", "pip", "--version"]).is_some()
}

/// Whether a PostgreSQL server can be started: Debian's, which is not in `PATH`, or another's.
pub fn has_postgres() -> bool {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    debian.map(|version| version.path().join("bin/initdb")).any(|program| program.exists()) || has("initdb")
}

/// One Node.js of every supported major version, oldest first.
pub fn nodes() -> Vec<Interpreter> {
    one_of_each(all_nodes(), OLDEST_NODE, |version| (version.0, 0))
}

/// One Python of every supported minor version, oldest first.
pub fn pythons() -> Vec<Interpreter> {
    one_of_each(all_pythons(), OLDEST_PYTHON, |version| version)
}

/// One Ruby of every supported minor version, oldest first.
pub fn rubies() -> Vec<Interpreter> {
    one_of_each(all_rubies(), OLDEST_RUBY, |version| version)
}

/// Every Node.js, asked one after another for its version and its real path.
fn all_nodes() -> impl Iterator<Item = Interpreter> {
    let script = "process.versions.node.split('.').slice(0, 2).join('.') + ' ' + process.execPath";
    candidates(".nvm/versions/node", |name| name == "node")
        .into_iter()
        .filter_map(move |program| parse(&process::output_of(program, &["-p", script])?))
}

/// Every Python, asked one after another for its version and its real path.
fn all_pythons() -> impl Iterator<Item = Interpreter> {
    let script = "import sys; print('%d.%d %s' % (sys.version_info[0], sys.version_info[1], sys.executable))";
    candidates(".pyenv/versions", is_python_name)
        .into_iter()
        .filter_map(move |program| parse(&process::output_of(program, &["-c", script])?))
}

/// Every Ruby, asked one after another for its version and its real path.
fn all_rubies() -> impl Iterator<Item = Interpreter> {
    let script = "puts RUBY_VERSION.split('.').first(2).join('.') + ' ' + RbConfig.ruby";
    candidates(".rbenv/versions", is_ruby_name)
        .into_iter()
        .filter_map(move |program| parse(&process::output_of(program, &["-e", script])?))
}

/// `ruby` or `rubyN.N`.
fn is_ruby_name(name: &str) -> bool {
    name.strip_prefix("ruby")
        .is_some_and(|rest| rest.is_empty() || rest.split('.').all(|number| number.parse::<u32>().is_ok()))
}

/// `python3` or `python3.N`.
fn is_python_name(name: &str) -> bool {
    name.strip_prefix("python3").is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('.').is_some_and(|minor| minor.parse::<u32>().is_ok())
    })
}

/// Programs with such a name on the PATH, then in the version manager's folder below the home folder.
fn candidates(manager: &str, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "where programs are is what this file is about")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    let managed = std::env::home_dir()
        .and_then(|home| fs::read_dir(home.join(manager)).ok())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    let mut programs = Vec::new();
    for folder in std::env::split_paths(&path).chain(managed) {
        let entries = fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| wanted(name));
        names.sort();
        programs.extend(names.into_iter().map(|name| folder.join(name)));
    }
    programs
}

/// Reads `MAJOR.MINOR PATH`.
fn parse(line: &str) -> Option<Interpreter> {
    let (version, path) = line.split_once(' ')?;
    let (major, minor) = version.split_once('.')?;
    Some(Interpreter { path: path.into(), version: (major.parse().ok()?, minor.parse().ok()?) })
}

/// The first of each version; the PATH comes first, so the machine's default is among them.
fn one_of_each(
    found: impl Iterator<Item = Interpreter>,
    oldest: (u32, u32),
    key: impl Fn((u32, u32)) -> (u32, u32),
) -> Vec<Interpreter> {
    let mut kept = BTreeMap::new();
    for interpreter in found.filter(|interpreter| interpreter.version >= oldest) {
        kept.entry(key(interpreter.version)).or_insert(interpreter);
    }
    kept.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpreter(path: &str, version: (u32, u32)) -> Interpreter {
        Interpreter { path: path.into(), version }
    }

    #[test]
    fn a_version_line_is_parsed() {
        assert_eq!(parse("3.11 /usr/bin/python3"), Some(interpreter("/usr/bin/python3", (3, 11))));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn the_first_of_each_version_stays_and_old_ones_go() {
        let found = [("a", (3, 11)), ("b", (3, 8)), ("c", (3, 11)), ("d", (3, 10))];
        let found = found.into_iter().map(|(path, version)| interpreter(path, version));
        let kept = one_of_each(found, OLDEST_PYTHON, |version| version);
        assert_eq!(kept, [interpreter("d", (3, 10)), interpreter("a", (3, 11))]);
    }

    #[test]
    fn ruby_names_have_at_most_a_version() {
        for (name, expected) in [("ruby", true), ("ruby3.1", true), ("ruby-build", false), ("rubyw", false)] {
            assert_eq!(is_ruby_name(name), expected, "{name}");
        }
    }

    #[test]
    fn python_names_have_at_most_a_minor_version() {
        for (name, expected) in
            [("python3", true), ("python3.12", true), ("python3-config", false), ("python2", false)]
        {
            assert_eq!(is_python_name(name), expected, "{name}");
        }
    }
}

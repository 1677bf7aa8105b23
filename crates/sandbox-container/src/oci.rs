//! The OCI runtimes of this machine: where they are, how old they are, and how they are called.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

/// Where a runtime finds the programs that it needs itself.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The programs that are looked for, the preferred one first.
pub const KNOWN: [&str; 5] = ["crun", "runc", "youki", "runsc", "kata-runtime"];
/// How long a runtime may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest text of a version that is looked at, in bytes.
const VERSION_LIMIT: usize = 4 * 1024;

/// Three numbers.
pub type Version = (u32, u32, u32);

/// Whether a runtime is safe to use for code of strangers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Safety {
    /// Nothing is known against it.
    Fine,
    /// Code has escaped from it; the text says how that is known and which version repairs it.
    Escapes(&'static str),
    /// It cannot do what this driver needs; the text says what.
    Unusable(&'static str),
}

/// A program that makes containers as the OCI runtime specification has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciRuntime {
    /// What it calls itself: the first word of its version, such as `runc`.
    pub name: String,
    /// Where it is: absolute, because it is executed in another folder than it was found from.
    pub path: PathBuf,
    /// Its version; `None` if it tells none.
    pub version: Option<Version>,
    /// Whether it is something before that version: a candidate for it, or made while it was worked on.
    pub candidate: bool,
}

impl OciRuntime {
    /// Asks a program for its version. A relative path begins at the working folder. Fails if there is no such program or it
    /// does not answer.
    pub async fn examine(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let output = Command::new(&path).arg("--version").kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, output).await??;
        if !output.status.success() {
            return Err(io::Error::other(format!("it ends with {}", output.status)));
        }
        let text = output.stdout.get(..VERSION_LIMIT).unwrap_or(&output.stdout);
        let (name, version) = read_version(&String::from_utf8_lossy(text));
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self {
            name: name.or(file_name).unwrap_or_default(),
            path,
            version: version.map(|(version, _)| version),
            candidate: version.is_some_and(|(_, candidate)| candidate),
        })
    }

    /// The runtimes in these folders, as `PATH` has them, the preferred one first.
    pub async fn find(path: &OsStr) -> Vec<Self> {
        let mut found = Vec::new();
        for name in KNOWN {
            let program =
                std::env::split_paths(path).map(|folder| folder.join(name)).find(|path| path.is_file());
            if let Some(program) = program
                && let Ok(runtime) = Self::examine(&program).await
            {
                found.push(runtime);
            }
        }
        found
    }

    /// What is known against it.
    #[must_use]
    pub fn safety(&self) -> Safety {
        safety(&self.name, self.version, self.candidate)
    }
}

impl fmt::Display for OciRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = if self.candidate { "a candidate for " } else { "" };
        match self.version {
            Some((a, b, c)) => write!(f, "{} {before}{a}.{b}.{c} ({})", self.name, self.path.display()),
            None => write!(f, "{} of unknown version ({})", self.name, self.path.display()),
        }
    }
}

/// The name and the version in what a program prints, such as `runc version 1.1.5+ds1`, and whether it is only a candidate
/// for that version.
fn read_version(text: &str) -> (Option<String>, Option<(Version, bool)>) {
    let mut words = text.lines().next().unwrap_or_default().split_whitespace();
    let name = words.next().map(|word| word.trim_end_matches(':').to_owned());
    let version = words.map(|word| word.trim_start_matches('v')).find_map(read_numbers);
    (name, version)
}

/// `1.2`, `1.2.3`, and `1.2.3-rc.1`, `1.2.3~rc1` or `1.2.3-dev`, which come before the version that they name. Numbers after
/// a `-` are the distribution's own.
fn read_numbers(word: &str) -> Option<(Version, bool)> {
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let (numbers, rest) = word.split_at(end);
    let mut parts = numbers.split('.').map(str::parse::<u32>);
    let (a, b) = (parts.next()?.ok()?, parts.next()?.ok()?);
    let c = parts.next().and_then(Result::ok).unwrap_or_default();
    let before = rest.strip_prefix(['-', '~']);
    Some(((a, b, c), before.is_some_and(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()))))
}

/// Distributions mend holes under the old number (`1.1.15+ds1-2+deb13u1`), and which ones only their own lists say. So an old
/// number is refused whatever stands behind it, and whoever knows better says so. So is every candidate, because its number
/// does not say which repairs it has: the first two for runc 1.4.0 have the holes of 2025. Holes of what this driver never
/// asks for do not count: crun's handler for virtual machines (CVE-2025-24965), and checkpoints.
fn safety(name: &str, version: Option<Version>, candidate: bool) -> Safety {
    const RUNC: &str = "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881 and CVE-2026-41579 let code out of runc before 1.3.6 \
                        and 1.4.3";
    const CRUN: &str = "CVE-2022-27650 gives processes of crun before 1.4.4 capabilities that nobody granted";
    const YOUKI: &str = "CVE-2025-62161 and CVE-2025-62596 let code out of youki before 0.5.7";
    const DESCRIPTORS: &str = "it cannot hand a listening socket into a container";
    const CANDIDATE: &str = "what comes before a release may lack repairs that earlier releases have";
    const UNKNOWN: &str = "nothing is known about this runtime, or it does not tell its version";
    match (name, version) {
        ("runsc" | "kata-runtime", _) => Safety::Unusable(DESCRIPTORS),
        ("runc" | "crun" | "youki", Some(_)) if candidate => Safety::Escapes(CANDIDATE),
        ("runc", Some(version)) if version < (1, 3, 6) || ((1, 4, 0)..(1, 4, 3)).contains(&version) => {
            Safety::Escapes(RUNC)
        }
        ("crun", Some(version)) if version < (1, 4, 4) => Safety::Escapes(CRUN),
        ("youki", Some(version)) if version < (0, 5, 7) => Safety::Escapes(YOUKI),
        ("runc" | "crun" | "youki", Some(_)) => Safety::Fine,
        _ => Safety::Escapes(UNKNOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_version(text: &str, name: &str, version: Option<(Version, bool)>) {
        assert_eq!(read_version(text), (Some(name.to_owned()), version));
    }

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        check_version("crun version 1.8.1\ncommit: f8a0\nspec: 1.0.0", "crun", Some(((1, 8, 1), false)));
        check_version(
            "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1",
            "runc",
            Some(((1, 1, 5), false)),
        );
        check_version(
            "runc version 1.1.15+ds1\ncommit: 1.1.15+ds1-2+deb13u1",
            "runc",
            Some(((1, 1, 15), false)),
        );
        check_version("runc version 1.4.0-rc.2", "runc", Some(((1, 4, 0), true)));
        check_version("runc version 1.4.0~rc2+ds1", "runc", Some(((1, 4, 0), true)));
        check_version("runc version 1.3.6-0ubuntu1", "runc", Some(((1, 3, 6), false)));
        check_version("runsc version release-20240101.0", "runsc", None);
        check_version("crun version 1.21", "crun", Some(((1, 21, 0), false)));
        check_version("youki version: 0.5.7", "youki", Some(((0, 5, 7), false)));
    }

    #[test]
    fn what_prints_nothing_has_no_name() {
        assert_eq!(read_version(""), (None, None));
    }

    #[track_caller]
    fn check_safety(name: &str, version: Version, fine: bool) {
        assert_eq!(safety(name, Some(version), false) == Safety::Fine, fine, "{name} {version:?}");
    }

    #[test]
    fn what_comes_before_a_release_is_not_safe() {
        for printed in ["1.4.0-rc.1", "1.4.0-rc.2", "1.4.3~rc1", "1.5.0-rc.1", "2.0.0-rc.1", "1.6.0-dev"] {
            let (name, version) = read_version(&format!("runc version {printed}"));
            let (version, candidate) = version.unwrap();
            let safety = safety(&name.unwrap(), Some(version), candidate);
            assert!(matches!(safety, Safety::Escapes(_)), "{printed}");
        }
    }

    #[test]
    fn runtimes_with_known_escapes_are_told_from_others() {
        check_safety("runc", (1, 1, 5), false);
        check_safety("runc", (1, 1, 15), false);
        check_safety("runc", (1, 2, 8), false);
        check_safety("runc", (1, 3, 5), false);
        check_safety("runc", (1, 3, 6), true);
        check_safety("runc", (1, 4, 2), false);
        check_safety("runc", (1, 4, 3), true);
        check_safety("runc", (1, 5, 0), true);
        check_safety("crun", (1, 4, 3), false);
        check_safety("crun", (1, 8, 1), true);
        check_safety("somebody-s", (9, 9, 9), false);
        assert!(matches!(safety("runsc", None, false), Safety::Unusable(_)));
        assert!(matches!(safety("crun", None, false), Safety::Escapes(_)));
    }

    #[tokio::test]
    async fn a_program_is_the_one_that_was_examined_wherever_it_is_executed() {
        let root = "../".repeat(std::env::current_dir().unwrap().components().count());
        let runtime = OciRuntime::examine(Path::new(&format!("{root}usr/bin/env"))).await.unwrap();
        assert!(runtime.path.is_absolute(), "{}", runtime.path.display());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        assert!(OciRuntime::examine(Path::new("/absent/crun")).await.is_err());
        assert_eq!(OciRuntime::find(OsStr::new("/absent")).await, []);
    }
}

//! Languages whose programs are scripts that an interpreter of the machine runs: PHP, Perl, Java, Bun and Deno. A further
//! one is a constant here and a line in [`crate::catalogue`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use impuls_domain::{Contract, Handler};
use impuls_sandbox::BindMount;

use crate::agent;
use crate::language::{Installed, Language, SearchPath, is_program, output};

/// Where a toolchain from elsewhere is shown.
const GUEST_TOOLCHAINS: &str = "/opt/toolchains";

/// One such language.
pub struct Script {
    /// Its name, which version names begin with; also the alias.
    name: &'static [&'static str; 1],
    /// The interpreter's file name.
    binary: &'static str,
    /// What makes the interpreter print its version, and where in the output it is: after this text.
    version: (&'static [&'static str], &'static str),
    /// Words between the interpreter and the script.
    arguments: &'static [&'static str],
    /// What the script is called where the handler names no file.
    stem: &'static str,
    extension: &'static str,
    /// What to install.
    hint: &'static str,
}

/// PHP.
pub const PHP: Script = Script {
    name: &["php"],
    binary: "php",
    version: (&["--version"], "PHP "),
    arguments: &[],
    stem: "main",
    extension: "php",
    hint: "install PHP (Debian package `php-cli`)",
};
/// Perl.
pub const PERL: Script = Script {
    name: &["perl"],
    binary: "perl",
    version: (&["-e", "print $^V"], "v"),
    arguments: &[],
    stem: "main",
    extension: "pl",
    hint: "install Perl (Debian package `perl`)",
};
/// Java: a program of one source file, which the launcher compiles in memory (JEP 330).
pub const JAVA: Script = Script {
    name: &["java"],
    binary: "java",
    version: (&["--version"], " "),
    // Programs that live for one call: what starts fastest.
    arguments: &["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"],
    stem: "Main",
    extension: "java",
    hint: "install a Java development kit, version 11 or later (Debian package `default-jdk-headless`)",
};
/// Bun.
pub const BUN: Script = Script {
    name: &["bun"],
    binary: "bun",
    version: (&["--version"], ""),
    arguments: &["run"],
    stem: "main",
    extension: "ts",
    hint: "install Bun (npm package `bun`) and put `bun` on PATH",
};
/// Deno.
pub const DENO: Script = Script {
    name: &["deno"],
    binary: "deno",
    version: (&["--version"], "deno "),
    arguments: &["run", "--allow-all", "--cached-only"],
    stem: "main",
    extension: "ts",
    hint: "install Deno (npm package `deno`) and put `deno` on PATH",
};

impl Language for Script {
    fn aliases(&self) -> &'static [&'static str] {
        self.name
    }

    fn known(&self) -> Vec<String> {
        Vec::new()
    }

    fn installation_hint(&self, _: &str) -> String {
        self.hint.to_owned()
    }

    fn detect(&self, search: &SearchPath) -> Vec<Installed> {
        let mut found: Vec<Installed> = Vec::new();
        let mut seen = BTreeSet::new();
        for folder in search.folders() {
            let Ok(path) = folder.join(self.binary).canonicalize() else { continue };
            // Folders are often links to one another, and some interpreters take long to say their version.
            if !seen.insert(path.clone()) || !is_program(&path) {
                continue;
            }
            let Some(installed) = self.inspect(path, &folder, search) else { continue };
            if found.iter().all(|other| other.name != installed.name) {
                found.push(installed);
            }
        }
        found
    }

    fn contracts(&self) -> &'static [Contract] {
        &[Contract::Program, Contract::Http]
    }

    fn source_files(&self, _: Contract, handler: &Handler) -> Vec<String> {
        vec![self.program(handler)]
    }

    fn program(&self, handler: &Handler) -> String {
        format!("{}.{}", handler.file().unwrap_or(self.stem), self.extension)
    }
}

impl Script {
    fn inspect(&self, path: PathBuf, folder: &Path, search: &SearchPath) -> Option<Installed> {
        let (question, before) = self.version;
        let answer = output(&path, question)?;
        let version = answer.split_once(before)?.1.split_whitespace().next()?.to_owned();
        let number = |part: Option<&str>| {
            part.map(|text| text.chars().take_while(char::is_ascii_digit).collect::<String>())?.parse().ok()
        };
        let mut parts = version.split('.');
        let (major, minor): (u32, u32) = (number(parts.next())?, number(parts.next())?);
        let [name] = self.name;
        // Languages count in whole numbers once they are so far.
        let number = if major >= 10 { major.to_string() } else { format!("{major}{minor}") };
        let name = format!("{name}{number}").parse().ok()?;
        let (guest, further) = place(&path, search.toolchain_of(folder).as_deref(), self.binary);
        let image = Arc::new(agent::system(&name, &search.agent, further));
        let mut interpreter = vec![guest.to_string_lossy().into_owned()];
        interpreter.extend(self.arguments.iter().map(|&word| word.to_owned()));
        let order = (major, minor);
        Some(Installed {
            name,
            order,
            version,
            path,
            image: image.clone(),
            agent_image: image,
            interpreter,
            toolchain: None,
        })
    }
}

/// Where a sandbox sees an interpreter, and the mount that takes it there if it is none of the system's: the whole of an
/// operator's toolchain, but the program alone if it lies anywhere else, where nobody knows what lies beside it.
pub(crate) fn place(path: &Path, toolchain: Option<&Path>, name: &str) -> (PathBuf, Vec<BindMount>) {
    if path.starts_with("/usr") {
        return (path.to_owned(), Vec::new());
    }
    let guest = Path::new(GUEST_TOOLCHAINS).join(name);
    if let Some(toolchain) = toolchain
        && let Ok(within) = path.strip_prefix(toolchain)
    {
        return (guest.join(within), vec![BindMount { host: toolchain.to_owned(), guest }]);
    }
    (guest.clone(), vec![BindMount { host: path.to_owned(), guest }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handler_names_the_script() {
        let check = |script: &Script, handler: &str, expected: &str| {
            assert_eq!(script.program(&handler.parse().unwrap()), expected);
        };
        check(&PERL, "src/app.run", "src/app.pl");
        check(&PERL, "run", "main.pl");
        check(&PHP, "index.php", "index.php");
        check(&JAVA, "run", "Main.java");
    }

    #[test]
    fn a_toolchain_is_shown_whole_and_a_stray_program_alone() {
        let at = |text: &str| PathBuf::from(text);
        let mount = |host: &str, guest: &str| vec![BindMount { host: at(host), guest: at(guest) }];
        assert_eq!(place(Path::new("/usr/bin/perl"), None, "perl"), (at("/usr/bin/perl"), Vec::new()));
        assert_eq!(
            place(Path::new("/srv/perl-5/bin/perl"), Some(Path::new("/srv/perl-5")), "perl"),
            (at("/opt/toolchains/perl/bin/perl"), mount("/srv/perl-5", "/opt/toolchains/perl"))
        );
        assert_eq!(
            place(Path::new("/home/me/bin/deno"), None, "deno"),
            (at("/opt/toolchains/deno"), mount("/home/me/bin/deno", "/opt/toolchains/deno"))
        );
    }
}

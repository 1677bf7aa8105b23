//! Which packages make which runtime, and what its shim needs of them. Adding a runtime is a row here.

use std::fmt;

use impuls_runtimes::guest::ShimOf;

use crate::error::ImageError;

/// The most characters of an image's name.
const NAME_CHARACTERS: usize = 60;

/// In every image: the C library with its locale, what native modules of packages are linked with, a shell, the
/// authorities that TLS trusts, time zones and the names of protocols.
const BASE: [&str; 8] =
    ["libc6", "libc-bin", "libgcc-s1", "libstdc++6", "zlib1g", "dash", "ca-certificates", "tzdata"];

/// In images for programs of any origin besides: what their scripts call.
const PROGRAMS: [&str; 12] = [
    "bash",
    "coreutils",
    "curl",
    "findutils",
    "grep",
    "gzip",
    "jq",
    "mawk",
    "netbase",
    "openssl",
    "sed",
    "tar",
];

/// A language with a shim: which version each suite of Debian has, the newest suite first.
struct Family {
    shim: ShimOf,
    /// How names begin.
    prefix: &'static str,
    aliases: &'static [&'static str],
    /// The package of the interpreter.
    package: &'static str,
    suites: &'static [(&'static str, &'static str)],
}

/// Versions that Debian's suites have, as a runtime's name ends.
const FAMILIES: [Family; 3] = [
    Family {
        shim: ShimOf::Node,
        prefix: "nodejs",
        aliases: &["node"],
        package: "nodejs",
        suites: &[("trixie", "20"), ("bookworm", "18")],
    },
    Family {
        shim: ShimOf::Python,
        prefix: "python3",
        aliases: &["python"],
        package: "python3",
        suites: &[("trixie", "13"), ("bookworm", "11"), ("bullseye", "9")],
    },
    Family {
        shim: ShimOf::Ruby,
        prefix: "ruby",
        aliases: &[],
        package: "ruby",
        suites: &[("trixie", "33"), ("bookworm", "31"), ("bullseye", "27")],
    },
];

/// The image in which the agent runs programs of any origin, and names that mean it.
const PROVIDED: &str = "provided";
const PROVIDED_ALIASES: [&str; 6] =
    ["executable", "command", "go", "rust", "provided.al2", "provided.al2023"];

/// A language in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its runtime, such as `nodejs18`.
    pub(crate) runtime: String,
    pub(crate) shim: ShimOf,
    /// Where its interpreter may lie; the first that is there is taken.
    pub(crate) interpreters: Vec<String>,
    /// The package with the interpreter, and how its version must begin.
    pub(crate) package: (&'static str, String),
}

/// What an image is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    name: String,
    parts: Vec<Part>,
    /// Whether programs of any origin are to run in it.
    any_program: bool,
    suite: Option<String>,
}

impl Recipe {
    /// The recipe for Debian packages of a runtime, or of several with `+` between them. `suite` is the one that was
    /// asked for; `own` that of this machine, which decides what a name without a version means.
    pub fn of_packages(name: &str, suite: Option<&str>, own: Option<&str>) -> Result<Self, ImageError> {
        check_name(name)?;
        let mut recipe = Self { name: String::new(), parts: Vec::new(), any_program: false, suite: None };
        for word in name.split('+') {
            if word == PROVIDED || PROVIDED_ALIASES.contains(&word) {
                recipe.any_program = true;
                continue;
            }
            let part = part(word, suite.or(own)).ok_or_else(|| unknown(word))?;
            recipe.parts.push(part);
        }
        recipe.suite = Some(recipe.choose_suite(name, suite, own)?);
        let mut names: Vec<&str> = recipe.parts.iter().map(|part| part.runtime.as_str()).collect();
        names.extend(recipe.any_program.then_some(PROVIDED));
        recipe.name = names.join("+");
        Ok(recipe)
    }

    /// The recipe for a root that comes from an OCI image, whatever its name. A part of the name that begins as one of
    /// our runtimes brings that one's shim; anything else runs programs.
    pub fn of_oci(name: &str) -> Result<Self, ImageError> {
        check_name(name)?;
        let parts: Vec<Part> = name.split('+').filter_map(|word| part(word, None)).collect();
        let any_program = parts.len() < name.split('+').count();
        Ok(Self { name: name.to_owned(), parts, any_program, suite: None })
    }

    /// The image's name: with the version where the runtime was asked for without.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The suite of Debian, for a recipe of packages.
    #[must_use]
    pub fn suite(&self) -> Option<&str> {
        self.suite.as_deref()
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The packages to install, dependencies left out.
    pub(crate) fn packages(&self) -> Vec<String> {
        let mut packages: Vec<String> = BASE.map(str::to_owned).to_vec();
        packages.extend(self.parts.iter().map(|part| part.package.0.to_owned()));
        if self.any_program {
            packages.extend(PROGRAMS.map(str::to_owned));
        }
        packages.sort();
        packages
    }

    fn choose_suite(
        &self,
        name: &str,
        wanted: Option<&str>,
        own: Option<&str>,
    ) -> Result<String, ImageError> {
        if let Some(wanted) = wanted {
            return Ok(wanted.to_owned());
        }
        let mut known: Vec<&str> = own.into_iter().collect();
        known.extend(FAMILIES.iter().flat_map(|family| family.suites.iter().map(|(suite, _)| *suite)));
        let has_all = |suite: &&str| self.parts.iter().all(|part| has(part, suite));
        let chosen = known.into_iter().find(has_all).map(str::to_owned);
        chosen.ok_or_else(|| match self.parts.as_slice() {
            [one] => unknown(&one.runtime),
            _ => ImageError::Suites(name.to_owned()),
        })
    }
}

/// Whether a suite of Debian has this version.
fn has(part: &Part, suite: &str) -> bool {
    let family = FAMILIES.iter().find(|family| family.shim == part.shim);
    family.is_some_and(|family| {
        family
            .suites
            .iter()
            .any(|(name, end)| *name == suite && part.runtime == format!("{}{end}", family.prefix))
    })
}

/// The language of this name; without a version that of the suite, or the newest.
fn part(word: &str, suite: Option<&str>) -> Option<Part> {
    let named = |family: &&Family| word == family.prefix || family.aliases.contains(&word);
    if let Some(family) = FAMILIES.iter().find(named) {
        let of_suite = family.suites.iter().find(|(name, _)| suite == Some(*name));
        let (_, end) = of_suite.or(family.suites.first())?;
        return Some(versioned(family, end));
    }
    let family = FAMILIES.iter().find(|family| word.starts_with(family.prefix))?;
    let end = word.strip_prefix(family.prefix)?;
    let is_version = (1..=2).contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_digit());
    (is_version && (family.shim != ShimOf::Ruby || end.len() == 2)).then(|| versioned(family, end))
}

fn versioned(family: &Family, end: &str) -> Part {
    let (program, version) = match family.shim {
        ShimOf::Node => ("node".to_owned(), format!("{end}.")),
        ShimOf::Python => (format!("python3.{end}"), format!("3.{end}")),
        ShimOf::Ruby => {
            let (major, minor) = end.split_at(1);
            (format!("ruby{major}.{minor}"), format!("{major}.{minor}"))
        }
    };
    let mut interpreters = vec![format!("/usr/bin/{program}"), format!("/usr/local/bin/{program}")];
    if family.shim == ShimOf::Ruby {
        // Images that are built from source have no version in the name.
        interpreters.push("/usr/local/bin/ruby".to_owned());
    }
    Part {
        runtime: format!("{}{end}", family.prefix),
        shim: family.shim,
        interpreters,
        package: (family.package, version),
    }
}

fn unknown(name: &str) -> ImageError {
    let versions = FAMILIES
        .iter()
        .flat_map(|family| family.suites.iter().rev().map(move |(_, end)| format!("{}{end}", family.prefix)));
    let known: Vec<String> = versions.chain([PROVIDED.to_owned()]).collect();
    ImageError::Recipe { name: name.to_owned(), known: known.join(", ") }
}

fn check_name(name: &str) -> Result<(), ImageError> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".+_-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if begins && name.len() <= NAME_CHARACTERS && name.chars().all(fine) && name != "kernel" {
        return Ok(());
    }
    Err(ImageError::Name(name.chars().take(80).collect()))
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_version_means_that_of_the_suite() {
        let check = |name: &str, suite: Option<&str>, own: Option<&str>, expected: (&str, &str)| {
            let recipe = Recipe::of_packages(name, suite, own).unwrap();
            assert_eq!((recipe.name(), recipe.suite().unwrap()), expected, "{name}");
        };
        check("nodejs", None, Some("bookworm"), ("nodejs18", "bookworm"));
        check("nodejs", None, Some("noble"), ("nodejs20", "trixie"));
        check("node", Some("bookworm"), Some("trixie"), ("nodejs18", "bookworm"));
        check("nodejs20", None, Some("bookworm"), ("nodejs20", "trixie"));
        check("python311", None, Some("trixie"), ("python311", "bookworm"));
        check("ruby", None, None, ("ruby33", "trixie"));
        check("go", None, Some("bookworm"), ("provided", "bookworm"));
        check(
            "nodejs+python311+command",
            None,
            Some("bookworm"),
            ("nodejs18+python311+provided", "bookworm"),
        );
        check("python312", Some("noble"), Some("noble"), ("python312", "noble"));
    }

    #[test]
    fn what_nobody_can_build_is_refused_with_what_could_be() {
        let refused = |name: &str| Recipe::of_packages(name, None, Some("bookworm")).unwrap_err().to_string();
        assert!(refused("cobol").contains("nodejs18, nodejs20, python39"), "{}", refused("cobol"));
        assert!(refused("python312").contains("--from-oci"));
        assert!(refused("nodejs18+python313").contains("--suite"));
        for name in ["", "kernel", "Node", "a/b", "-x", &"n".repeat(61)] {
            assert!(refused(name).contains("no name of an image"), "{name}");
        }
    }

    #[test]
    fn an_image_of_any_name_has_the_shims_that_its_name_says() {
        let check = |name: &str, runtimes: &[&str], any_program: bool| {
            let recipe = Recipe::of_oci(name).unwrap();
            let found: Vec<&str> = recipe.parts().iter().map(|part| part.runtime.as_str()).collect();
            assert_eq!((found.as_slice(), recipe.any_program), (runtimes, any_program), "{name}");
        };
        check("python312", &["python312"], false);
        check("my-tools", &[], true);
        check("nodejs22+my-tools", &["nodejs22"], true);
        check("rubygems", &[], true);
    }
}

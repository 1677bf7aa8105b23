//! Root file systems of Debian packages, by mmdebstrap: packages are unpacked and their scripts are not run, so nothing
//! in the root depends on when or where it was made, and roots for other processors need no emulator.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::architecture::Architecture;
use crate::error::ImageError;
use crate::manifest::Package;
use crate::recipe::{Part, Recipe};
use crate::tool::{self, Need, Steps, Toolbox};
use crate::tree::{Kind, Node, Tree, layer};
use impuls_runtimes::guest::ShimOf;

const MMDEBSTRAP: Need = Need("mmdebstrap", "mmdebstrap");
/// Where the list of packages waits inside the root until it has been read.
const PACKAGES: &str = ".impuls-packages";
/// The authorities that the package `ca-certificates` has, one to a file.
const AUTHORITIES: &str = "usr/share/ca-certificates/mozilla";
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
/// Folders of the root that are links to those of the same name in `/usr`.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// What no guest reads.
const LEFT_OUT: [&str; 22] = [
    "boot",
    "etc/apt",
    "etc/cron.daily",
    "etc/dpkg",
    "etc/logrotate.d",
    "usr/lib/systemd",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/debconf",
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
    "usr/share/perl5/Debconf",
    "usr/share/pixmaps",
    "usr/share/zsh",
    "var/cache",
    "var/lib/apt",
    "var/lib/dpkg",
];

/// Where packages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The codename of this machine's release, such as `bookworm`.
    codename: Option<String>,
    /// What `/etc/apt` says.
    text: String,
    /// A file that says it instead.
    given: Option<PathBuf>,
}

impl Sources {
    /// This machine's own sources below `etc`, which is `/etc`; or a file in one of apt's formats instead.
    pub fn read(etc: &Path, given: Option<PathBuf>) -> Self {
        let release = fs::read_to_string(etc.join("os-release")).unwrap_or_default();
        let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
        let folder = fs::read_dir(etc.join("apt/sources.list.d")).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = folder.map(|entry| entry.path()).collect();
        files.push(etc.join("apt/sources.list"));
        files.sort();
        let is_source =
            |path: &&PathBuf| path.extension().is_some_and(|end| end == "list" || end == "sources");
        let texts: Vec<String> =
            files.iter().filter(is_source).filter_map(|file| fs::read_to_string(file).ok()).collect();
        Self {
            codename: codename.map(|name| name.trim_matches('"').to_owned()),
            text: texts.join("\n\n"),
            given,
        }
    }

    /// The codename of this machine's release.
    #[must_use]
    pub fn codename(&self) -> Option<&str> {
        self.codename.as_deref()
    }

    /// Those of Debian's own archive, for a suite: what names this machine's release names that suite instead. Others,
    /// such as a vendor's, are left out.
    fn for_suite(&self, suite: &str) -> Result<String, ImageError> {
        let own = self.codename.as_deref().unwrap_or(suite);
        let rename = |word: &str| {
            let rest = word.strip_prefix(own)?;
            let is_ours = rest.is_empty() || rest.starts_with(['-', '/']);
            is_ours.then(|| format!("{suite}{rest}"))
        };
        let mut found = String::new();
        for stanza in self.text.split("\n\n") {
            for line in stanza.lines().filter(|line| line.starts_with("deb ")) {
                let _ = one_line(line, &rename).map(|line| writeln!(found, "{line}\n"));
            }
            let _ = deb822(stanza, &rename).map(|stanza| writeln!(found, "{stanza}\n"));
        }
        if found.is_empty() { Err(ImageError::Sources(own.to_owned())) } else { Ok(found) }
    }
}

/// A line `deb [options] URI SUITE COMPONENT…` (sources.list(5)) as a paragraph.
fn one_line(line: &str, rename: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let rest = line.strip_prefix("deb ")?.split('#').next()?.trim();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, rename(words.next()?)?);
    let components: Vec<&str> = words.collect();
    if !components.contains(&"main") {
        return None;
    }
    let signed = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    let signed = signed.map(|key| format!("\nSigned-By: {key}")).unwrap_or_default();
    Some(format!("Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {}{signed}", components.join(" ")))
}

/// A paragraph of the newer format, without what limits it to a processor.
fn deb822(stanza: &str, rename: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in stanza.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with([' ', '\t']) {
            let last = fields.last_mut()?;
            last.1.push('\n');
            last.1.push_str(line);
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let field = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let has =
        |name: &str, word: &str| field(name).is_some_and(|value| value.split_whitespace().any(|w| w == word));
    let suites: Vec<String> = field("suites")?.split_whitespace().filter_map(rename).collect();
    if suites.is_empty()
        || !has("types", "deb")
        || !has("components", "main")
        || field("enabled") == Some("no")
    {
        return None;
    }
    let signed = field("signed-by").map(|key| format!("\nSigned-By: {key}")).unwrap_or_default();
    let (uris, components) = (field("uris")?, field("components")?);
    Some(format!("Types: deb\nURIs: {uris}\nSuites: {}\nComponents: {components}{signed}", suites.join(" ")))
}

/// Fetches and unpacks the packages of a recipe, and what they depend on.
pub(crate) fn tree(
    recipe: &Recipe,
    architecture: Architecture,
    (sources, tools): (&Sources, &Toolbox),
    folder: &Path,
    steps: &dyn Steps,
) -> Result<(Tree, String, Vec<Package>), ImageError> {
    tools.require(&[MMDEBSTRAP])?;
    let suite = recipe.suite().unwrap_or_default().to_owned();
    let list = match &sources.given {
        Some(file) => file.clone(),
        None => {
            let path = folder.join("impuls.sources");
            fs::write(&path, sources.for_suite(&suite)?).map_err(ImageError::io("writing", &path))?;
            path
        }
    };
    let archive = folder.join("packages.tar");
    let mut command = tools.command(MMDEBSTRAP.0);
    command.arg(mode(tools)?).args(["--variant=extract", "--format=tar"]);
    command.arg(format!("--architectures={}", architecture.debian()));
    command.arg(format!("--include={}", recipe.packages().join(",")));
    command.arg(format!("--extract-hook={}", hook(recipe, architecture)));
    // Open until the program has ended.
    let options = apt_options(tools)?;
    command.args(options.as_ref().map(|(option, _)| option));
    command.arg(&suite).arg(&archive).arg(&list);
    let about = format!("packages of {suite} for {}", recipe.name());
    steps.step(&format!("{about}: looking for them"));
    tool::run(&mut command, None, |line| {
        if let Some(step) = line.strip_prefix("I: ") {
            steps.step(&format!("{about}: {}", step.trim_end_matches('.')));
        }
    })?;
    steps.step(&format!("{about}: putting them together"));
    let mut tree = Tree::default();
    let file = File::open(&archive).map_err(ImageError::io("reading", &archive))?;
    layer::lay_over(&mut tree, file, "the packages")?;
    let packages = packages(&mut tree)?;
    check_versions(recipe, &packages, &suite)?;
    tidy(&mut tree)?;
    Ok((tree, suite, packages))
}

/// The superuser works as such, others in a user namespace of their own, which needs ids to hand out.
fn mode(tools: &Toolbox) -> Result<&'static str, ImageError> {
    if rustix::process::geteuid().is_root() {
        return Ok("--mode=root");
    }
    tools.require(&[Need("newuidmap", "uidmap"), Need("newgidmap", "uidmap")])?;
    let number = rustix::process::getuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(number.as_str())).then(|| name.to_owned())
    });
    let user = name.unwrap_or_else(|| number.clone());
    let has = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().filter_map(|line| line.split(':').next()).any(|who| who == user || who == number)
    };
    if has("/etc/subuid") && has("/etc/subgid") {
        Ok("--mode=unshare")
    } else {
        Err(ImageError::Subordinate { user })
    }
}

/// Notes the packages, and compiles Python's library, which the packages' own scripts would do: with the root being
/// read-only, every start would do it again. The compiled files are tied to nothing, so no time is in them. An
/// interpreter for another processor cannot be run here; there, starts are slower.
fn hook(recipe: &Recipe, architecture: Architecture) -> String {
    let mut script = format!("set -eu; ls \"$1/var/cache/apt/archives\" > \"$1/{PACKAGES}\"");
    let pythons = recipe.parts().iter().filter(|part| part.shim == ShimOf::Python);
    for Part { interpreters, package: (_, version), .. } in pythons {
        let Some(interpreter) = interpreters.first() else { continue };
        if architecture == Architecture::of_this_machine() {
            let _ = write!(
                script,
                "; for folder in {}; do test -e \"$1/$folder\" || ln -s \"usr/$folder\" \"$1/$folder\"; done; \
                 if test -e \"$1{interpreter}\"; then env -i PYTHONHASHSEED=0 LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin chroot \
                 \"$1\" {interpreter} -S -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python{version} >&2; fi",
                MERGED.join(" ")
            );
        }
    }
    script
}

/// What mmdebstrap is told for apt, with the file that it reads it from. Proxies may have passwords, and everybody can read
/// command lines. A file of the disk would not do: an ordinary user's mmdebstrap works under another id, so that file would
/// have to be everybody's too. One without a name is only for those who inherit it.
fn apt_options(tools: &Toolbox) -> Result<Option<(String, File)>, ImageError> {
    let proxies = proxies(tools);
    if proxies.is_empty() {
        return Ok(None);
    }
    let failed = || ImageError::io("writing", Path::new("apt's options"));
    let memory = memfd_create("apt-options", MemfdFlags::empty()).map_err(|error| failed()(error.into()))?;
    let mut file = File::from(memory);
    file.write_all(format!("{}\n", proxies.join("\n")).as_bytes()).map_err(failed())?;
    Ok(Some((format!("--aptopt=/proc/self/fd/{}", file.as_raw_fd()), file)))
}

/// The ways through proxies that this machine's apt knows; mmdebstrap's own apt would not.
fn proxies(tools: &Toolbox) -> Vec<String> {
    let Some(program) = tools.find("apt-config") else { return Vec::new() };
    let output = Command::new(program).arg("dump").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let is_proxy = |line: &&str| {
        line.starts_with("Acquire::http") && line.contains("::Proxy") && !line.ends_with("\"\";")
    };
    text.lines().filter(is_proxy).map(str::to_owned).collect()
}

/// The packages that were unpacked, from the names of their archives: `NAME_VERSION_ARCHITECTURE.deb`.
fn packages(tree: &mut Tree) -> Result<Vec<Package>, ImageError> {
    let mut text = String::new();
    if let Some((_, content)) = tree.file(Path::new(PACKAGES)) {
        std::io::Read::read_to_string(&mut content.reader(), &mut text)
            .map_err(|error| ImageError::archive("the list of packages", error.to_string()))?;
    }
    tree.remove(Path::new(PACKAGES));
    let package = |line: &str| {
        let mut parts = line.strip_suffix(".deb")?.split('_');
        let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
        let version = version.replace("%3a", ":");
        Some(Package { name: name.to_owned(), version, architecture: architecture.to_owned() })
    };
    let mut packages: Vec<Package> = text.lines().filter_map(package).collect();
    packages.sort();
    if packages.is_empty() {
        return Err(ImageError::archive("the packages", "mmdebstrap has unpacked none"));
    }
    Ok(packages)
}

fn check_versions(recipe: &Recipe, packages: &[Package], suite: &str) -> Result<(), ImageError> {
    for part in recipe.parts() {
        let (name, wanted) = &part.package;
        let found = packages.iter().find(|package| package.name == *name);
        let version = found.map(|package| package.version.as_str()).unwrap_or_default();
        // Ruby's has an epoch.
        let plain = version.split_once(':').map_or(version, |(_, rest)| rest);
        if !plain.starts_with(wanted.as_str()) {
            return Err(ImageError::Version {
                runtime: part.runtime.clone(),
                package: (*name).to_owned(),
                wanted: wanted.trim_end_matches('.').to_owned(),
                found: version.to_owned(),
                suite: suite.to_owned(),
            });
        }
    }
    Ok(())
}

/// Does what the packages' scripts would have done, as far as a guest needs it, and leaves out what none reads.
fn tidy(tree: &mut Tree) -> Result<(), ImageError> {
    for folder in MERGED {
        let into = Path::new("usr").join(folder);
        tree.merge(Path::new(folder), &into)?;
        // Since Debian 13 packages lie below `/usr`, and the links are made by one that no root here has. Programs
        // name their loader by them.
        if tree.get(Path::new(folder)).is_none() {
            tree.put(&into, Node::folder(0o755))?;
            tree.put(Path::new(folder), Node::link(into))?;
        }
    }
    LEFT_OUT.iter().for_each(|path| tree.remove(Path::new(path)));
    let mut bundle = Vec::new();
    for path in tree.below(Path::new(AUTHORITIES)) {
        if let Some(Node { kind: Kind::File(content), .. }) = tree.get(&path) {
            std::io::Read::read_to_end(&mut content.reader(), &mut bundle)
                .map_err(|error| ImageError::archive("the packages", error.to_string()))?;
        }
    }
    tree.put(Path::new(BUNDLE), Node::file(0o644, &bundle))?;
    // Where Debian's OpenSSL looks.
    tree.put(Path::new("usr/lib/ssl/cert.pem"), Node::link(format!("/{BUNDLE}")))?;
    if tree.get(Path::new("usr/bin/mawk")).is_some() && tree.get(Path::new("usr/bin/awk")).is_none() {
        tree.put(Path::new("usr/bin/awk"), Node::link("mawk"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

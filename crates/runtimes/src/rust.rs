//! Rust: a Cargo package, or one file of it, is compiled when it is deployed; what runs is its program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use impuls_domain::{Contract, Handler, RuntimeName};

use crate::agent;
use crate::build::{Build, Inputs, Source};
use crate::language::{Installed, Language, SearchPath, Toolchain, is_program, output};
use crate::script::place;

/// The program that comes out of a build, among the code's files.
const PROGRAM: &str = ".impuls-main";
/// Where builds leave it.
const OUTPUT: &str = "/tmp/out";
/// Where Cargo leaves what it compiles.
const TARGET: &str = "/tmp/target";
/// What links Rust's programs. Nothing is detected without it.
const LINKER: &str = "/usr/bin/cc";
/// The editions that were added, newest first, and the first minor version that knows each.
/// <https://doc.rust-lang.org/edition-guide/editions/>
const EDITIONS: [(u32, &str); 2] = [(85, "2024"), (56, "2021")];
/// Copies the package's program to `$2`: the one named as the handler (`$1`), or else the only one.
const TAKE: &str = r#"
chosen= names= count=0
for file in "$3"/release/*; do
  if [ ! -f "$file" ] || [ ! -x "$file" ]; then continue; fi
  case "$file" in *.so|*.d) continue ;; esac
  count=$((count + 1)) names="$names ${file##*/}"
  if [ "${file##*/}" = "$1" ]; then exec cp "$file" "$2"; fi
  chosen=$file
done
if [ "$count" = 1 ]; then exec cp "$chosen" "$2"; fi
echo "the package has $count programs:$names; the handler may name one of them" >&2
exit 1
"#;

/// The language.
pub struct Rust;

impl Language for Rust {
    fn aliases(&self) -> &'static [&'static str] {
        &["rust"]
    }

    fn known(&self) -> Vec<String> {
        Vec::new()
    }

    fn installation_hint(&self, _: &str) -> String {
        "install Rust with Cargo (rustup, or Debian packages `rustc` and `cargo`) and a linker (Debian package `gcc`)"
            .to_owned()
    }

    fn detect(&self, search: &SearchPath) -> Vec<Installed> {
        let mut found: Vec<Installed> = Vec::new();
        let mut seen = BTreeSet::new();
        if !Path::new(LINKER).exists() {
            return found;
        }
        for folder in search.folders() {
            let Some(root) = toolchain(&folder.join("rustc"), search) else { continue };
            if !seen.insert(root.clone()) {
                continue;
            }
            let Some(installed) = inspect(&root, search) else { continue };
            if found.iter().all(|other| other.name != installed.name) {
                found.push(installed);
            }
        }
        found
    }

    fn contracts(&self) -> &'static [Contract] {
        &[Contract::Program, Contract::Bootstrap, Contract::Http]
    }

    fn source_files(&self, _: Contract, _: &Handler) -> Vec<String> {
        vec!["main.rs".to_owned()]
    }

    fn program(&self, _: &Handler) -> String {
        PROGRAM.to_owned()
    }

    fn manifests(&self) -> &'static [&'static str] {
        &["Cargo.toml", "Cargo.lock", ".cargo/config.toml"]
    }

    fn build(&self, installed: &Installed, source: &Source<'_>) -> Option<Build> {
        let toolchain = installed.toolchain.as_ref()?;
        let has = |name: &str| source.files.iter().any(|file| file == name);
        let mut files = BTreeMap::new();
        if !has("Cargo.toml") {
            files.insert("Cargo.toml".to_owned(), manifest(installed.order, has("src/main.rs")));
        }
        let network = needs_registry(source.manifests);
        let mut cargo = toolchain.program.clone();
        cargo.extend(["build", "--release", "--bins"].map(str::to_owned));
        if has("Cargo.lock") {
            cargo.push("--locked".to_owned());
        }
        let program = if source.config.contract == Contract::Bootstrap { "bootstrap" } else { PROGRAM };
        let handler = source.config.handler.as_str();
        let take = ["/bin/sh", "-euc", TAKE, "take", handler, &format!("{OUTPUT}/{program}"), TARGET];
        Some(Build {
            recipe: format!("rust {}", installed.version),
            image: toolchain.image.clone(),
            inputs: Inputs::All,
            files,
            steps: vec![cargo, take.map(str::to_owned).to_vec()],
            environment: environment(toolchain.program.first(), network),
            output: OUTPUT.to_owned(),
            network,
            seed: None,
            hints: Vec::new(),
        })
    }
}

/// The manifest of a package that has none.
fn manifest((_, minor): (u32, u32), in_folder: bool) -> String {
    let edition = EDITIONS.iter().find(|(since, _)| minor >= *since).map_or("2018", |(_, name)| name);
    let path = if in_folder { "src/main.rs" } else { "main.rs" };
    format!(
        "[package]\nname = \"function\"\nversion = \"0.0.0\"\nedition = \"{edition}\"\n\n\
         [[bin]]\nname = \"function\"\npath = \"{path}\"\n"
    )
}

/// Whether the package is made of others that are neither in the archive nor replaced by a folder in it. The lock file
/// knows that best.
fn needs_registry(manifests: &BTreeMap<String, String>) -> bool {
    let text = |name: &str| manifests.get(name).map_or("", String::as_str);
    let is_vendored = text(".cargo/config.toml").contains("replace-with");
    let has_foreign = match manifests.get("Cargo.lock") {
        Some(lock) => lock.contains("source = \""),
        None => text("Cargo.toml").lines().any(|line| {
            let line = line.trim();
            line.starts_with('[') && line.contains("dependencies")
        }),
    };
    has_foreign && !is_vendored
}

fn environment(cargo: Option<&String>, network: bool) -> BTreeMap<String, String> {
    let folder = cargo.and_then(|cargo| Path::new(cargo).parent()).unwrap_or(Path::new("/usr/bin")).display();
    let variables = [
        ("CARGO_HOME", "/tmp/cargo".to_owned()),
        ("CARGO_TARGET_DIR", TARGET.to_owned()),
        ("CARGO_TERM_COLOR", "never".to_owned()),
        ("CARGO_NET_OFFLINE", (!network).to_string()),
        ("HOME", "/tmp".to_owned()),
        ("PATH", format!("{folder}:/usr/local/bin:/usr/bin:/bin")),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The folder of the toolchain that a compiler belongs to. Rustup's `rustc` is a proxy, which starts the default
/// toolchain's and so names that one's folder.
fn toolchain(rustc: &Path, search: &SearchPath) -> Option<PathBuf> {
    if !is_program(rustc) {
        return None;
    }
    let sysroot = match &search.home {
        // Where rustup's toolchains are. Not this folder's choice of a toolchain: `rustup` looks upwards for one.
        Some(home) => {
            let home = home.to_str()?;
            output(
                Path::new("/usr/bin/env"),
                &["-C", "/", &format!("HOME={home}"), rustc.to_str()?, "--print", "sysroot"],
            )
        }
        None => output(rustc, &["--print", "sysroot"]),
    }?;
    let root = Path::new(&sysroot).canonicalize().ok()?;
    let is_whole = ["rustc", "cargo"].iter().all(|name| is_program(&root.join("bin").join(name)));
    (is_whole && may_be_shown(&root, search)).then_some(root)
}

/// Whether a toolchain's folder is the system's, an operator's or rustup's. Beside one that was installed anywhere else,
/// such as `~/.local`, there may be what is private.
fn may_be_shown(root: &Path, search: &SearchPath) -> bool {
    let is_rustups = root.parent().is_some_and(|folder| folder.ends_with(".rustup/toolchains"));
    root.starts_with("/usr") || is_rustups || search.toolchain_of(&root.join("bin")).is_some()
}

fn inspect(root: &Path, search: &SearchPath) -> Option<Installed> {
    let (compiler, cargo) = (root.join("bin/rustc"), root.join("bin/cargo"));
    // `rustc 1.95.0 (59807616e 2026-04-14)`
    let answer = output(&compiler, &["--version"])?;
    let version = answer.split_whitespace().nth(1)?.to_owned();
    let mut parts = version.split('.').map(str::parse);
    let (major, minor): (u32, u32) = (parts.next()?.ok()?, parts.next()?.ok()?);
    let name: RuntimeName = format!("rust{major}{minor}").parse().ok()?;
    let build_name: RuntimeName = format!("{name}-build").parse().ok()?;
    // Nothing is mounted for the system's own; any other folder that came so far holds a toolchain alone.
    let (guest, mounts) = place(&cargo, Some(root), "rust");
    // Programs load the system's libraries.
    let image = Arc::new(agent::system(&name, &search.agent, Vec::new()));
    let build_image = Arc::new(agent::system(&build_name, &search.agent, mounts));
    Some(Installed {
        name,
        order: (major, minor),
        version,
        path: compiler,
        image: image.clone(),
        agent_image: image,
        interpreter: Vec::new(),
        toolchain: Some(Toolchain {
            image: build_image,
            program: vec![guest.to_string_lossy().into_owned()],
        }),
    })
}

#[cfg(test)]
mod tests;

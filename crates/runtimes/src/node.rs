//! Node.js.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use impuls_domain::{Contract, Handler, RuntimeName, limits};
use impuls_sandbox::{BindMount, RuntimeImage, StartMethod};

use crate::agent;
use crate::build::{Build, Source};
use crate::closure;
use crate::language::{Installed, Language, SearchPath, is_program, output, source_stem};
use crate::npm;

/// Oldest major version that the shim runs on.
const OLDEST: u32 = 18;
/// Major versions that can be asked for by name.
const KNOWN: [u32; 4] = [18, 20, 22, 24];
/// The interpreter inside a sandbox.
const GUEST_NODE: &str = "/usr/bin/node";
const GUEST_SHIM: &str = "/opt/impuls/node/shim.js";
/// Where Debian keeps parts of Node that are packages of their own there. Its Node reads them when it starts.
const DEBIAN_PARTS: &str = "/usr/share/nodejs";
/// The shim's files, as they lie in its folder.
const FILES: &[(&str, &str)] = &[
    ("connection.js", include_str!("../../../guest/shims/node/connection.js")),
    ("describe.js", include_str!("../../../guest/shims/node/describe.js")),
    ("load.js", include_str!("../../../guest/shims/node/load.js")),
    ("output.js", include_str!("../../../guest/shims/node/output.js")),
    ("rehearse.js", include_str!("../../../guest/shims/node/rehearse.js")),
    ("shim.js", include_str!("../../../guest/shims/node/shim.js")),
    ("stream.js", include_str!("../../../guest/shims/node/stream.js")),
    ("warm.js", include_str!("../../../guest/shims/node/warm.js")),
];

/// Node.js.
pub struct Node;

impl Language for Node {
    fn aliases(&self) -> &'static [&'static str] {
        &["nodejs", "node"]
    }

    fn known(&self) -> Vec<String> {
        KNOWN.map(|major| format!("nodejs{major}")).to_vec()
    }

    fn installation_hint(&self, name: &str) -> String {
        let major = name.trim_start_matches(|c: char| !c.is_ascii_digit());
        format!(
            "install Node.js {major} (Debian package `nodejs`, or the npm package `node@{major}`) and put `node` on PATH"
        )
    }

    fn detect(&self, search: &SearchPath) -> Vec<Installed> {
        let mut found: Vec<Installed> = Vec::new();
        for folder in search.folders() {
            let Some(installed) = inspect(&folder.join("node"), &folder, search) else { continue };
            if found.iter().all(|other| other.name != installed.name) {
                found.push(installed);
            }
        }
        found
    }

    fn contracts(&self) -> &'static [Contract] {
        &[Contract::Module, Contract::Scoped, Contract::Program, Contract::Http]
    }

    fn source_files(&self, contract: Contract, handler: &Handler) -> Vec<String> {
        let stem = source_stem(contract, handler);
        let mut names = vec![format!("{stem}.js")];
        // A program is run by its one name.
        names.extend(contract.needs_shim().then(|| format!("{stem}.mjs")));
        names
    }

    fn program(&self, handler: &Handler) -> String {
        format!("{}.js", source_stem(Contract::Program, handler))
    }

    fn manifests(&self) -> &'static [&'static str] {
        npm::MANIFESTS
    }

    fn lacks(&self, installed: &Installed, source: &Source<'_>) -> Option<String> {
        npm::lacks(installed, source)
    }

    fn build(&self, installed: &Installed, source: &Source<'_>) -> Option<Build> {
        npm::build(installed, source, is_typescript(source))
    }
}

/// Whether the file of the handler is there in TypeScript only.
fn is_typescript(source: &Source<'_>) -> bool {
    let stem = source_stem(source.config.contract, &source.config.handler);
    let has = |suffixes: &[&str]| {
        suffixes.iter().any(|suffix| source.files.iter().any(|file| *file == format!("{stem}.{suffix}")))
    };
    has(&["ts", "mts", "cts"]) && !has(&["js", "mjs", "cjs"])
}

fn inspect(path: &Path, folder: &Path, search: &SearchPath) -> Option<Installed> {
    let path = path.canonicalize().ok().filter(|path| is_program(path))?;
    let version = output(&path, &["--version"])?.trim_start_matches('v').to_owned();
    let mut numbers = version.split('.').map(|part| part.parse().ok());
    let (major, minor) = (numbers.next()??, numbers.next()??);
    if major < OLDEST {
        return None;
    }
    let name: RuntimeName = format!("nodejs{major}").parse().ok()?;
    let image = Arc::new(image(&name, &path));
    let agent_image = Arc::new(agent::beside(&image, &search.agent));
    let toolchain = npm::toolchain(&name, &path, folder, search);
    let interpreter = vec![GUEST_NODE.to_owned()];
    Some(Installed { name, order: (major, minor), version, path, image, agent_image, interpreter, toolchain })
}

fn image(name: &RuntimeName, path: &Path) -> RuntimeImage {
    let mut mounts = closure::libraries(&[path.to_owned()]);
    mounts.extend(parts(&mounts, Path::new(DEBIAN_PARTS)));
    mounts.push(BindMount { host: path.to_owned(), guest: PathBuf::from(GUEST_NODE) });
    mounts.extend(closure::shared_data());
    let argv = [
        GUEST_NODE,
        // A first garbage collection long before a small sandbox is full; the heap may still grow to the
        // sandbox's own limit, which the kernel enforces.
        "--initial-old-space-size=32",
        // One helper thread for the engine: a sandbox has a share of a core or one core, rarely more.
        "--v8-pool-size=1",
        "--no-warnings",
        GUEST_SHIM,
    ];
    let argv: Vec<String> = argv.map(str::to_owned).to_vec();
    RuntimeImage {
        name: name.clone(),
        mounts,
        links: closure::root_links().into_iter().chain([closure::certificates_link()]).collect(),
        files: FILES.iter().map(|(name, text)| (Path::new(GUEST_SHIM).with_file_name(name), *text)).collect(),
        steered_argv: argv.clone(),
        argv,
        warm_argument: "--warm",
        start: StartMethod::Exec,
        tmp_mib: limits::TMP_MIB,
        idle_memory_mib: 16,
    }
}

/// What a Node that is mostly a library, as distributions have it, reads from this folder. A Node in one file has
/// everything in it.
fn parts(libraries: &[BindMount], folder: &Path) -> Option<BindMount> {
    let is_node = |mount: &BindMount| {
        mount.guest.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"libnode.so"))
    };
    (libraries.iter().any(is_node) && folder.is_dir())
        .then(|| BindMount { host: folder.to_owned(), guest: folder.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_a_library_gets_the_parts_that_lie_beside_it() {
        let library =
            |name: &str| vec![BindMount { host: name.into(), guest: Path::new("/usr/lib").join(name) }];
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = parts(&library("libnode.so.115"), folder).unwrap();
        assert_eq!((found.host.as_path(), found.guest.as_path()), (folder, folder));
        assert!(parts(&library("libnode.so.115"), &folder.join("absent")).is_none());
        assert!(parts(&library("libc.so.6"), folder).is_none());
    }

    #[test]
    fn every_file_of_the_shim_is_taken_along() {
        crate::language::assert_complete(
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest/shims/node"),
            FILES,
        );
    }
}

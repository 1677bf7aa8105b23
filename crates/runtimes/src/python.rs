//! Python.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use impuls_domain::{Contract, Handler, RuntimeName, limits};
use impuls_sandbox::{BindMount, RuntimeImage, StartMethod};

use crate::agent;
use crate::build::{Build, Source};
use crate::closure;
use crate::guest::Shim;
use crate::language::{Installed, Language, SearchPath, is_program, output, source_stem};
use crate::pip;

/// Minor versions of Python 3 that the shim runs on.
const MINORS: std::ops::RangeInclusive<u32> = 9..=14;
const GUEST_SHIM: &str = "/opt/impuls/python/shim.py";
const GUEST_ZYGOTE: &str = "/opt/impuls/python/zygote.py";
/// The shim's files, as they lie in its folder.
const FILES: &[(&str, &str)] = &[
    ("load.py", include_str!("../../../guest/shims/python/load.py")),
    ("output.py", include_str!("../../../guest/shims/python/output.py")),
    ("rehearse.py", include_str!("../../../guest/shims/python/rehearse.py")),
    ("server.py", include_str!("../../../guest/shims/python/server.py")),
    ("shim.py", include_str!("../../../guest/shims/python/shim.py")),
    ("slots.py", include_str!("../../../guest/shims/python/slots.py")),
    ("warm.py", include_str!("../../../guest/shims/python/warm.py")),
    ("zygote.py", include_str!("../../../guest/shims/python/zygote.py")),
];

/// What native modules of packages expect of every machine (PEP 599), as far as the interpreter does not load it
/// itself.
const PACKAGE_LIBRARIES: [&str; 8] = [
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libstdc++.so.6",
    "libutil.so.1",
];

/// CPython.
pub struct Python;

impl Language for Python {
    fn aliases(&self) -> &'static [&'static str] {
        &["python", "python3"]
    }

    fn known(&self) -> Vec<String> {
        MINORS.map(|minor| format!("python3{minor}")).collect()
    }

    fn installation_hint(&self, name: &str) -> String {
        let minor = name.trim_start_matches("python3");
        format!(
            "install Python 3.{minor} (Debian package `python3.{minor}`, or `pyenv install 3.{minor}`) and put `python3.{minor}` on PATH"
        )
    }

    fn detect(&self, search: &SearchPath) -> Vec<Installed> {
        let folders = search.folders();
        let managed = managed_folders(search);
        let find = |minor: u32| {
            let name = format!("python3.{minor}");
            folders.iter().chain(&managed).find_map(|folder| inspect(&folder.join(&name), minor, search))
        };
        MINORS.filter_map(find).collect()
    }

    fn contracts(&self) -> &'static [Contract] {
        &[Contract::Module, Contract::Scoped, Contract::Program, Contract::Http]
    }

    fn source_files(&self, contract: Contract, handler: &Handler) -> Vec<String> {
        vec![format!("{}.py", source_stem(contract, handler))]
    }

    fn program(&self, handler: &Handler) -> String {
        format!("{}.py", source_stem(Contract::Program, handler))
    }

    fn manifests(&self) -> &'static [&'static str] {
        pip::MANIFESTS
    }

    fn lacks(&self, installed: &Installed, source: &Source<'_>) -> Option<String> {
        pip::lacks(installed, source)
    }

    fn build(&self, installed: &Installed, source: &Source<'_>) -> Option<Build> {
        pip::build(installed, source)
    }
}

/// Where pyenv keeps interpreters.
fn managed_folders(search: &SearchPath) -> Vec<PathBuf> {
    let versions = search.home.iter().filter_map(|home| std::fs::read_dir(home.join(".pyenv/versions")).ok());
    let mut folders: Vec<PathBuf> =
        versions.flatten().flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders
}

/// Asks an interpreter where its standard library is, without loading any site configuration.
const QUESTION: &str = "import sys, sysconfig, platform; \
    print(platform.python_version()); print(sys.base_prefix); print(sysconfig.get_path('stdlib'))";

fn inspect(path: &Path, minor: u32, search: &SearchPath) -> Option<Installed> {
    let path = path.canonicalize().ok().filter(|path| is_program(path))?;
    let answer = output(&path, &["-I", "-S", "-c", QUESTION])?;
    let mut lines = answer.lines();
    let (version, prefix, stdlib) = (lines.next()?.to_owned(), lines.next()?, lines.next()?);
    let patch = version.rsplit('.').next()?.parse().unwrap_or(0);
    let name: RuntimeName = format!("python3{minor}").parse().ok()?;
    let image = Arc::new(image(&name, &path, Path::new(prefix), Path::new(stdlib)));
    let agent_image = Arc::new(agent::beside(&image, &search.agent));
    // The interpreter's own place, as the shim's command has it.
    let interpreter: Vec<String> = image.argv.first().cloned().into_iter().collect();
    let toolchain = pip::toolchain(&name, (Path::new(prefix), Path::new(stdlib)), &interpreter, search);
    Some(Installed { name, order: (minor, patch), version, path, image, agent_image, interpreter, toolchain })
}

/// Where an interpreter's folder is shown: one from a home folder below /opt. It finds its library relative to itself.
pub(crate) fn guest_prefix(name: &RuntimeName, prefix: &Path) -> PathBuf {
    if prefix.starts_with("/usr") { prefix.to_owned() } else { Path::new("/opt").join(name.as_str()) }
}

fn image(name: &RuntimeName, path: &Path, prefix: &Path, stdlib: &Path) -> RuntimeImage {
    let guest_prefix = guest_prefix(name, prefix);
    let guest = |host: &Path| {
        host.strip_prefix(prefix).map_or_else(|_| host.to_owned(), |rest| guest_prefix.join(rest))
    };
    let mut binaries = vec![path.to_owned()];
    let modules = std::fs::read_dir(stdlib.join("lib-dynload")).into_iter().flatten().flatten();
    let modules: BTreeSet<PathBuf> = modules
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "so"))
        .collect();
    binaries.extend(modules);
    binaries.extend(closure::find(&PACKAGE_LIBRARIES));
    let mut mounts = closure::libraries(&binaries);
    let mut shown = closure::shown(&PACKAGE_LIBRARIES);
    shown.retain(|new| mounts.iter().all(|old| old.guest != new.guest));
    mounts.extend(shown);
    let interpreter = guest(path).to_string_lossy().into_owned();
    mounts.push(BindMount { host: path.to_owned(), guest: guest(path) });
    mounts.push(BindMount { host: stdlib.to_owned(), guest: guest(stdlib) });
    mounts.extend(closure::shared_data());
    let Shim { files, argv, steered_argv, warm_argument } = shim(&interpreter);
    RuntimeImage {
        name: name.clone(),
        mounts,
        links: closure::root_links().into_iter().chain([closure::certificates_link()]).collect(),
        files,
        argv,
        steered_argv,
        warm_argument,
        start: StartMethod::Zygote(isolated(&interpreter, GUEST_ZYGOTE)),
        tmp_mib: limits::TMP_MIB,
        idle_memory_mib: 4,
    }
}

/// Isolated from variables and user folders.
fn isolated(interpreter: &str, script: &str) -> Vec<String> {
    [interpreter, "-I", script].map(str::to_owned).to_vec()
}

/// The shim for the interpreter at this path.
pub(crate) fn shim(interpreter: &str) -> Shim {
    let files = FILES.iter().map(|(name, text)| (Path::new(GUEST_SHIM).with_file_name(name), *text));
    Shim {
        files: files.collect(),
        argv: isolated(interpreter, GUEST_SHIM),
        // The function's own variables are the point.
        steered_argv: [interpreter, "-s", GUEST_SHIM].map(str::to_owned).to_vec(),
        warm_argument: "--warm",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_file_of_the_shim_is_taken_along() {
        crate::language::assert_complete(
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest/shims/python"),
            super::FILES,
        );
    }
}

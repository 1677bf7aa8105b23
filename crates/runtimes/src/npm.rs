//! What is done to code for Node before it can run: packages are installed as `package.json` names them, and types are
//! stripped from TypeScript.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use impuls_domain::RuntimeName;

use crate::agent::{self, GUEST_AGENT};
use crate::build::{Build, Inputs, Source, WORKPLACE};
use crate::closure;
use crate::language::{Installed, SearchPath, Toolchain};
use crate::script::place;

/// What says which packages are wanted, from where, and in which versions.
pub(crate) const MANIFESTS: &[&str] = &["package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc"];
/// Where builds leave what they made.
const OUTPUT: &str = "/tmp/out";
/// Where npm lies beside an interpreter, and where distributions put it.
const BESIDE: &str = "lib/node_modules/npm/bin/npm-cli.js";
const ELSEWHERE: [&str; 3] = [
    "/usr/lib/node_modules/npm/bin/npm-cli.js",
    "/usr/local/lib/node_modules/npm/bin/npm-cli.js",
    "/usr/share/nodejs/npm/bin/npm-cli.js",
];
/// Installed packages leave the workplace for the output, where there are any. Links do not outlast a build: those of
/// commands are of no use to a function, and packages that lie in the archive itself are copied.
const COLLECT: &str = "if [ -d node_modules ]; then \
    find node_modules -type d -name .bin -prune -exec rm -rf {} +; \
    if [ -n \"$(find node_modules -type l -print -quit)\" ]; then cp -RL node_modules /tmp/out/; \
    else mv node_modules /tmp/out/; fi; fi";

/// Changes with what stripping makes of the same source.
const STRIPPING: &str = ", types stripped 2";

/// What builds code for an interpreter; `None` if there is no npm.
pub(crate) fn toolchain(
    name: &RuntimeName,
    node: &Path,
    folder: &Path,
    search: &SearchPath,
) -> Option<Toolchain> {
    let (guest_node, mut further) = place(node, search.toolchain_of(folder).as_deref(), "node");
    let beside = node.parent().and_then(Path::parent).map(|prefix| prefix.join(BESIDE));
    let npm = beside.into_iter().chain(ELSEWHERE.map(PathBuf::from)).find(|npm| npm.is_file())?;
    let npm = npm.canonicalize().ok()?;
    let mut guest_npm = npm.clone();
    if !npm.starts_with("/usr") {
        // The package's own folder; its file is two below.
        let package = npm.parent()?.parent()?;
        let guest = PathBuf::from("/opt/toolchains/npm");
        guest_npm = guest.join(npm.strip_prefix(package).ok()?);
        further.push(impuls_sandbox::BindMount { host: package.to_owned(), guest });
    }
    let image = agent::system(&format!("{name}-build").parse().ok()?, &search.agent, further);
    let program = [guest_node, guest_npm].map(|path| path.to_string_lossy().into_owned());
    Some(Toolchain { image: Arc::new(image), program: program.to_vec() })
}

/// What is missing on this machine for a build that the source needs.
pub(crate) fn lacks(installed: &Installed, source: &Source<'_>) -> Option<String> {
    (wants_packages(source) && installed.toolchain.is_none()).then(|| {
        "package.json names dependencies, and npm is not installed on this server; install the Debian package `npm`, \
         or put `node_modules` into the archive"
            .to_owned()
    })
}

/// How the source is built; `None` if it runs as it is. `strips` says that every TypeScript file is to become
/// JavaScript.
pub(crate) fn build(installed: &Installed, source: &Source<'_>, strips: bool) -> Option<Build> {
    let packages = wants_packages(source);
    if !packages && !strips {
        return None;
    }
    let mut steps = Vec::new();
    let image = match (&installed.toolchain, packages) {
        (Some(toolchain), true) => {
            steps.push(install(toolchain, source));
            steps.push(["/bin/sh", "-c", COLLECT].map(str::to_owned).to_vec());
            toolchain.image.clone()
        }
        (_, false) => installed.agent_image.clone(),
        (None, true) => return None,
    };
    if strips {
        let single = source.files.len() == 1;
        let words = [GUEST_AGENT, "agent", "strip-types", WORKPLACE, OUTPUT];
        steps.push(words.into_iter().chain(single.then_some("single")).map(str::to_owned).collect());
    }
    let manifests = MANIFESTS.iter().map(|&name| name.to_owned()).collect();
    let variables = [
        ("HOME", "/tmp"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("npm_config_cache", "/tmp/npm"),
        ("npm_config_update_notifier", "false"),
        ("npm_config_audit", "false"),
        ("npm_config_fund", "false"),
        ("npm_config_progress", "false"),
    ];
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(Build {
        recipe: format!("node {}{}", installed.version, if strips { STRIPPING } else { "" }),
        image,
        inputs: if strips || names_files(source) { Inputs::All } else { Inputs::Files(manifests) },
        files: BTreeMap::new(),
        steps,
        environment: variables.chain(closure::trusting("NODE_EXTRA_CA_CERTS")).collect(),
        output: OUTPUT.to_owned(),
        network: packages,
        seed: None,
        hints: Vec::new(),
    })
}

fn install(toolchain: &Toolchain, source: &Source<'_>) -> Vec<String> {
    let has = |name: &str| source.files.iter().any(|file| file == name);
    let is_locked = has("package-lock.json") || has("npm-shrinkwrap.json");
    let words = [if is_locked { "ci" } else { "install" }, "--omit=dev"];
    toolchain.program.iter().cloned().chain(words.map(str::to_owned)).collect()
}

/// Whether `package.json` names dependencies that the archive does not bring along. What cannot be read is npm's to
/// refuse.
fn wants_packages(source: &Source<'_>) -> bool {
    let Some(text) = source.manifests.get("package.json") else { return false };
    if source.files.iter().any(|file| file.starts_with("node_modules/")) {
        return false;
    }
    let Ok(package) = serde_json::from_str::<serde_json::Value>(text) else { return true };
    dependencies(&package).next().is_some()
}

/// Whether some package lies in the archive itself, so that other files than the manifests decide what is installed.
fn names_files(source: &Source<'_>) -> bool {
    let text = source.manifests.get("package.json").map_or("", String::as_str);
    let Ok(package) = serde_json::from_str::<serde_json::Value>(text) else { return false };
    let is_path =
        |wanted: &str| ["file:", "link:", ".", "/", "~/"].iter().any(|start| wanted.starts_with(start));
    package.get("workspaces").is_some() || dependencies(&package).any(is_path)
}

/// What the packages that are wanted are to be: a version, an address, a path.
fn dependencies(package: &serde_json::Value) -> impl Iterator<Item = &str> {
    let lists =
        ["dependencies", "optionalDependencies"].into_iter().filter_map(|key| package.get(key)?.as_object());
    lists.flat_map(|list| list.values()).map(|wanted| wanted.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::tests::source;

    #[test]
    fn dependencies_are_installed_unless_they_are_there() {
        let wants = |files: &[&str], package: &str| {
            source("nodejs20", files, &[("package.json", package)], wants_packages)
        };
        let with = r#"{"dependencies": {"left-pad": "1.3.0"}}"#;
        assert!(wants(&["package.json", "index.js"], with));
        assert!(!wants(&["package.json", "node_modules/left-pad/index.js"], with));
        assert!(!wants(&["package.json"], r#"{"dependencies": {}, "devDependencies": {"x": "1"}}"#));
        assert!(wants(&["package.json"], "{"), "npm says what is wrong with it");
    }

    #[test]
    fn packages_of_the_archive_itself_are_known() {
        let names = |package: &str| source("nodejs20", &[], &[("package.json", package)], names_files);
        assert!(names(r#"{"dependencies": {"a": "1", "b": "file:./b"}}"#));
        assert!(names(r#"{"workspaces": ["packages/*"]}"#));
        assert!(!names(r#"{"dependencies": {"a": "^1.0.0", "b": "npm:c@2"}}"#));
    }
}

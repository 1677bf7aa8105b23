//! What is done to code for Python before it can run: packages are installed as `requirements.txt` or `pyproject.toml`
//! name them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use impuls_domain::RuntimeName;
use impuls_sandbox::BindMount;

use crate::agent;
use crate::build::{Build, Inputs, Source};
use crate::closure;
use crate::language::{Installed, SearchPath, Toolchain};
use crate::python::guest_prefix;

const REQUIREMENTS: &str = "requirements.txt";
const PROJECT: &str = "pyproject.toml";
/// What says which packages are wanted.
pub(crate) const MANIFESTS: &[&str] = &[REQUIREMENTS, PROJECT];
/// Where builds leave them: beside the function's own modules, which is where Python looks first.
const OUTPUT: &str = "/tmp/out";

/// Where pip lies in an interpreter's folder: beside its library, or where distributions put it.
const PIP: &str = "lib/python3/dist-packages/pip";

/// What builds code for an interpreter, by its folder and that of its library; `None` if it has no pip.
pub(crate) fn toolchain(
    name: &RuntimeName,
    (prefix, library): (&Path, &Path),
    interpreter: &[String],
    search: &SearchPath,
) -> Option<Toolchain> {
    if !library.join("site-packages/pip").is_dir() && !prefix.join(PIP).is_dir() {
        return None;
    }
    let guest = guest_prefix(name, prefix);
    let further = (guest != prefix).then(|| BindMount { host: prefix.to_owned(), guest });
    let image =
        agent::system(&format!("{name}-build").parse().ok()?, &search.agent, further.into_iter().collect());
    Some(Toolchain { image: Arc::new(image), program: interpreter.to_vec() })
}

/// What is missing on this machine for a build that the source needs.
pub(crate) fn lacks(installed: &Installed, source: &Source<'_>) -> Option<String> {
    (wants_packages(source) && installed.toolchain.is_none()).then(|| {
        format!(
            "{} has no pip, which {REQUIREMENTS} needs; install it (Debian package `python3-pip`), or put the \
             packages into the archive",
            installed.name
        )
    })
}

/// How the source is built; `None` if it runs as it is.
pub(crate) fn build(installed: &Installed, source: &Source<'_>) -> Option<Build> {
    let toolchain = installed.toolchain.as_ref().filter(|_| wants_packages(source))?;
    let requirements = source.manifests.contains_key(REQUIREMENTS);
    let what: &[&str] = if requirements { &["--requirement", REQUIREMENTS] } else { &["."] };
    let words = ["-m", "pip", "install", "--target", OUTPUT, "--no-compile", "--no-cache-dir"];
    let words = words.into_iter().chain(["--disable-pip-version-check", "--no-input"]);
    let words = words.chain(what.iter().copied()).map(str::to_owned);
    // A project is built from all of its files; requirements may name further files only by their content.
    let names_files = source.manifests.get(REQUIREMENTS).is_some_and(|text| {
        text.lines().any(|line| {
            let line = line.trim_start();
            line.starts_with('-') || line.starts_with('.') || line.contains("file:")
        })
    });
    let inputs =
        if requirements && !names_files { Inputs::Files(vec![REQUIREMENTS.to_owned()]) } else { Inputs::All };
    let variables = [("HOME", "/tmp"), ("PATH", "/usr/local/bin:/usr/bin:/bin"), ("LANG", "C.UTF-8")];
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(Build {
        recipe: format!("python {}", installed.version),
        image: toolchain.image.clone(),
        inputs,
        files: BTreeMap::new(),
        steps: vec![toolchain.program.iter().cloned().chain(words).collect()],
        environment: variables.chain(own_libraries(toolchain)).chain(closure::trusting("PIP_CERT")).collect(),
        output: OUTPUT.to_owned(),
        network: true,
        seed: None,
        hints: Vec::new(),
    })
}

/// Where an interpreter that is shown elsewhere than it was built for finds its own library.
fn own_libraries(toolchain: &Toolchain) -> Option<(String, String)> {
    let prefix = Path::new(toolchain.program.first()?).parent()?.parent()?;
    (!prefix.starts_with("/usr"))
        .then(|| ("LD_LIBRARY_PATH".to_owned(), prefix.join("lib").display().to_string()))
}

/// Whether there is anything to install.
fn wants_packages(source: &Source<'_>) -> bool {
    let is_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    match source.manifests.get(REQUIREMENTS) {
        Some(text) => text.lines().any(is_content),
        // A project that only configures tools has nothing to install.
        None => source.manifests.get(PROJECT).is_some_and(|text| text.contains("[project]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::tests::source;

    #[test]
    fn requirements_and_projects_are_installed() {
        let wants = |manifests: &[(&str, &str)]| source("python311", &[], manifests, wants_packages);
        assert!(wants(&[(REQUIREMENTS, "# first\nsix==1.16.0\n")]));
        assert!(!wants(&[(REQUIREMENTS, "# nothing\n\n")]));
        assert!(wants(&[(PROJECT, "[project]\nname = \"x\"\n")]));
        assert!(!wants(&[(PROJECT, "[tool.ruff]\nline-length = 100\n")]));
        assert!(!wants(&[]));
    }
}

//! Ignored tests and what they need.

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::process;
use crate::tidy::tree;
use crate::tools;

/// Where modules of Go come from unless somebody says otherwise; not every network lets it through.
const GO_PROXY: &str = "https://proxy.golang.org/github.com/google/uuid/@v/list";

/// Arguments of Python that ask for a package of whatever index pip is told to use.
const PYPI: [&str; 5] = ["-m", "pip", "index", "versions", "pyyaml"];

/// A test with `#[ignore = "needs …"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The name of the function.
    pub name: String,
    /// The reason, from `needs` on.
    pub reason: String,
}

/// What a reason can ask for and this machine has or lacks.
pub struct Machine {
    lacks: Vec<&'static str>,
}

impl Machine {
    /// Looks what this machine lacks.
    pub fn inspect() -> Self {
        let mut lacks = Vec::new();
        let mut note = |word, present: bool| {
            if !present {
                lacks.push(word);
            }
        };
        note("root", tools::is_root());
        let node = tools::has_node();
        note("node", node);
        note("node.js", node);
        note("python", tools::has_python());
        note("ruby", tools::has_ruby());
        note("mono", tools::has("mono") && tools::has("mcs"));
        note("dotnet", tools::has_dotnet_sdk());
        note("kvm", Path::new("/dev/kvm").exists());
        note("docker", process::output_of("docker", &["info"]).is_some());
        note("pip", tools::has_pip());
        note("postgres", tools::has_postgres());
        note("runc", Path::new("/usr/sbin/runc").exists());
        note("redis", tools::has("redis-server") && tools::has("redis-cli"));
        for program in [
            "php", "perl", "java", "npm", "autoconf", "cmake", "curl", "jq", "ip", "go", "openssl", "pasta",
            "faketime",
        ] {
            note(program, tools::has(program));
        }
        note("roles", has_roles());
        note("pypi", tools::has_pip() && process::output_of("python3", &PYPI).is_some());
        note("goproxy", tools::has("go") && tools::answers(GO_PROXY));
        note("wrk", process::output_of("which", &["wrk"]).is_some());
        Self { lacks }
    }

    /// Whether a test with this reason can run. A word that nothing is known about counts as met, so that such a
    /// test fails visibly rather than being left out in silence.
    pub fn meets(&self, reason: &str) -> bool {
        let reason = reason.to_lowercase();
        let mut words = reason.split([' ', ',', ';']);
        !words.any(|word| self.lacks.contains(&word))
    }
}

/// Whether the program beside this one can be a controller and a worker.
fn has_roles() -> bool {
    let program = std::env::current_exe().unwrap_or_default().with_file_name("impuls");
    let program = program.to_string_lossy().into_owned();
    ["controller", "worker"].iter().all(|role| process::output_of(&program, &[role, "--help"]).is_some())
}

/// The ignored tests in the Rust files below `folder`.
pub fn find(folder: &Path) -> anyhow::Result<Vec<Ignored>> {
    let mut found = Vec::new();
    for path in
        tree::files(folder)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"))
    {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        found.extend(in_source(&text));
    }
    Ok(found)
}

fn in_source(text: &str) -> Vec<Ignored> {
    let mut found = Vec::new();
    let mut reason = None;
    for line in text.lines().map(str::trim_start) {
        if let Some(rest) = line.strip_prefix("#[ignore = \"") {
            reason = rest.rsplit_once("\"]").map(|(reason, _)| reason.to_owned());
        } else if let Some(name) = function_name(line)
            && let Some(reason) = reason.take()
        {
            found.push(Ignored { name: name.to_owned(), reason });
        }
    }
    found
}

/// The name in a line that begins a function.
fn function_name(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub ").unwrap_or(line);
    let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")?;
    rest.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_belongs_to_the_next_function() {
        let source = "#[test]\nfn free() {}\n#[test]\n    #[ignore = \"needs root\"]\n    async fn bound() {}\nfn x() {}";
        assert_eq!(
            in_source(source),
            [Ignored { name: "bound".to_owned(), reason: "needs root".to_owned() }]
        );
    }

    #[test]
    fn a_need_is_met_unless_the_machine_lacks_one_of_its_words() {
        let machine = Machine { lacks: vec!["root", "kvm"] };
        assert!(machine.meets("needs node"));
        assert!(!machine.meets("needs node, root"));
        assert!(!machine.meets("needs KVM"));
    }
}

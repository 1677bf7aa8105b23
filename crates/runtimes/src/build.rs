//! What a language does to source before it can run: commands for a build sandbox.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use impuls_domain::{LoadFailure, RevisionConfig};
use impuls_sandbox::RuntimeImage;

/// Where a build's commands run, inside its sandbox: a copy of the source.
pub const WORKPLACE: &str = "/tmp/build";
/// The most bytes of a build's output in the message of a failure.
const MESSAGE_LIMIT: usize = 4 * 1024;

/// Source that is to be built.
pub struct Source<'a> {
    /// What was deployed with it.
    pub config: &'a RevisionConfig,
    /// The paths of its files.
    pub files: &'a [String],
    /// The texts of those files that [`Language::manifests`](crate::Language::manifests) names.
    pub manifests: &'a BTreeMap<String, String>,
}

/// Which files of the source a build sees. Builds that see the same are made once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// All.
    All,
    /// These; what else there is changes nothing.
    Files(Vec<String>),
}

/// One build.
#[derive(Clone, Debug)]
pub struct Build {
    /// Everything that decides what comes out besides the inputs, the files and the commands: the toolchain's version.
    pub recipe: String,
    /// What its sandbox is made from.
    pub image: Arc<RuntimeImage>,
    /// What it sees of the source.
    pub inputs: Inputs,
    /// Files that are added to the source: path and text.
    pub files: BTreeMap<String, String>,
    /// Commands, each an argument vector; they run in [`WORKPLACE`] one after the other until one fails.
    pub steps: Vec<Vec<String>>,
    /// Their environment.
    pub environment: BTreeMap<String, String>,
    /// The folder whose contents come out.
    pub output: String,
    /// Whether it fetches something.
    pub network: bool,
    /// What it finds prepared, if anything.
    pub seed: Option<Seed>,
    /// What a failure means where its output does not say so in the words of whoever wrote the source.
    pub hints: Vec<Hint>,
}

/// What a failure means.
#[derive(Clone, Debug)]
pub struct Hint {
    /// Text in the output.
    pub sign: String,
    /// What is said before it, and instead of a place in a file that is not the source's.
    pub meaning: String,
}

/// Something that every build of a language needs and none can change: made once, kept by the server, and shown to builds
/// read-only.
#[derive(Clone, Debug)]
pub struct Seed {
    /// Its name in the server's cache, which changes with whatever decides its contents.
    pub name: String,
    /// Where builds see it.
    pub guest: PathBuf,
    /// What builds get in their environment while it has not been made yet.
    pub without: BTreeMap<String, String>,
    /// What makes it, out of nothing.
    pub build: Box<Build>,
}

impl Build {
    /// The failure that the build's output tells of.
    #[must_use]
    pub fn diagnose(&self, output: &str) -> LoadFailure {
        let failure = diagnose(output);
        let Some(hint) = self.hints.iter().find(|hint| output.contains(&hint.sign)) else { return failure };
        let message = format!("{}\n{}", hint.meaning, failure.message);
        if failure.file.as_ref().is_some_and(|file| self.files.contains_key(file)) {
            return LoadFailure { message, file: None, line: None, ..failure };
        }
        LoadFailure { message, ..failure }
    }
}

/// The failure that a build's output tells of. The first line that names a place in the source, and is no warning, says
/// which file and line.
#[must_use]
pub fn diagnose(output: &str) -> LoadFailure {
    let text = output.replace(&format!("{WORKPLACE}/"), "");
    let text = text.trim();
    let place = first_place(text);
    let text = if text.len() > MESSAGE_LIMIT { from_first_error(text) } else { text };
    let end = text.floor_char_boundary(MESSAGE_LIMIT);
    let message = text.get(..end).unwrap_or_default().to_owned();
    let message = if message.is_empty() { "the build failed and said nothing".to_owned() } else { message };
    LoadFailure {
        class: "BuildError".to_owned(),
        message,
        file: place.as_ref().map(|(file, _)| file.clone()),
        line: place.map(|(_, line)| line),
    }
}

/// Without the progress and the warnings before the first error, if one is marked as such.
fn from_first_error(text: &str) -> &str {
    let mut lines = text.lines();
    let first = lines.find(|line| line.starts_with("error") || line.contains(": error"));
    // Lines are parts of the text.
    first.and_then(|line| text.find(line)).and_then(|at| text.get(at..)).unwrap_or(text)
}

/// The first place that is no warning's: neither in its line nor below its headline, as Rust has them.
fn first_place(text: &str) -> Option<(String, u32)> {
    let mut below_warning = false;
    text.lines().find_map(|line| {
        if ["warning", "error"].iter().any(|level| line.starts_with(level)) {
            below_warning = line.starts_with("warning");
        }
        if below_warning || line.contains(": warning") { None } else { place(line) }
    })
}

/// The file and line that a compiler's message begins with: `file:line:…` of Go and others, `file(line,…` of C#, `-->
/// file:line:…` of Rust.
fn place(line: &str) -> Option<(String, u32)> {
    let line = line.trim_start();
    let line = line.strip_prefix("--> ").unwrap_or(line);
    let line = line.strip_prefix("./").unwrap_or(line);
    let end = line.find([':', '('])?;
    let (file, rest) = line.split_at_checked(end)?;
    let is_file = !file.is_empty() && !file.contains(char::is_whitespace) && file.contains('.');
    let digits = rest.get(1..)?.split(|c: char| !c.is_ascii_digit()).next()?;
    let number = digits.parse().ok()?;
    let after = rest.get(1 + digits.len()..)?.chars().next();
    (is_file && matches!(after, Some(':' | ',' | ')'))).then(|| (file.to_owned(), number))
}

#[cfg(test)]
pub(crate) mod tests {
    use impuls_domain::{CommandLine, Contract, DriverChoice, Environment, Limits, Metadata, NetworkPolicy};

    use super::*;
    use crate::agent;
    use crate::language::{Installed, Language, Toolchain};

    /// A version of a language that need not be on this machine; its full version is `1.2.3`.
    pub(crate) fn installed(
        name: &str,
        order: (u32, u32),
        interpreter: &[&str],
        builds_with: &[&str],
    ) -> Installed {
        let name = name.parse().unwrap();
        let image = Arc::new(agent::bare(&name, &PathBuf::from("/bin/true")));
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Installed {
            name,
            order,
            version: "1.2.3".to_owned(),
            path: PathBuf::from("/nowhere"),
            image: image.clone(),
            agent_image: image.clone(),
            interpreter: words(interpreter),
            toolchain: Some(Toolchain { image, program: words(builds_with) }),
        }
    }

    /// How source of these files is built, whose handler is `app.handler`.
    pub(crate) fn plan(
        language: &dyn Language,
        installed: &Installed,
        contract: Contract,
        files: &[(&str, &str)],
    ) -> Build {
        let config = config(installed.name.as_str(), contract, "app.handler");
        let wanted = |(name, _): &&(&str, &str)| language.manifests().contains(name);
        let owned = |&(name, text): &(&str, &str)| (name.to_owned(), text.to_owned());
        let manifests = files.iter().filter(wanted).map(owned).collect();
        let files: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        language.build(installed, &Source { config: &config, files: &files, manifests: &manifests }).unwrap()
    }

    /// Settings of a function, for the tests of languages.
    pub(crate) fn config(runtime: &str, contract: Contract, handler: &str) -> RevisionConfig {
        RevisionConfig {
            runtime: runtime.parse().unwrap(),
            contract,
            handler: handler.parse().unwrap(),
            command: CommandLine::default(),
            description: String::new(),
            metadata: Metadata::default(),
            environment: Environment::default(),
            limits: Limits::default(),
            driver: DriverChoice::default(),
            network: NetworkPolicy::default(),
        }
    }

    /// Hands over source with these files and manifests.
    pub(crate) fn source<T>(
        runtime: &str,
        files: &[&str],
        manifests: &[(&str, &str)],
        look: impl FnOnce(&Source<'_>) -> T,
    ) -> T {
        let config = config(runtime, Contract::Module, "index.handler");
        let files: Vec<String> = files.iter().map(|&file| file.to_owned()).collect();
        let text = |&(name, text): &(&str, &str)| (name.to_owned(), text.to_owned());
        let manifests = manifests.iter().map(text).collect();
        look(&Source { config: &config, files: &files, manifests: &manifests })
    }

    #[test]
    fn compilers_name_the_place() {
        for (output, file, line) in [
            ("# function\n./main.go:3:26: undefined: x\n", "main.go", 3),
            ("index.cs(12,5): error CS0103: The name `x'", "index.cs", 12),
            ("error[E0425]: cannot find value\n  --> src/main.rs:7:5\n", "src/main.rs", 7),
            ("/tmp/build/app.ts:4:1: error: unexpected token", "app.ts", 4),
            ("a.cs(1,1): warning CS0219: unused\na.cs(9,1): error CS1002: expected", "a.cs", 9),
            ("warning: unused\n --> src/a.rs:1:1\n\nerror: expected\n --> src/b.rs:2:1", "src/b.rs", 2),
        ] {
            let failure = diagnose(output);
            assert_eq!((failure.file.as_deref(), failure.line), (Some(file), Some(line)), "{output}");
            assert!(!failure.message.contains("/tmp/build"), "{}", failure.message);
        }
    }

    #[test]
    fn other_messages_name_no_place() {
        for output in ["go: downloading x v1.2.3:", "at 12:30:05 it failed", "error: no space left", ""] {
            let failure = diagnose(output);
            assert_eq!((failure.file, failure.line), (None, None), "{output}");
            assert!(!failure.message.is_empty());
        }
    }

    #[test]
    fn progress_does_not_push_the_error_out_of_a_message() {
        let progress = "   Compiling a v1.2.3\n".repeat(1_000);
        let failure = diagnose(&format!("{progress}error: expected\n --> src/a.rs:2:1\n"));
        assert_eq!(failure.message, "error: expected\n --> src/a.rs:2:1");
        assert_eq!(failure.line, Some(2));
    }

    #[test]
    fn a_message_is_bounded() {
        assert!(diagnose(&"é".repeat(10_000)).message.len() <= MESSAGE_LIMIT);
    }
}

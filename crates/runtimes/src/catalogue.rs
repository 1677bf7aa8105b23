//! Every runtime of this machine.

use impuls_domain::{Contract, Handler, RevisionConfig, RuntimeName};

use crate::build::{Build, Source};
use crate::csharp::{Dotnet, Mono};
use crate::go::Go;
use crate::language::{Installed, Language, SearchPath};
use crate::node::Node;
use crate::python::Python;
use crate::rooted::Rooted;
use crate::ruby::Ruby;
use crate::rust::Rust;
use crate::typescript::TypeScript;
use crate::{script, system};

/// Every language that Impuls knows. Adding one is a file and a line here.
pub(crate) fn languages() -> Vec<Box<dyn Language>> {
    vec![
        Box::new(Node),
        Box::new(TypeScript),
        Box::new(Python),
        Box::new(Go),
        Box::new(Ruby),
        Box::new(Rust),
        // Before Mono: `csharp` means the newer of the two where both are.
        Box::new(Dotnet),
        Box::new(Mono),
        Box::new(script::PHP),
        Box::new(script::PERL),
        Box::new(script::JAVA),
        Box::new(script::BUN),
        Box::new(script::DENO),
        Box::new(system::PROVIDED),
        Box::new(system::EXECUTABLE),
        Box::new(system::COMMAND),
    ]
}

/// Why a runtime cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// Nobody knows such a runtime.
    #[error("runtime {name} is unknown; known runtimes: {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: RuntimeName,
        /// Every name that could be asked for.
        known: Vec<String>,
    },
    /// It is known but absent.
    #[error("runtime {name} is not installed; {hint}")]
    NotInstalled {
        /// What was asked for.
        name: RuntimeName,
        /// What to install.
        hint: String,
    },
}

struct Entry {
    language: Box<dyn Language>,
    /// Newest last.
    installed: Vec<Installed>,
}

impl Entry {
    fn detect(language: Box<dyn Language>, search: &SearchPath) -> Self {
        let mut installed = language.detect(search);
        installed.sort_by_key(|version| version.order);
        Self { language, installed }
    }
}

/// How code is run inside a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The contract as the program inside the sandbox knows it.
    pub contract: &'static str,
    /// The command line that the agent runs; empty where a shim loads the code.
    pub command: Vec<String>,
}

/// Every runtime of this machine; made once.
pub struct Catalogue {
    entries: Vec<Entry>,
}

impl Catalogue {
    /// Looks for interpreters; starts each found one once or twice, so this takes a fraction of a second.
    #[must_use]
    pub fn detect(search: &SearchPath) -> Self {
        let look = |language: Box<dyn Language>| Entry::detect(language, search);
        let entries = std::thread::scope(|scope| {
            let looking: Vec<_> =
                languages().into_iter().map(|language| scope.spawn(move || look(language))).collect();
            looking.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        Self { entries }
    }

    /// The runtimes of images besides. What the machine has of a name comes first, then the first image. Fails, saying why
    /// and with nothing added, if the image cannot be shown to sandboxes.
    pub fn add_image(&mut self, image: &Rooted, search: &SearchPath) -> Result<(), String> {
        let has = |entry: &Entry, name: &RuntimeName| {
            entry.installed.iter().any(|installed| installed.name == *name)
                || entry.language.aliases().contains(&name.as_str())
        };
        for (language, installed) in image.runtimes(search)? {
            if !self.entries.iter().any(|entry| has(entry, &installed.name)) {
                self.entries.push(Entry { language, installed: vec![installed] });
            }
        }
        Ok(())
    }

    /// Only the runtime of command lines, for whoever runs nothing else; starts nothing.
    #[must_use]
    pub fn commands_only(search: &SearchPath) -> Self {
        Self { entries: vec![Entry::detect(Box::new(system::COMMAND), search)] }
    }

    /// The installed runtime that a version name or alias means; an alias means the newest.
    pub fn resolve(&self, name: &RuntimeName) -> Result<&Installed, RuntimeError> {
        for entry in &self.entries {
            if entry.language.aliases().contains(&name.as_str())
                && let Some(newest) = entry.installed.last()
            {
                return Ok(newest);
            }
            if let Some(found) = entry.installed.iter().find(|installed| installed.name == *name) {
                return Ok(found);
            }
        }
        let knows = |entry: &&Entry| {
            entry.language.aliases().contains(&name.as_str())
                || entry.language.known().iter().any(|known| known == name.as_str())
        };
        match self.entries.iter().find(knows) {
            Some(entry) => Err(RuntimeError::NotInstalled {
                name: name.clone(),
                hint: entry.language.installation_hint(name.as_str()),
            }),
            None => Err(RuntimeError::Unknown { name: name.clone(), known: self.known() }),
        }
    }

    /// The source file names of a single-file function of this runtime, which must be a version name.
    #[must_use]
    pub fn source_files(&self, runtime: &RuntimeName, contract: Contract, handler: &Handler) -> Vec<String> {
        self.entry(runtime).map(|entry| entry.language.source_files(contract, handler)).unwrap_or_default()
    }

    /// How code of this runtime may be shaped, the default first; nothing if the runtime is unknown. The runtime must
    /// be a version name.
    #[must_use]
    pub fn contracts(&self, runtime: &RuntimeName) -> &'static [Contract] {
        self.entry(runtime).map(|entry| entry.language.contracts()).unwrap_or_default()
    }

    /// How code is run. The runtime must be a version name.
    #[must_use]
    pub fn launch(&self, config: &RevisionConfig, code_dir: &str) -> Launch {
        let own = config.command.words().to_vec();
        let Some(entry) = self.entry(&config.runtime) else {
            return Launch { contract: config.contract.as_str(), command: own };
        };
        let contract = entry.language.serves(config.contract);
        let command = match config.contract {
            Contract::Module | Contract::Scoped if contract == config.contract.as_str() => Vec::new(),
            Contract::Command => own,
            Contract::Http if !own.is_empty() => own,
            Contract::Bootstrap => vec![format!("{code_dir}/bootstrap")],
            Contract::Module | Contract::Scoped | Contract::Program | Contract::Http => {
                let installed = entry.installed.iter().find(|installed| installed.name == config.runtime);
                let mut words = installed.map(|installed| installed.interpreter.clone()).unwrap_or_default();
                words.push(format!("{code_dir}/{}", entry.language.program(&config.handler)));
                words
            }
        };
        Launch { contract, command }
    }

    /// Files of the source whose text [`Catalogue::build`] wants to see. The runtime must be a version name.
    #[must_use]
    pub fn manifests(&self, runtime: &RuntimeName) -> &'static [&'static str] {
        self.entry(runtime).map(|entry| entry.language.manifests()).unwrap_or_default()
    }

    /// What this machine lacks to build source, and what to do about it; `None` if nothing.
    #[must_use]
    pub fn lacks(&self, source: &Source<'_>) -> Option<String> {
        let (entry, installed) = self.version(&source.config.runtime)?;
        entry.language.lacks(installed, source)
    }

    /// How source is built; `None` if it runs as it is, or its runtime is not installed.
    #[must_use]
    pub fn build(&self, source: &Source<'_>) -> Option<Build> {
        let (entry, installed) = self.version(&source.config.runtime)?;
        entry.language.build(installed, source)
    }

    fn version(&self, runtime: &RuntimeName) -> Option<(&Entry, &Installed)> {
        let entry = self.entry(runtime)?;
        Some((entry, entry.installed.iter().find(|installed| installed.name == *runtime)?))
    }

    fn entry(&self, runtime: &RuntimeName) -> Option<&Entry> {
        let known = |entry: &&Entry| entry.installed.iter().any(|installed| installed.name == *runtime);
        let by_name = |entry: &&Entry| entry.language.known().iter().any(|name| name == runtime.as_str());
        self.entries.iter().find(known).or_else(|| self.entries.iter().find(by_name))
    }

    /// Every installed runtime with the aliases that mean it.
    pub fn installed(&self) -> impl Iterator<Item = (&Installed, Vec<&'static str>)> {
        let means = |alias: &str, installed: &Installed| {
            let resolved = alias.parse().ok().and_then(|name| self.resolve(&name).ok());
            resolved.is_some_and(|meant| meant.name == installed.name)
        };
        self.entries.iter().flat_map(move |entry| {
            entry.installed.iter().map(move |installed| {
                let aliases = entry.language.aliases().iter().copied();
                (installed, aliases.filter(|alias| means(alias, installed)).collect())
            })
        })
    }

    /// Known version names that are not installed, each with what to install; the name of the language where none is and
    /// its versions are not known beforehand.
    #[must_use]
    pub fn missing(&self) -> Vec<(String, String)> {
        let missing = |entry: &Entry| {
            let mut known = entry.language.known();
            if known.is_empty() && entry.installed.is_empty() {
                known.extend(entry.language.aliases().first().map(|&alias| alias.to_owned()));
            }
            let absent =
                known.into_iter().filter(|name| entry.installed.iter().all(|i| i.name.as_str() != name));
            absent
                .map(|name| {
                    let hint = entry.language.installation_hint(&name);
                    (name, hint)
                })
                .collect::<Vec<_>>()
        };
        self.entries.iter().flat_map(missing).collect()
    }

    fn known(&self) -> Vec<String> {
        let names =
            |entry: &Entry| entry.installed.iter().map(|installed| installed.name.to_string()).collect();
        known_names(self.entries.iter().map(|entry| (&*entry.language, names(entry))))
    }

    /// Every installed runtime with its language.
    pub(crate) fn by_language(&self) -> impl Iterator<Item = (&dyn Language, &Installed)> {
        self.entries
            .iter()
            .flat_map(|entry| entry.installed.iter().map(move |installed| (&*entry.language, installed)))
    }
}

/// Every name that could be asked for: those that languages know, those that are installed, and aliases.
pub(crate) fn known_names<'l>(
    languages: impl Iterator<Item = (&'l dyn Language, Vec<String>)>,
) -> Vec<String> {
    let names = |(language, installed): (&dyn Language, Vec<String>)| {
        let mut names = language.known();
        names.extend(installed);
        names.extend(language.aliases().iter().map(|&alias| alias.to_owned()));
        names
    };
    let mut known: Vec<String> = languages.flat_map(names).collect();
    known.sort();
    known.dedup();
    known
}

#[cfg(test)]
mod tests {
    use impuls_domain::CommandLine;

    use super::*;
    use crate::build;

    fn nothing_installed() -> Catalogue {
        let entries = languages().into_iter().map(|language| Entry { language, installed: Vec::new() });
        Catalogue { entries: entries.collect() }
    }

    #[test]
    fn every_language_that_is_not_there_is_missing() {
        let missing: Vec<String> = nothing_installed().missing().into_iter().map(|(name, _)| name).collect();
        for name in ["nodejs20", "python311", "go", "rust", "bun", "deno", "php"] {
            assert!(missing.iter().any(|missing| missing == name), "{name}: {missing:?}");
        }
    }

    #[test]
    fn an_unknown_runtime_is_refused_with_the_known_ones() {
        let error = nothing_installed().resolve(&"cobol".parse().unwrap()).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("nodejs20") && text.contains("python312") && text.contains("nodejs"), "{text}");
    }

    #[test]
    fn a_known_but_absent_version_is_refused_with_what_to_install() {
        let error = nothing_installed().resolve(&"python312".parse().unwrap()).err().unwrap();
        assert!(error.to_string().contains("python3.12"), "{error}");
        assert!(matches!(error, RuntimeError::NotInstalled { .. }));
    }

    fn config(runtime: &str, contract: Contract, handler: &str, command: &[&str]) -> RevisionConfig {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        RevisionConfig {
            command: CommandLine::new(command).unwrap(),
            ..build::tests::config(runtime, contract, handler)
        }
    }

    #[test]
    fn a_program_is_run_by_its_interpreter_and_a_command_as_it_is() {
        let catalogue = Catalogue::detect(&SearchPath::default());
        let check = |config: RevisionConfig, expected: &[&str]| {
            assert_eq!(catalogue.launch(&config, "/code").command, expected, "{config:?}");
        };
        check(config("command", Contract::Command, "x", &["ls", "-l"]), &["ls", "-l"]);
        check(config("executable", Contract::Program, "bin/run", &[]), &["/code/bin/run"]);
        check(config("executable", Contract::Http, "bin/run", &["server"]), &["server"]);
        check(config("provided", Contract::Bootstrap, "a.b", &[]), &["/code/bootstrap"]);
        check(config("python39", Contract::Module, "a.b", &[]), &[]);
        for (installed, _) in catalogue.installed().filter(|(installed, _)| installed.has_shim()) {
            let words = catalogue
                .launch(&config(installed.name.as_str(), Contract::Program, "src/app.x", &[]), "/code")
                .command;
            assert_eq!(words[..words.len() - 1], installed.interpreter);
            assert!(words.last().unwrap().starts_with("/code/src/app."), "{words:?}");
        }
    }

    #[test]
    fn runtimes_of_the_platform_are_always_there() {
        let catalogue = Catalogue::detect(&SearchPath::default());
        for (name, means, contract) in [
            ("provided", "provided", Contract::Bootstrap),
            ("provided.al2", "provided", Contract::Bootstrap),
            ("provided.al2023", "provided", Contract::Bootstrap),
            ("command", "command", Contract::Command),
            ("executable", "executable", Contract::Program),
        ] {
            let found = catalogue.resolve(&name.parse().unwrap()).unwrap();
            assert_eq!(found.name.as_str(), means);
            assert_eq!(catalogue.contracts(&found.name).first(), Some(&contract));
            assert!(!found.has_shim());
        }
    }

    #[test]
    fn an_alias_of_two_languages_means_the_first_that_is_installed() {
        let check = |dotnets: Vec<Installed>, expected: &str| {
            let monos = vec![build::tests::installed("mono6", (6, 8), &[], &[])];
            let entries = vec![
                Entry { language: Box::new(Dotnet), installed: dotnets },
                Entry { language: Box::new(Mono), installed: monos },
            ];
            let catalogue = Catalogue { entries };
            assert_eq!(catalogue.resolve(&"csharp".parse().unwrap()).unwrap().name.as_str(), expected);
            let named = |(installed, aliases): (&Installed, Vec<&str>)| {
                aliases.contains(&"csharp").then(|| installed.name.to_string())
            };
            assert_eq!(catalogue.installed().filter_map(named).collect::<Vec<_>>(), [expected]);
        };
        check(Vec::new(), "mono6");
        let dotnet = |major| build::tests::installed(&format!("dotnet{major}"), (major, 100), &[], &[]);
        check(vec![dotnet(7), dotnet(8)], "dotnet8");
    }

    #[test]
    fn source_files_follow_the_handler() {
        let catalogue = nothing_installed();
        let files = |runtime: &str, handler: &str| {
            catalogue.source_files(&runtime.parse().unwrap(), Contract::Module, &handler.parse().unwrap())
        };
        assert_eq!(files("nodejs20", "src/app.handler"), ["src/app.js", "src/app.mjs"]);
        assert_eq!(files("python311", "handler"), ["index.py"]);
        assert_eq!(files("ruby31", "app.Shop::Api.call"), ["app.rb"]);
    }
}

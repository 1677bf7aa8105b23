//! The runtimes of other machines, as they tell them: for whoever takes code for them and runs none of it.

use impuls_domain::{Contract, Handler, RuntimeName};
use serde::{Deserialize, Serialize};

use crate::catalogue::{Catalogue, RuntimeError, known_names, languages};
use crate::language::{Installed, Language};

/// A runtime that some machine has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Announced {
    /// A name that stands for its language, such as `nodejs`.
    pub language: String,
    /// Sorts versions of one language.
    pub order: (u32, u32),
    /// Its version name, such as `nodejs20`.
    pub name: String,
    /// The interpreter's full version.
    pub version: String,
    /// The interpreter on that machine.
    pub path: String,
}

impl Announced {
    /// What a machine tells of the runtimes that it has.
    #[must_use]
    pub fn of(catalogue: &Catalogue) -> Vec<Self> {
        let announced = |(language, installed): (&dyn Language, &Installed)| Self {
            language: key(language),
            order: installed.order,
            name: installed.name.to_string(),
            version: installed.version.clone(),
            path: installed.path.display().to_string(),
        };
        catalogue.by_language().map(announced).collect()
    }
}

/// A name that no other language has.
fn key(language: &dyn Language) -> String {
    let alias = language.aliases().first().map(|&alias| alias.to_owned());
    alias.or_else(|| language.known().into_iter().next()).unwrap_or_default()
}

struct Entry {
    language: Box<dyn Language>,
    /// Newest last; each name once.
    announced: Vec<Announced>,
}

impl Entry {
    fn means(&self, name: &str) -> Option<&Announced> {
        if self.language.aliases().contains(&name) {
            return self.announced.last();
        }
        self.announced.iter().find(|announced| announced.name == name)
    }

    fn knows(&self, name: &str) -> bool {
        self.language.aliases().contains(&name) || self.language.known().iter().any(|known| known == name)
    }
}

/// Every language, with the versions that machines have.
pub struct Elsewhere {
    entries: Vec<Entry>,
}

impl Elsewhere {
    /// What these machines have together. A language that this program does not know is left out.
    #[must_use]
    pub fn new(announced: impl IntoIterator<Item = Announced>) -> Self {
        let mut entries: Vec<Entry> =
            languages().into_iter().map(|language| Entry { language, announced: Vec::new() }).collect();
        for announced in announced {
            let own = |entry: &&mut Entry| key(&*entry.language) == announced.language;
            if let Some(entry) = entries.iter_mut().find(own) {
                entry.announced.push(announced);
            }
        }
        for entry in &mut entries {
            entry.announced.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
            entry.announced.dedup_by(|a, b| a.name == b.name);
        }
        Self { entries }
    }

    /// Whether no machine has told of any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.iter().all(|entry| entry.announced.is_empty())
    }

    /// The version name of the runtime that a version name or alias means; an alias means the newest that some machine
    /// has.
    pub fn resolve(&self, name: &RuntimeName) -> Result<RuntimeName, RuntimeError> {
        let found = self.entries.iter().find_map(|entry| entry.means(name.as_str()));
        if let Some(name) = found.and_then(|found| found.name.parse().ok()) {
            return Ok(name);
        }
        match self.entries.iter().find(|entry| entry.knows(name.as_str())) {
            Some(entry) => Err(RuntimeError::NotInstalled {
                name: name.clone(),
                hint: entry.language.installation_hint(name.as_str()),
            }),
            None => {
                let installed = |entry: &Entry| entry.announced.iter().map(|a| a.name.clone()).collect();
                let names = self.entries.iter().map(|entry| (&*entry.language, installed(entry)));
                Err(RuntimeError::Unknown { name: name.clone(), known: known_names(names) })
            }
        }
    }

    /// How code of this runtime may be shaped, the default first; nothing if the runtime is unknown. The runtime must
    /// be a version name.
    #[must_use]
    pub fn contracts(&self, runtime: &RuntimeName) -> &'static [Contract] {
        self.entry(runtime).map(|entry| entry.language.contracts()).unwrap_or_default()
    }

    /// The source file names of a single-file function of this runtime, which must be a version name.
    #[must_use]
    pub fn source_files(&self, runtime: &RuntimeName, contract: Contract, handler: &Handler) -> Vec<String> {
        self.entry(runtime).map(|entry| entry.language.source_files(contract, handler)).unwrap_or_default()
    }

    /// Every runtime that some machine has, with the aliases that mean it.
    pub fn announced(&self) -> impl Iterator<Item = (&Announced, Vec<&'static str>)> {
        let means = |alias: &str, announced: &Announced| {
            let meant = self.entries.iter().find_map(|entry| entry.means(alias));
            meant.is_some_and(|meant| meant.name == announced.name)
        };
        self.entries.iter().flat_map(move |entry| {
            entry.announced.iter().map(move |announced| {
                let aliases = entry.language.aliases().iter().copied();
                (announced, aliases.filter(|alias| means(alias, announced)).collect())
            })
        })
    }

    fn entry(&self, runtime: &RuntimeName) -> Option<&Entry> {
        let name = runtime.as_str();
        let has = |entry: &&Entry| entry.announced.iter().any(|announced| announced.name == name);
        let knows = |entry: &&Entry| entry.language.known().iter().any(|known| known == name);
        self.entries.iter().find(has).or_else(|| self.entries.iter().find(knows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(language: &str, name: &str, order: (u32, u32)) -> Announced {
        let (language, name) = (language.to_owned(), name.to_owned());
        Announced { language, name, order, version: String::new(), path: String::new() }
    }

    #[test]
    fn an_alias_means_the_newest_of_all_machines() {
        let elsewhere = Elsewhere::new([
            announced("nodejs", "nodejs22", (22, 0)),
            announced("nodejs", "nodejs20", (20, 3)),
            announced("nodejs", "nodejs22", (22, 0)),
            announced("from the future", "quantum1", (1, 0)),
        ]);
        let resolve = |name: &str| elsewhere.resolve(&name.parse().unwrap());
        assert_eq!(resolve("nodejs").unwrap().as_str(), "nodejs22");
        assert_eq!(resolve("nodejs20").unwrap().as_str(), "nodejs20");
        assert!(matches!(resolve("python312"), Err(RuntimeError::NotInstalled { .. })));
        assert!(matches!(resolve("quantum1"), Err(RuntimeError::Unknown { .. })));
        let names: Vec<_> =
            elsewhere.announced().map(|(a, aliases)| (&*a.name, !aliases.is_empty())).collect();
        assert_eq!(names, [("nodejs20", false), ("nodejs22", true)]);
    }

    #[test]
    fn what_a_machine_tells_is_what_it_resolves_itself() {
        let catalogue = Catalogue::detect(&crate::SearchPath::default());
        let elsewhere = Elsewhere::new(Announced::of(&catalogue));
        for (installed, aliases) in catalogue.installed() {
            for name in aliases.into_iter().chain([installed.name.as_str()]) {
                assert_eq!(elsewhere.resolve(&name.parse().unwrap()).unwrap(), installed.name, "{name}");
            }
            assert_eq!(elsewhere.contracts(&installed.name), catalogue.contracts(&installed.name));
        }
    }
}

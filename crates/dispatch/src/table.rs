//! Every function that can be called, in memory: looked up without a lock, replaced as a whole on deploy.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use impuls_domain::{
    Alias, AliasName, AsyncSettings, FunctionId, FunctionName, Qualifier, RevisionId, Scope, VersionNumber,
};
use impuls_store::FunctionSnapshot;
use parking_lot::Mutex;

use crate::admission::{Admission, AdmissionConfig};
use crate::recorder::Recent;
use crate::shared::Shared;
use crate::worker::Target;

/// Old versions of one function that are remembered once somebody has called them by number.
const OLD_VERSIONS: usize = 64;

/// What calls of one function see; replaced as a whole.
struct Current {
    latest: Arc<Target>,
    aliases: HashMap<AliasName, Alias>,
}

/// One function that can be called.
pub(crate) struct Entry {
    pub(crate) id: FunctionId,
    pub(crate) admission: Arc<Admission>,
    pub(crate) recent: Mutex<Recent>,
    key: Mutex<Box<str>>,
    current: ArcSwap<Current>,
    old_versions: Mutex<HashMap<VersionNumber, Arc<Target>>>,
    settings: OnceLock<Box<Shared<Option<AsyncSettings>>>>,
}

/// What a qualifier means.
pub(crate) enum Resolved {
    Target(Arc<Target>),
    /// A version that is not in memory.
    Load(VersionNumber),
    Unknown,
}

impl Entry {
    pub(crate) fn resolve(&self, qualifier: &Qualifier, random: impl FnOnce() -> u64) -> Resolved {
        let current = self.current.load();
        let number = match qualifier {
            Qualifier::Latest => return Resolved::Target(current.latest.clone()),
            Qualifier::Version(number) => *number,
            Qualifier::Alias(name) => {
                match current.aliases.get(name).and_then(|alias| alias.choose(random())) {
                    Some(number) => number,
                    None => return Resolved::Unknown,
                }
            }
        };
        if current.latest.version == number {
            return Resolved::Target(current.latest.clone());
        }
        match self.old_versions.lock().get(&number) {
            Some(target) => Resolved::Target(target.clone()),
            None => Resolved::Load(number),
        }
    }

    /// Remembers an old version, so that every call of it has the same target.
    pub(crate) fn remember(&self, target: Target) -> Arc<Target> {
        let mut old = self.old_versions.lock();
        if old.len() >= OLD_VERSIONS {
            old.clear();
        }
        old.entry(target.version).or_insert_with(|| Arc::new(target)).clone()
    }

    /// The newest target.
    pub(crate) fn latest(&self) -> Arc<Target> {
        self.current.load().latest.clone()
    }

    /// How its asynchronous invocations are handled, read from the store by all who want to know it now.
    pub(crate) fn settings(&self) -> &Shared<Option<AsyncSettings>> {
        self.settings.get_or_init(Box::default)
    }

    /// The revisions that calls may have used.
    pub(crate) fn revisions(&self) -> Vec<RevisionId> {
        let latest = self.latest().revision.id;
        std::iter::once(latest).chain(self.old_versions.lock().values().map(|old| old.revision.id)).collect()
    }

    /// Whether some alias sends calls to this version.
    pub(crate) fn is_aliased(&self, version: VersionNumber) -> bool {
        let current = self.current.load();
        let reaches = |alias: &Alias| alias.targets().iter().any(|t| t.version == version && t.weight > 0);
        current.aliases.values().any(reaches)
    }
}

/// Every function that can be called.
pub(crate) struct Table {
    by_name: papaya::HashMap<Box<str>, Arc<Entry>>,
    by_id: papaya::HashMap<FunctionId, Arc<Entry>>,
    /// Those that bound how many of their calls run at once, and by how many.
    narrow: papaya::HashMap<FunctionId, u32>,
    admission: AdmissionConfig,
}

/// The native scope's key is the name itself, so that the usual look-up allocates nothing.
fn key(scope: &Scope, name: &FunctionName) -> Box<str> {
    if scope.as_str().is_empty() {
        return name.as_str().into();
    }
    format!("{name}\0{}", scope.as_str()).into()
}

impl Table {
    pub(crate) fn new(admission: AdmissionConfig) -> Self {
        let (by_name, by_id, narrow) = Default::default();
        Self { by_name, by_id, narrow, admission }
    }

    /// By a name of the native scope.
    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Entry>> {
        self.by_name.pin().get(name).cloned()
    }

    /// The newest function of this name in any scope. Looks at every function: for names that [`Table::by_name`] does
    /// not know.
    pub(crate) fn newest_named(&self, name: &str) -> Option<Arc<Entry>> {
        let all = self.by_id.pin();
        let named = all.values().filter(|entry| entry.latest().function_name.as_str() == name);
        named.max_by_key(|entry| entry.id).cloned()
    }

    pub(crate) fn by_id(&self, id: FunctionId) -> Option<Arc<Entry>> {
        self.by_id.pin().get(&id).cloned()
    }

    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.by_id.pin().values().cloned().collect()
    }

    /// Functions that bound how many of their calls run at once, and by how many; some of them if there are more than `most`.
    pub(crate) fn narrow(&self, most: usize) -> HashMap<FunctionId, u32> {
        self.narrow.pin().iter().take(most).map(|(function, bound)| (*function, *bound)).collect()
    }

    /// Makes calls see this state of a function.
    pub(crate) fn put(&self, snapshot: &FunctionSnapshot) {
        let function = &snapshot.function;
        let name_key = key(&function.scope, &function.name);
        let limit = snapshot.latest.config.limits.max_concurrency().map(std::num::NonZeroU32::get);
        match limit {
            Some(limit) => drop(self.narrow.pin().insert(function.id, limit)),
            None => drop(self.narrow.pin().remove(&function.id)),
        }
        let aliases = snapshot.aliases.iter().map(|a| (a.name().clone(), a.clone())).collect();
        let target = Target {
            function_name: function.name.clone(),
            version: function.latest_version,
            revision: snapshot.latest.clone(),
        };
        let Some(entry) = self.by_id(function.id) else {
            let current = Current { latest: Arc::new(target), aliases };
            let entry = Arc::new(Entry {
                id: function.id,
                admission: Admission::new(self.admission, limit),
                recent: Mutex::default(),
                key: Mutex::new(name_key.clone()),
                current: ArcSwap::from_pointee(current),
                old_versions: Mutex::default(),
                settings: OnceLock::new(),
            });
            self.by_id.pin().insert(function.id, entry.clone());
            self.by_name.pin().insert(name_key, entry);
            return;
        };
        let before = entry.latest();
        let latest = if *before == target { before } else { Arc::new(target) };
        entry.current.store(Arc::new(Current { latest, aliases }));
        entry.admission.resize(limit);
        let old_key = std::mem::replace(&mut *entry.key.lock(), name_key.clone());
        let by_name = self.by_name.pin();
        by_name.insert(name_key.clone(), entry);
        if old_key != name_key {
            // Another function may have taken the old name meanwhile.
            let _kept = by_name.remove_if(&old_key, |_, other| other.id == function.id);
        }
    }

    pub(crate) fn remove(&self, id: FunctionId) -> Option<Arc<Entry>> {
        let entry = self.by_id.pin().remove(&id).cloned()?;
        self.narrow.pin().remove(&id);
        let _kept = self.by_name.pin().remove_if(&*entry.key.lock(), |_, other| other.id == id);
        Some(entry)
    }
}

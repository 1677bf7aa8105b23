//! Collection: removes versions, builds and artifacts that nothing needs any more.
//!
//! What can go is decided by two pure functions, `superfluous` for versions and `Sweep` for artifacts; the store then
//! removes only what still nothing names. An artifact goes when it has been without a name for the whole time of grace, in
//! every round of this server, and was not put during it: a deploy on whichever server puts its artifact, or finds it by
//! the name of an earlier version or build, and gives it a name of its own within that time. Two servers that collect at
//! once do the same work twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use impuls_artifacts::{ArtifactStore, Kept};
use impuls_domain::{ArtifactDigest, VersionNumber};
use impuls_store::{FunctionPage, FunctionSnapshot, FunctionStore, NotedBuild, RetentionStore, VersionStore};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::error::ControlError;
use crate::read::log_unreadable;

/// Functions, versions and builds that are looked at together.
const PAGE: u32 = 200;
/// Artifacts that are looked at together.
const ARTIFACTS: usize = 1_000;

/// What is kept of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    /// So many newest versions of a function are kept however old they are. Default 50.
    pub versions: u32,
    /// Versions are kept for so long however many there are. Default 90 days.
    pub version_age: Duration,
    /// Builds are kept for so long after a deploy has used them last. Default 30 days.
    pub build_age: Duration,
    /// What was built for the sake of builds to come alone, and nobody runs, is kept up to so many bytes. Default 10 GiB.
    pub build_bytes: u64,
    /// Artifacts are kept for so long when nothing names them. A deploy must not take longer. Default 1 hour.
    pub artifact_grace: Duration,
    /// How often is looked. Default 1 hour.
    pub every: Duration,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        let hour = Duration::from_secs(60 * 60);
        Self {
            versions: 50,
            version_age: 90 * day,
            build_age: 30 * day,
            build_bytes: 10 << 30,
            artifact_grace: hour,
            every: hour,
        }
    }
}

/// What a round has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Versions with their revisions.
    pub versions: u64,
    /// Builds.
    pub builds: u64,
    /// Artifacts.
    pub artifacts: u64,
    /// The bytes of those artifacts.
    pub bytes: u64,
}

/// Which of a function's versions can go: those beyond the newest `versions` that were published before `before`, but
/// neither `newest` nor one that an alias leads to. `listed` has the function's versions from the newest on.
fn superfluous(
    listed: &[(VersionNumber, OffsetDateTime)],
    (newest, aliased): (VersionNumber, &BTreeSet<VersionNumber>),
    (versions, before): (u32, OffsetDateTime),
) -> Vec<VersionNumber> {
    let kept = usize::try_from(versions).unwrap_or(usize::MAX);
    let old = listed
        .iter()
        .skip(kept)
        .filter(|(number, published)| *published < before && *number != newest && !aliased.contains(number));
    old.map(|(number, _)| *number).collect()
}

/// Before which instant builds have to have been noted last to go, so that what they made, and nobody runs, has at most so many bytes
/// of those kept; `None` if there are no more.
fn superfluous_builds(mut noted: Vec<NotedBuild>, kept: &[Kept], limit: u64) -> Option<OffsetDateTime> {
    let sizes: BTreeMap<ArtifactDigest, u64> = kept.iter().map(|kept| (kept.digest, kept.bytes)).collect();
    noted.sort_by_key(|build| std::cmp::Reverse(build.noted_at));
    let (mut counted, mut bytes) = (BTreeSet::new(), 0_u64);
    let first_beyond = noted.into_iter().filter(|build| !build.is_deployed).find(|build| {
        if counted.insert(build.archive) {
            bytes = bytes.saturating_add(sizes.get(&build.archive).copied().unwrap_or_default());
        }
        bytes > limit
    });
    // Instants are kept to the microsecond, and this one goes itself.
    first_beyond.map(|build| build.noted_at + Duration::from_micros(1))
}

/// Since when artifacts have no name, as far as this server has seen.
#[derive(Clone, Debug, Default)]
struct Sweep {
    nameless: BTreeMap<ArtifactDigest, SystemTime>,
}

impl Sweep {
    /// One look at all artifacts. `named` must have been read after `kept`. Returns what can go.
    fn look(
        &mut self,
        kept: &[Kept],
        named: &BTreeSet<ArtifactDigest>,
        (now, grace): (SystemTime, Duration),
    ) -> Vec<Kept> {
        let nameless = kept.iter().filter(|kept| !named.contains(&kept.digest));
        let next = nameless.clone().map(|kept| {
            let since = self.nameless.get(&kept.digest).copied().unwrap_or(now);
            // The clock may have been set back.
            (kept.digest, since.min(now))
        });
        self.nameless = next.collect();
        let is_over = |since: SystemTime| now.duration_since(since).is_ok_and(|age| age >= grace);
        let gone = nameless.filter(|kept| {
            is_over(kept.at) && self.nameless.get(&kept.digest).is_some_and(|since| is_over(*since))
        });
        gone.copied().collect()
    }
}

/// What a collector works on.
#[derive(Clone)]
pub struct CollectorParts {
    /// Functions.
    pub functions: Arc<dyn FunctionStore>,
    /// Their versions.
    pub versions: Arc<dyn VersionStore>,
    /// What removes, and what names artifacts.
    pub retention: Arc<dyn RetentionStore>,
    /// Code.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// Whose code that has to be for it to be removed: this store's number.
    pub owner: String,
}

/// Removes what nothing needs, from time to time.
pub struct Collector {
    config: RetentionConfig,
    parts: CollectorParts,
    sweep: Sweep,
}

impl Collector {
    /// A collector that has seen nothing yet.
    #[must_use]
    pub fn new(config: RetentionConfig, parts: CollectorParts) -> Self {
        Self { config, parts, sweep: Sweep::default() }
    }

    /// Collects until `stop` turns true or its sender is gone; a round may be dropped half-way. The first begins at once. What a
    /// round has removed, and why it could not, is in the log.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let rounds = async {
            loop {
                match self.round(SystemTime::now()).await {
                    Ok(Collected { versions: 0, builds: 0, artifacts: 0, .. }) => {}
                    Ok(gone) => tracing::info!(
                        versions = gone.versions,
                        builds = gone.builds,
                        artifacts = gone.artifacts,
                        bytes = gone.bytes,
                        "collected what nothing needs any more"
                    ),
                    Err(error) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot collect now; it is tried again in the next round"
                    ),
                }
                tokio::time::sleep(self.config.every).await;
            }
        };
        tokio::select! {
            () = rounds => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// One round. Repeatable; what was removed before an error stays removed.
    async fn round(&mut self, now: SystemTime) -> Result<Collected, ControlError> {
        let old = OffsetDateTime::from(now) - self.config.build_age;
        let mut gone = Collected {
            versions: self.versions(now).await?,
            builds: self.forget_builds(old).await?,
            ..Collected::default()
        };
        let kept = self.kept().await?;
        if let Some(before) = superfluous_builds(self.noted().await?, &kept, self.config.build_bytes) {
            gone.builds += self.forget_builds(before).await?;
        }
        let named = self.named().await?;
        let owner = self.parts.artifacts.claim(&self.parts.owner).await?;
        if owner != self.parts.owner {
            tracing::error!(
                owner,
                "the code belongs to another store now, so nothing of it is removed; stop this server, or give it code of its own"
            );
            return Ok(gone);
        }
        let grace = self.config.artifact_grace;
        let before = now.checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
        for artifact in self.sweep.look(&kept, &named, (now, grace)) {
            if self.parts.artifacts.discard(&artifact.digest, before).await? {
                gone.artifacts += 1;
                gone.bytes += artifact.bytes;
            }
        }
        Ok(gone)
    }

    async fn versions(&self, now: SystemTime) -> Result<u64, ControlError> {
        let published_before = OffsetDateTime::from(now) - self.config.version_age;
        let (mut gone, mut before) = (0, None);
        loop {
            let page = self.parts.functions.list_functions(FunctionPage { before, limit: PAGE }).await;
            let page = page.map_err(ControlError::Store)?;
            log_unreadable(&page.unreadable);
            let Some(last) = page.last else { return Ok(gone) };
            before = Some(last);
            for function in &page.functions {
                if function.function.latest_version.get() > u64::from(self.config.versions) {
                    gone += self.versions_of(function, published_before).await?;
                }
            }
        }
    }

    async fn versions_of(
        &self,
        function: &FunctionSnapshot,
        published_before: OffsetDateTime,
    ) -> Result<u64, ControlError> {
        let FunctionSnapshot { function, aliases, .. } = function;
        let (mut listed, mut before) = (Vec::new(), None);
        loop {
            let page = self.parts.versions.list_versions(function.id, before, PAGE).await;
            let page = page.map_err(ControlError::Store)?;
            let Some(last) = page.last() else { break };
            before = Some(last.number);
            listed.extend(page.iter().map(|version| (version.number, version.published_at)));
        }
        let aliased = aliases.iter().flat_map(|alias| alias.targets()).map(|target| target.version).collect();
        let names = (function.latest_version, &aliased);
        let numbers = superfluous(&listed, names, (self.config.versions, published_before));
        if numbers.is_empty() {
            return Ok(0);
        }
        let deleted = self.parts.retention.delete_versions(function.id, &numbers).await;
        deleted.map_err(ControlError::Store)
    }

    async fn noted(&self) -> Result<Vec<NotedBuild>, ControlError> {
        let mut all: Vec<NotedBuild> = Vec::new();
        loop {
            let page = self.parts.retention.list_builds(all.last().map(|build| build.key), PAGE).await;
            let page = page.map_err(ControlError::Store)?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    async fn forget_builds(&self, before: OffsetDateTime) -> Result<u64, ControlError> {
        let mut gone = 0;
        loop {
            let some = self.parts.retention.delete_builds(before, PAGE).await.map_err(ControlError::Store)?;
            gone += some;
            if some < u64::from(PAGE) {
                return Ok(gone);
            }
        }
    }

    async fn kept(&self) -> Result<Vec<Kept>, ControlError> {
        let mut all: Vec<Kept> = Vec::new();
        loop {
            let page = self.parts.artifacts.list(all.last().map(|kept| kept.digest), ARTIFACTS).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    async fn named(&self) -> Result<BTreeSet<ArtifactDigest>, ControlError> {
        let mut all = BTreeSet::new();
        loop {
            let page = self.parts.retention.list_artifacts(all.last().copied(), 1_000).await;
            let page = page.map_err(ControlError::Store)?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }
}

#[cfg(test)]
mod tests;

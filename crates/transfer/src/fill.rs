//! Filling a store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use impuls_artifacts::{ArtifactStore, digest_of};
use impuls_domain::ArtifactDigest;
use impuls_store::{Filling, FunctionPage, FunctionStore, Hold, Row, StoreError, Table, Transfer};
use time::{Duration, OffsetDateTime};

use crate::error::TransferError;
use crate::source::{PAGE, Piece, Progress, Source};
use crate::tally::{Sum, Tally};

/// Where everything goes.
#[derive(Clone)]
pub struct Target {
    /// The rows.
    pub rows: Arc<dyn Transfer>,
    /// The same store as it is used, to see that it can be.
    pub functions: Arc<dyn FunctionStore>,
    /// The artifacts.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// Functions as files that are there already, and belong to whoever has put them there.
    pub files: Option<PathBuf>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").finish_non_exhaustive()
    }
}

/// A store that has everything, and does not say so yet. Dropped, it is as half-filled.
pub struct Fill {
    begun: Begun,
    target: Target,
    /// Functions, all rows and artifacts that are there.
    pub counts: [u64; 3],
}

impl std::fmt::Debug for Fill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fill").field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// What has come of filling a store.
#[derive(Debug)]
pub enum Filled {
    /// Everything is there now.
    Now(Fill),
    /// Everything has been there since then, and is the same.
    Before {
        /// When it was complete.
        at: OffsetDateTime,
        /// Functions, all rows and artifacts that are there.
        counts: [u64; 3],
    },
}

/// A store that is being filled, by nobody else.
struct Begun {
    filling: Filling,
    _hold: Box<dyn Send>,
}

/// What there is to do.
enum Begin {
    Filling(Begun),
    /// Nothing, since then.
    Done(OffsetDateTime),
}

impl Fill {
    /// Says that everything is there; from now on the store may be used.
    pub async fn finish(self, now: OffsetDateTime) -> Result<(), TransferError> {
        let filling = Filling { ended_at: Some(now), ..self.begun.filling.clone() };
        self.target.rows.put_filling(&filling).await.map_err(failed)
    }
}

/// Puts everything into an empty store, or the rest into one that was being filled from the same source, and compares
/// at the end. Repeatable; after [`Fill::finish`] it only compares, and is [`TransferError::ChangedSince`] if anything is
/// different.
pub async fn fill(
    source: &mut impl Source,
    target: &Target,
    now: OffsetDateTime,
    progress: &mut dyn Progress,
) -> Result<Filled, TransferError> {
    let begun = begin(source.name(), target, now).await?;
    progress.total(source.steps().await?);
    let mut seen = Seen::default();
    while let Some(piece) = source.next().await? {
        match piece {
            Piece::Rows(table, rows) => {
                progress.doing(table.name());
                progress.done(rows.len() as u64);
                seen.rows(table, &rows);
                if let Begin::Filling(begun) = &begun {
                    target.rows.put_rows(&begun.filling, table, rows).await.map_err(failed)?;
                }
            }
            Piece::Artifact(bytes) => {
                progress.doing("artifacts");
                let digest = digest_of(&bytes);
                // Whatever is there and whole is not written again.
                if matches!(begun, Begin::Filling(_)) && target.artifacts.get(&digest).await.is_err() {
                    target.artifacts.put(bytes).await?;
                }
                seen.artifacts.push(digest);
            }
        }
    }
    progress.doing("comparing");
    let counts = seen.compare(target).await;
    match begun {
        Begin::Filling(begun) => Ok(Filled::Now(Fill { begun, target: target.clone(), counts: counts? })),
        Begin::Done(at) => Ok(Filled::Before { at, counts: counts.map_err(|error| since(at, error))? }),
    }
}

/// What is different in a store that was filled before was changed since.
fn since(at: OffsetDateTime, error: TransferError) -> TransferError {
    match error {
        TransferError::Different { table, found, expected } => {
            TransferError::ChangedSince { at, table, found, expected }
        }
        other => other,
    }
}

/// Another filling is the one thing that a store can be in conflict with.
fn failed(error: StoreError) -> TransferError {
    match error {
        StoreError::Conflict => TransferError::Overtaken,
        other => other.into(),
    }
}

/// Takes the target, sees that it may be filled, and says that it is being filled.
async fn begin(source: &str, target: &Target, now: OffsetDateTime) -> Result<Begin, TransferError> {
    let hold = match target.rows.hold().await? {
        Hold::Held(hold) => hold,
        Hold::Servers(count) => return Err(TransferError::InUse(count)),
        Hold::Taken => return Err(TransferError::Overtaken),
    };
    let mut started_at = now;
    match target.rows.find_filling().await? {
        Some(Filling { source: known, ended_at: None, .. }) if known != source => {
            return Err(TransferError::OtherSource { source_name: known });
        }
        // Whoever had begun that, and may not have ended, is told apart by when this begins.
        Some(Filling { started_at: before, ended_at: None, .. }) => {
            started_at = now.max(before + Duration::MILLISECOND);
        }
        Some(Filling { source: known, ended_at: Some(ended_at), .. }) if known == source => {
            match refuse_contents(target).await {
                Err(TransferError::NotEmpty { .. } | TransferError::Files { .. }) => {
                    return Ok(Begin::Done(ended_at));
                }
                // Somebody has emptied it to have it filled again.
                other => other?,
            }
        }
        Some(_) | None => refuse_contents(target).await?,
    }
    let id = target.rows.identity().await?.to_string();
    let owner = target.artifacts.claim(&id).await?;
    if owner != id {
        return Err(TransferError::ForeignCode { owner, target: id });
    }
    let filling = Filling { source: source.to_owned(), started_at, ended_at: None };
    target.rows.put_filling(&filling).await?;
    Ok(Begin::Filling(Begun { filling, _hold: hold }))
}

async fn refuse_contents(target: &Target) -> Result<(), TransferError> {
    let mut state = target.rows.snapshot().await?;
    for table in Table::ALL {
        let count = state.count_rows(table).await?;
        if count > 0 {
            return Err(TransferError::NotEmpty { table: table.name(), count });
        }
    }
    match &target.files {
        Some(path) => Err(TransferError::Files { path: path.clone() }),
        None => Ok(()),
    }
}

/// What the source has.
#[derive(Default)]
struct Seen {
    tallies: BTreeMap<Table, Tally>,
    artifacts: Vec<ArtifactDigest>,
}

impl Seen {
    fn rows(&mut self, table: Table, rows: &[Row]) {
        let tally = self.tallies.entry(table).or_default();
        rows.iter().for_each(|row| tally.add(row));
    }

    /// Reads everything in the target.
    async fn compare(self, target: &Target) -> Result<[u64; 3], TransferError> {
        let mut state = target.rows.snapshot().await?;
        let (mut functions, mut rows) = (0, 0);
        for table in Table::ALL {
            let expected = self.tallies.get(&table).cloned().unwrap_or_default().end();
            let found = sum(&mut *state, table).await?;
            if found != expected {
                let (found, expected) = (found.to_string(), expected.to_string());
                return Err(TransferError::Different { table: table.name(), found, expected });
            }
            rows += found.count;
            if table == Table::Functions {
                functions = found.count;
            }
        }
        drop(state);
        for digest in &self.artifacts {
            target.artifacts.get(digest).await?;
        }
        read_functions(&*target.functions).await?;
        Ok([functions, rows, self.artifacts.len() as u64])
    }
}

async fn sum(state: &mut dyn impuls_store::Snapshot, table: Table) -> Result<Sum, TransferError> {
    let mut tally = Tally::default();
    let mut last: Option<Row> = None;
    loop {
        let rows = state.rows(table, last.as_ref(), PAGE).await?;
        rows.iter().for_each(|row| tally.add(row));
        match rows.into_iter().next_back() {
            Some(row) => last = Some(row),
            None => return Ok(tally.end()),
        }
    }
}

/// Whatever cannot be read as a function must not be found by a server first.
async fn read_functions(functions: &dyn FunctionStore) -> Result<(), TransferError> {
    let mut before = None;
    loop {
        let page = functions.list_functions(FunctionPage { before, limit: 200 }).await?.all()?;
        let Some(last) = page.last() else { return Ok(()) };
        before = Some(last.function.id);
    }
}

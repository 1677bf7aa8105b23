//! Where everything comes from.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use impuls_artifacts::{ArtifactError, ArtifactStore};
use impuls_domain::ArtifactDigest;
use impuls_store::{Cell, Row, Snapshot, Table};

use crate::error::TransferError;

/// Rows of one page.
pub(crate) const PAGE: u32 = 500;

/// What happens, for whoever looks on.
pub trait Progress: Send {
    /// So many steps are ahead, rows and artifacts together.
    fn total(&mut self, steps: u64);
    /// So many further ones are done.
    fn done(&mut self, steps: u64);
    /// This is being done.
    fn doing(&mut self, what: &str);
}

/// What is asked for next.
#[derive(Debug)]
pub enum Piece {
    /// Rows of one table. Tables come in their order, the rows of one in the order of their keys.
    Rows(Table, Vec<Row>),
    /// Bytes that rows name; their digest has been checked.
    Artifact(Bytes),
}

/// Something that has everything, piece by piece: all rows, then all artifacts.
#[expect(async_fn_in_trait, reason = "used here alone, and never behind a pointer")]
pub trait Source {
    /// What no other source is called; the same source has the same name again.
    fn name(&self) -> &str;

    /// How many pieces there are at least, for people.
    async fn steps(&mut self) -> Result<u64, TransferError>;

    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Piece>, TransferError>;
}

/// A store with its artifacts.
pub struct StoreSource {
    name: String,
    state: Box<dyn Snapshot>,
    artifacts: Arc<dyn ArtifactStore>,
    /// Functions without code are no reason to stop.
    allow_missing_code: bool,
    /// What is read: the place of a table, and the last row of it.
    at: (usize, Option<Row>),
    wanted: BTreeSet<ArtifactDigest>,
    /// Of those, what functions cannot do without.
    needed: BTreeSet<ArtifactDigest>,
    missing: u64,
}

impl std::fmt::Debug for StoreSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreSource").field("name", &self.name).finish_non_exhaustive()
    }
}

impl StoreSource {
    /// One state of a store, and the artifacts that it names.
    #[must_use]
    pub fn new(
        name: String,
        state: Box<dyn Snapshot>,
        artifacts: Arc<dyn ArtifactStore>,
        allow_missing_code: bool,
    ) -> Self {
        let (wanted, needed) = (BTreeSet::new(), BTreeSet::new());
        Self { name, state, artifacts, allow_missing_code, at: (0, None), wanted, needed, missing: 0 }
    }

    /// How many artifacts that functions need were not there.
    #[must_use]
    pub const fn missing(&self) -> u64 {
        self.missing
    }

    fn note_artifacts(&mut self, table: Table, row: &Row) {
        for column in table.artifact_columns() {
            let cell = table.place(column).and_then(|place| row.0.get(place));
            let Some(Cell::Bytes(bytes)) = cell else { continue };
            let Ok(bytes) = <[u8; 32]>::try_from(bytes.as_slice()) else { continue };
            let digest = ArtifactDigest::from_bytes(bytes);
            self.wanted.insert(digest);
            if table == Table::Revisions {
                self.needed.insert(digest);
            }
        }
    }

    async fn next_artifact(&mut self) -> Result<Option<Piece>, TransferError> {
        while let Some(digest) = self.wanted.pop_first() {
            match self.artifacts.get(&digest).await {
                Ok(bytes) => return Ok(Some(Piece::Artifact(bytes))),
                // What a build made can be made again.
                Err(ArtifactError::NotFound(_) | ArtifactError::Damaged(_))
                    if !self.needed.contains(&digest) => {}
                Err(ArtifactError::NotFound(_) | ArtifactError::Damaged(_)) if self.allow_missing_code => {
                    self.missing += 1;
                }
                Err(ArtifactError::NotFound(_) | ArtifactError::Damaged(_)) => {
                    return Err(TransferError::MissingCode(digest));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

impl Source for StoreSource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn steps(&mut self) -> Result<u64, TransferError> {
        let mut steps = 0;
        for table in Table::ALL {
            steps += self.state.count_rows(table).await?;
        }
        Ok(steps)
    }

    async fn next(&mut self) -> Result<Option<Piece>, TransferError> {
        while let Some(table) = Table::ALL.get(self.at.0).copied() {
            let rows = self.state.rows(table, self.at.1.as_ref(), PAGE).await?;
            let Some(last) = rows.last() else {
                self.at = (self.at.0 + 1, None);
                continue;
            };
            self.at.1 = Some(last.clone());
            for row in &rows {
                self.note_artifacts(table, row);
            }
            return Ok(Some(Piece::Rows(table, rows)));
        }
        self.next_artifact().await
    }
}

//! Counts and digests of what went by.

use std::fmt;

use impuls_store::{Cell, Row};
use sha2::{Digest as _, Sha256};

/// How many rows, and the digest of all of them in their order.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    count: u64,
    hasher: Sha256,
}

/// A tally at its end.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Sum {
    pub(crate) count: u64,
    pub(crate) sha256: String,
}

impl Tally {
    /// Each value with its kind and length, so that different rows are different bytes.
    pub(crate) fn add(&mut self, row: &Row) {
        self.count += 1;
        for cell in &row.0 {
            let (kind, bytes): (u8, &[u8]) = match cell {
                Cell::Null => (0, &[]),
                Cell::Integer(number) => {
                    self.hasher.update([1]);
                    self.hasher.update(number.to_be_bytes());
                    continue;
                }
                Cell::Text(text) => (2, text.as_bytes()),
                Cell::Bytes(bytes) => (3, bytes),
            };
            self.hasher.update([kind]);
            self.hasher.update((bytes.len() as u64).to_be_bytes());
            self.hasher.update(bytes);
        }
    }

    pub(crate) fn end(self) -> Sum {
        let digest = self.hasher.finalize();
        Sum { count: self.count, sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (sha256 {})", self.count, self.sha256.get(..12).unwrap_or_default())
    }
}

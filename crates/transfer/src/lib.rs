//! Everything that a server stores, from one store to another, or to a file and back. One way of doing all of it: rows
//! of a [`Snapshot`](impuls_store::Snapshot) and artifacts go from a [`Source`] to a [`Target`], and are compared at the end.
//!
//! ```text
//!   store ──┐              ┌──> store          `migrate`: store to store
//!           ├──> fill() ───┤                   `backup`: store to file, in `archive`
//!   file  ──┘              └──> verified       `restore`: file to store
//! ```
//!
//! A store that is being filled says so itself until everything is there and compared, so a server does not use
//! half of it, and who fills it again from the same source goes on.

pub mod archive;
pub mod error;
pub mod fill;
pub mod source;

mod tally;

pub use archive::{Backup, write_backup};
pub use error::TransferError;
pub use fill::{Fill, Filled, Target, fill};
pub use source::{Progress, Source, StoreSource};

//! Functions as a tree of files that people can read and edit, beside another metadata store:
//!
//! ```text
//!   functions/metadata/hello.json      what the function is, in the words of the HTTP API
//!   functions/code/hello/function.js   its source files
//!   functions/pending/<id>             a change that is being written
//! ```
//!
//! The other store is the truth; the tree shows the newest revision of each function. [`store`] writes the tree with each
//! change, [`look`] finds what somebody has edited. What becomes of an edit is not decided here: whoever looks
//! deploys it as any other deploy, which writes the tree anew.
//!
//! `tree` knows where things are and puts them there, `card` what is in a metadata file, `scan` reads folders that
//! anybody may have written to, `pack` makes an archive of one.

pub mod error;
pub mod look;
pub mod store;

mod card;
mod pack;
mod scan;
mod tree;

pub use error::FileError;
pub use look::{Edit, Finding, Look, NewCode, Touched};
pub use store::FileStore;

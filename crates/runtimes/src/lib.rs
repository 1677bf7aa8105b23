//! The languages: what each needs of a machine, where it is found and how its sandboxes start.
//!
//! A language is one small file that implements [`Language`]; [`catalogue`] asks all of them once, at start-up, and
//! answers every later question from memory. Nothing here runs a function.

pub mod agent;
pub mod build;
pub mod catalogue;
pub mod closure;
pub mod csharp;
pub mod elsewhere;
pub mod go;
pub mod guest;
pub mod language;
pub mod node;
mod npm;
mod pip;
pub mod python;
pub mod rooted;
pub mod ruby;
pub mod rust;
pub mod script;
pub mod system;
pub mod typescript;

pub use build::{Build, Inputs, Seed, Source};
pub use catalogue::{Catalogue, Launch, RuntimeError};
pub use elsewhere::{Announced, Elsewhere};
pub use language::{Installed, Language, SearchPath};
pub use rooted::Rooted;

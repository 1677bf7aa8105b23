//! Sandboxes on one machine: which are kept, which are made and which call gets which.
//!
//! [`LocalWorker`] implements `dispatch::Worker`. [`pool_core`] decides for one revision and is pure; [`pool`] is
//! its shell; [`start`] makes a sandbox of a revision, from [`prewarm`] if it can; [`run`] is the path of a
//! call, `relay` what passes through it meanwhile. `refusals` remembers what network policies refused. [`execute`] and [`build`] run one thing in a sandbox of its own.

pub mod build;
mod capacity;
pub mod config;
pub mod drivers;
pub mod execute;
pub mod front;
pub mod live;
pub mod local;
pub mod memory;
mod mounted;
pub mod pool;
pub mod pool_core;
pub mod prewarm;
mod refusals;
mod relay;
mod room;
pub mod run;
pub mod start;

pub use build::{BuildPlan, BuildSettings, Planned};
pub use config::Config;
pub use drivers::Drivers;
pub use local::{LocalWorker, Parts};

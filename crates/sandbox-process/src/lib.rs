//! Sandboxes from Linux namespaces, cgroups, seccomp and Landlock: the `process` driver.
//!
//! [`ProcessDriver`] is what the server holds; it starts one *spawner*, the same program executed again, whose
//! `main` is [`spawner_main`]. The spawner makes sandboxes: `template` builds a runtime's root once, `spawner`
//! has the life of a sandbox from outside, `init` from inside. [`isolation`] says what works on a machine.

mod cgroup;
pub mod config;
pub mod driver;
mod failure;
mod init;
pub mod isolation;
mod landlock;
mod messages;
mod network;
mod orphans;
mod probe;
mod sandbox;
mod seccomp;
mod spawner;
mod sys;
mod template;
mod transport;

pub use config::{Config, NetworkConfig};
pub use driver::ProcessDriver;
pub use isolation::{IsolationReport, Layer, LayerName, probe};
pub use spawner::spawner_main;

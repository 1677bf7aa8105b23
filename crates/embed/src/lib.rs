//! Runs one command in one sandbox and gives back what it wrote: Impuls' process sandbox as a library.
//!
//! ```no_run
//! use impuls_embed::{Options, ProcessExecutor, SandboxConfig, SandboxExecutor};
//!
//! fn main() {
//!     impuls_embed::init();
//!     run();
//! }
//!
//! #[tokio::main]
//! async fn run() {
//!     let executor = ProcessExecutor::start(Options::default()).await.unwrap();
//!
//!     let result = executor.execute(SandboxConfig {
//!         function_id: "test".to_string(),
//!         source: "alpine:latest".to_string(),
//!         command: vec!["echo".to_string(), "Hello FaaS".to_string()],
//!         env_vars: None,
//!         payload: vec![],
//!     }).await.unwrap();
//!
//!     println!("Output: {:?}", result.response);
//! }
//! ```
//!
//! # The helper
//!
//! Sandboxes are made by a small process with a single thread (the *spawner*), and inside each of them a small program
//! (the *agent*) runs the command. Both are one executable file, the *helper*. It is one of these, looked for in this
//! order:
//!
//! 1. the file that [`Options::helper`] names;
//! 2. this very program, if its `main` calls [`init`] before anything else, so that nothing has to be installed;
//! 3. the program `impuls` on the `PATH`, for programs that cannot: with `#[tokio::main]` on `main` itself, threads
//!    exist before any line of one's own.
//!
//! # What a command can do
//!
//! It sees the machine's own programs (`/usr`, `/bin`, `/lib`), read-only, an `/etc` with nothing of the machine's, and
//! a `/tmp` of its own, which is where it starts. It has no network, sees no other process, runs as a user of its own
//! and within the limits of [`Options`]. Nothing of it is left afterwards, and no two commands share a sandbox.
//! [`SandboxConfig::source`] names a container image; there is no container engine here, so only images that the
//! machine's own programs can stand for are accepted ([`ProcessExecutor::execute`] refuses the others).

mod config;
mod error;
mod executor;
mod program;

pub use config::{InvocationResult, Options, SandboxConfig};
pub use error::ExecutorError;
pub use executor::{ProcessExecutor, SandboxExecutor};
pub use program::init;

//! The program that is executed as the spawner and as the agent.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::ExecutorError;

/// The name of the spawner's process, by which it knows what it is; no user starts a program under such a name.
const SPAWNER: &str = "impuls-spawner";
/// Where the agent is inside a sandbox.
const AGENT: &str = "/opt/impuls/agent";
/// The installed program that may serve as the helper.
const INSTALLED: &str = "impuls";

/// Whether this program can be the helper.
static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Lets this very program be the helper; to be called first thing in `main`, before there is a second thread and
/// before anything is read from or written to. When the program was started by an executor, this does not return.
///
/// An ordinary start of the program is told apart by its name, not by its arguments, which are all one's own.
pub fn init() {
    match std::env::args().next().as_deref() {
        Some(SPAWNER) => leave(impuls_sandbox_process::spawner_main()),
        Some(AGENT) => leave(impuls_agent::main(&[])),
        _ => INITIALISED.store(true, Ordering::SeqCst),
    }
}

fn leave(code: std::process::ExitCode) -> ! {
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS))
}

/// The file of the helper.
pub(crate) fn find(named: Option<PathBuf>) -> Result<PathBuf, ExecutorError> {
    if let Some(named) = named {
        return named.canonicalize().map_err(|_| ExecutorError::NoHelper);
    }
    if INITIALISED.load(Ordering::SeqCst) {
        return std::env::current_exe().map_err(|_| ExecutorError::NoHelper);
    }
    let path = search_path();
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(INSTALLED));
    let found = candidates.find(|file| file.is_file()).and_then(|file| file.canonicalize().ok());
    found.ok_or(ExecutorError::NoHelper)
}

#[expect(clippy::disallowed_methods, reason = "a program that embeds this has no other configuration")]
fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

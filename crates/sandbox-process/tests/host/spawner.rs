//! The program that tests of this crate execute as the spawner: like `bin`, it is nothing else when told so.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("spawner") => impuls_sandbox_process::spawner_main(),
        _ => ExitCode::FAILURE,
    }
}

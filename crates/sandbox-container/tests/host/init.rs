//! The program that tests of this crate show to containers as their process 1: like `bin`, it is nothing else when told so.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == impuls_sandbox_container::config::ARGUMENT => {
            impuls_sandbox_container::init_main(&arguments.collect::<Vec<_>>())
        }
        _ => ExitCode::FAILURE,
    }
}

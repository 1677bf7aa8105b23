//! What the process was started for.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::{serve, strip};

/// Does what the words after `agent` on the command line say: nothing serves a sandbox, `strip-types FROM TO [single]`
/// makes JavaScript of the TypeScript below a folder. To be called first in a process that was started for this, while
/// it has one thread.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    match words.as_slice() {
        [] => serve::run(),
        ["strip-types", from, to] => strip::main(Path::new(from), Path::new(to), false),
        ["strip-types", from, to, "single"] => strip::main(Path::new(from), Path::new(to), true),
        _ => ExitCode::from(2),
    }
}

//! Process 1 of a container: the server's own program, which starts the runtime's process, reaps whatever is orphaned,
//! tells the server how the process ended, and ends the container by ending. A runtime as process 1 would be neither
//! killed by its own signals nor rid of orphans.
//!
//! It belongs to the same user as the code it watches, so it is not dumpable (its memory, descriptors and environment are
//! then not for that user), and the kernel lets nobody inside send it a deadly signal. When the server is gone its socket
//! ends, and so does the container.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use rustix::process::{DumpableBehavior, Pid, WaitOptions, WaitStatus, set_dumpable_behavior, wait};

use crate::{seccomp, sys};

/// The descriptor of the listening socket, which is the runtime's.
const LISTENER: RawFd = 3;
/// The socket to the server.
const CONTROL: RawFd = 4;
/// Followed by exit code and signal (4 bytes each), -1 for none.
const EXITED: u8 = b'X';
/// Followed by the error number and four bytes of nothing.
const FAILED: u8 = b'F';
/// The one message to the server.
pub(crate) const MESSAGE: usize = 9;

/// What process 1 says when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The runtime's process has ended.
    Exited { code: Option<i32>, signal: Option<i32> },
    /// It could not be executed: an error number.
    Failed(i32),
}

impl Word {
    fn write(self) -> [u8; MESSAGE] {
        let (kind, first, second) = match self {
            Self::Exited { code, signal } => (EXITED, code.unwrap_or(-1), signal.unwrap_or(-1)),
            Self::Failed(errno) => (FAILED, errno, 0),
        };
        let ([a, b, c, d], [e, f, g, h]) = (first.to_le_bytes(), second.to_le_bytes());
        [kind, a, b, c, d, e, f, g, h]
    }

    /// Reads what [`write`](Self::write) wrote.
    pub(crate) fn read(message: [u8; MESSAGE]) -> Option<Self> {
        let [kind, a, b, c, d, e, f, g, h] = message;
        let (first, second) = (i32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]));
        let number = |number: i32| Some(number).filter(|&number| number >= 0);
        match kind {
            EXITED => Some(Self::Exited { code: number(first), signal: number(second) }),
            FAILED => Some(Self::Failed(first)),
            _ => None,
        }
    }
}

/// The life of process 1: executes the command, whose descriptor 3 is the listening socket, and waits for its end. To be
/// called first in a process that an OCI runtime has started with the two descriptors of this driver.
#[must_use]
pub fn init_main(command: &[OsString]) -> ExitCode {
    let Ok(control) = sys::adopt(CONTROL).map(UnixStream::from) else { return ExitCode::FAILURE };
    let Some((program, arguments)) = command.split_first() else { return ExitCode::FAILURE };
    if set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err()
        || sys::keep_on_exec(LISTENER).is_err()
        || seccomp::answer_as_older().is_err()
    {
        return ExitCode::FAILURE;
    }
    let Ok(watched) = control.try_clone() else { return ExitCode::FAILURE };
    let started = Command::new(program).args(arguments).stdin(Stdio::null()).spawn();
    let child = match started {
        Ok(child) => child,
        Err(error) => return leave(&control, Word::Failed(error.raw_os_error().unwrap_or(libc::EIO))),
    };
    // The child has its own.
    drop(sys::adopt(LISTENER));
    let Some(runtime) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return ExitCode::FAILURE;
    };
    let watching = thread::Builder::new().spawn(move || {
        // The server says nothing; the end of its socket is its own end.
        let _end = (&watched).read(&mut [0]);
        std::process::exit(0);
    });
    if watching.is_err() {
        return ExitCode::FAILURE;
    }
    leave(&control, reap(runtime))
}

/// Reaps orphans until the runtime's process ends.
fn reap(runtime: Pid) -> Word {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == runtime => return word_of(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Word::Failed(error.raw_os_error()),
        }
    }
}

fn word_of(status: WaitStatus) -> Word {
    Word::Exited { code: status.exit_status(), signal: status.terminating_signal() }
}

fn leave(mut control: &UnixStream, word: Word) -> ExitCode {
    match control.write_all(&word.write()) {
        Ok(()) => ExitCode::SUCCESS,
        // The server is gone.
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_as_it_was_written() {
        for word in [
            Word::Exited { code: Some(3), signal: None },
            Word::Exited { code: None, signal: Some(9) },
            Word::Failed(2),
        ] {
            assert_eq!(Word::read(word.write()), Some(word));
        }
        assert_eq!(Word::read([0; MESSAGE]), None);
    }
}

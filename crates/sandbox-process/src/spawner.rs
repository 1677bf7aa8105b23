//! The spawner: the process that makes sandboxes and is the parent of everything in them.
//!
//! It has one thread, so that copies of it are whole, and because the kernel ties "kill me when my parent ends"
//! to the *thread* that made a child. The server starts it as its own program executed again, with an empty
//! environment and a socket as descriptor 0; it lives as long as that socket. When it ends, however it ends,
//! every process 1 of a sandbox is killed by the kernel, and everything else in the sandbox with it.
//!
//! As an ordinary user's it also starts the process of the network's yard ([`yard`]).
//!
//! [`privilege`] is how it gets the rights that it needs, [`events`] the loop, [`place`] the life of one sandbox,
//! [`zygote`] the interpreters that fork.

mod assign;
mod events;
pub(crate) mod ids;
mod place;
mod privilege;
mod yard;
mod zygote;

use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, Signal};

pub(crate) use assign::CODE;
pub(crate) use privilege::Identity;
pub(crate) use yard::{end as end_yard, start as start_yard};
pub(crate) use zygote::ENVIRONMENT;

use crate::failure::{Failure, Step};
use crate::sys;

/// The argument by which the program knows that it is the spawner.
pub(crate) const ARGUMENT: &str = "spawner";
/// Follows [`ARGUMENT`] when the program has executed itself again in a user namespace of its own.
pub(crate) const INSIDE: &str = "inside";
/// Follows [`ARGUMENT`] in the process of a yard.
pub(crate) const YARD: &str = "yard";
/// Descriptors below this belong to standard input, output, error and the listener of a sandbox.
const ABOVE_STDIO: i32 = 10;

/// The `main` of the spawner: `bin` calls it, before anything else, when its first argument is `spawner`.
#[must_use]
pub fn spawner_main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever started it sees the socket close and says so; the reason goes where the server's own messages
        // go.
        Err(failure) => {
            let remedy = privilege::remedy(&failure);
            let text = format!("impuls spawner: {}: {}{remedy}\n", failure.step, failure.source);
            let _nobody_reads = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    if arguments.iter().any(|argument| argument == YARD) {
        return crate::network::yard::keep();
    }
    let parent = rustix::process::getppid();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).step("set parent death signal")?;
    if parent.is_none() || rustix::process::getppid() != parent {
        return Ok(());
    }
    let identity = if arguments.iter().any(|argument| argument == INSIDE) {
        Identity::Mapped
    } else {
        privilege::acquire()?
    };
    // Signals for the terminal's foreground group are the server's to handle.
    let _leader_already = rustix::process::setsid();
    rustix::process::umask(rustix::fs::Mode::from(0o022));
    let files = rustix::process::getrlimit(Resource::Nofile).maximum;
    let _kept = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files });
    let socket = sys::adopt(0).step("adopt socket")?;
    let server = rustix::io::fcntl_dupfd_cloexec(&socket, ABOVE_STDIO).step("move socket")?;
    let null = std::fs::File::open("/dev/null").step("open /dev/null")?;
    sys::duplicate_onto(std::os::fd::AsFd::as_fd(&null), 0).step("replace standard input")?;
    std::mem::forget(socket);
    events::Spawner::new(server, identity)?.run()
}

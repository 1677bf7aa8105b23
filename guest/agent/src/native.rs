//! Programs that speak the guest protocol themselves: compiled together with their language's shim. The agent starts
//! one with the listening socket, and from then on only waits for its end: calls never pass through it. What the
//! program writes reaches the host past the protocol, as of any process of a sandbox.

use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as BlockingStream;
use std::process::Stdio;
use std::rc::Rc;

use impuls_guest_protocol::{InitError, InitErrorKind};
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::task::spawn_local;

use crate::code::Code;
use crate::program::how;
use crate::serve::{Agent, init_error};

/// Starts the program and waits until it serves the socket; the host's deadline ends the wait.
pub(crate) async fn start(agent: &Rc<Agent>, code: &Code) -> Result<(), InitError> {
    let cannot = |cause: std::io::Error| {
        init_error(InitErrorKind::Init, "", format!("cannot run the program: {cause}"))
    };
    let (mut ready, theirs) = pair(code.init.concurrency).map_err(cannot)?;
    let (program, arguments) =
        code.init.command.split_first().ok_or_else(|| cannot(std::io::ErrorKind::InvalidInput.into()))?;
    agent.stop_listening().await;
    fcntl_setfd(agent.listener.as_fd(), FdFlags::empty()).map_err(|errno| cannot(errno.into()))?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&code.environment)
        .current_dir(&code.init.code_dir)
        .stdin(Stdio::from(theirs))
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot)?;
    let mut byte = [0];
    if ready.read_exact(&mut byte).await.is_err() {
        let ending = child.wait().await.map_or_else(|cause| cause.to_string(), how);
        let message = format!("the program {ending} before it was ready; its log may say why");
        return Err(init_error(InitErrorKind::Init, "Runtime.ExitError", message));
    }
    let agent = agent.clone();
    spawn_local(async move {
        let code = child.wait().await.ok().and_then(|status| status.code());
        agent.end(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
    });
    Ok(())
}

/// Ours, and the one that becomes the program's standard input. The program reads from it how many calls there may be at
/// once (four bytes, little-endian), and writes one byte into it when it serves.
fn pair(slots: u32) -> std::io::Result<(UnixStream, OwnedFd)> {
    let (mut ours, theirs) = BlockingStream::pair()?;
    ours.write_all(&slots.to_le_bytes())?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

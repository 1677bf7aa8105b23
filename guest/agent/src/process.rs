//! Running one process to its end, with bounded output.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// How long output is read after the process has ended and its group was killed: what still holds the pipe then is a
/// process that has left the group.
const AFTER_END: Duration = Duration::from_millis(200);
/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// The least that a pipe holds before a writer has to wait: one page (pipe(7)).
const PIPE_HOLDS: usize = 4096;

/// A process to be run.
pub(crate) struct Run<'a> {
    /// The program and its arguments; not empty.
    pub(crate) words: &'a [String],
    pub(crate) environment: &'a BTreeMap<String, String>,
    pub(crate) directory: &'a str,
    pub(crate) stdin: Bytes,
    /// The most bytes of standard output that are kept.
    pub(crate) stdout_limit: usize,
    /// Whether no other call is running, so that everything else in the sandbox may be killed at the end.
    pub(crate) alone: bool,
}

/// What became of a process.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// Whether it wrote more than is kept.
    pub(crate) truncated: bool,
}

/// Kills a process group by drop.
struct Group {
    pid: Option<Pid>,
    alone: bool,
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(pid) = self.pid else { return };
        let _gone = killpg(pid, Signal::SIGKILL);
        if self.alone {
            // Everybody but this process and process 1.
            let _nobody = kill(Pid::from_raw(-1), Signal::SIGKILL);
        }
    }
}

/// Starts a process in a group of its own.
pub(crate) fn spawn(
    words: &[String],
    environment: &BTreeMap<String, String>,
    directory: &str,
    stdin: Stdio,
) -> io::Result<Child> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir(directory)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Runs a process to its end, and kills what it leaves behind; dropped before, kills it. `output` is given what it
/// writes as it comes: true with standard output, false with standard error.
pub(crate) async fn run(run: Run<'_>, mut output: impl FnMut(bool, &[u8])) -> io::Result<Ended> {
    let mut child = spawn(run.words, run.environment, run.directory, input(&run.stdin)?)?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let group = Group { pid, alone: run.alone };
    let mut pipe = child.stdin.take();
    let feed = async {
        if let Some(pipe) = &mut pipe {
            // A program need not read its input.
            let _closed = pipe.write_all(&run.stdin).await;
        }
        drop(pipe.take());
    };
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let mut kept = Kept { bytes: Vec::new(), limit: run.stdout_limit, truncated: false };
    let status = {
        let ended = async {
            let status = child.wait().await;
            drop(group);
            status
        };
        let read = async {
            let (mut from_out, mut from_err) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK));
            while out.is_some() || err.is_some() {
                tokio::select! {
                    Some(()) = read(&mut out, &mut from_out) => {
                        kept.add(&from_out);
                        output(true, &from_out);
                    }
                    Some(()) = read(&mut err, &mut from_err) => output(false, &from_err),
                    else => break,
                }
            }
        };
        let mut ended = std::pin::pin!(ended);
        let mut read = std::pin::pin!(async { tokio::join!(read, feed) });
        tokio::select! {
            status = &mut ended => {
                let _cut = tokio::time::timeout(AFTER_END, read).await;
                status?
            }
            _ = &mut read => ended.await?,
        }
    };
    Ok(Ended { status, stdout: kept.bytes, truncated: kept.truncated })
}

struct Kept {
    bytes: Vec<u8>,
    limit: usize,
    truncated: bool,
}

impl Kept {
    fn add(&mut self, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.bytes.len());
        self.bytes.extend(bytes.iter().take(room));
        self.truncated |= bytes.len() > room;
    }
}

/// Standard input. A pipe takes a small one before there is a process, which then never waits for it.
fn input(bytes: &[u8]) -> io::Result<Stdio> {
    if bytes.is_empty() {
        return Ok(Stdio::null());
    }
    if bytes.len() > PIPE_HOLDS {
        return Ok(Stdio::piped());
    }
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(bytes)?;
    Ok(reader.into())
}

/// Reads once, in place of what was read before; at the end of the stream the reader is given up.
async fn read(from: &mut Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> Option<()> {
    into.clear();
    // Room that nothing was read into is never touched.
    let count = from.as_mut()?.read_buf(into).await.unwrap_or_default();
    if count == 0 {
        *from = None;
    }
    Some(())
}

//! A sandbox's standard output and error past its shim: two pipes that are read all the time, so that nobody
//! inside ever waits for a reader, and kept within a bound until somebody asks. For drivers whose sandboxes write to pipes
//! of this machine.
#![expect(unsafe_code, reason = "registering a descriptor with the runtime")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use impuls_domain::LogLevel;
use impuls_domain::limits::LOG_LIMIT;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use tokio::io::unix::AsyncFd;

use crate::connection::OutputSource;

/// Bytes of one read: what a pipe holds.
const CHUNK: usize = 64 * 1024;
/// Reads of one drain; a flood is cut off here and counted.
const READS: usize = 32;
const LEVELS: [LogLevel; 2] = [LogLevel::Stdout, LogLevel::Stderr];

#[derive(Debug, Default)]
struct Kept {
    text: [Vec<u8>; 2],
    dropped: u64,
}

/// Both pipes of one sandbox.
#[derive(Debug)]
pub struct Output {
    pipes: [AsyncFd<OwnedFd>; 2],
    kept: Mutex<Kept>,
}

impl Output {
    /// Takes the reading ends. Must be called in the runtime that is to read them. Fails if they cannot be watched.
    pub fn new(stdout: OwnedFd, stderr: OwnedFd) -> io::Result<Arc<Self>> {
        for pipe in [&stdout, &stderr] {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let pipes = [watched(stdout)?, watched(stderr)?];
        let output = Arc::new(Self { pipes, kept: Mutex::default() });
        for index in 0..LEVELS.len() {
            tokio::spawn(output.clone().follow(index));
        }
        Ok(output)
    }

    /// Reads one pipe until nobody can write to it any more.
    async fn follow(self: Arc<Self>, index: usize) {
        let Some(pipe) = self.pipes.get(index) else { return };
        while let Ok(mut ready) = pipe.readable().await {
            match self.kept.lock().read(index, pipe.get_ref()) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(_) => return,
            }
            drop(ready);
            tokio::task::yield_now().await;
        }
    }
}

impl Kept {
    /// One read; what is beyond the bound is counted and dropped.
    fn read(&mut self, index: usize, pipe: &OwnedFd) -> io::Result<usize> {
        let mut chunk = [0; CHUNK];
        let length = rustix::io::read(pipe, &mut chunk)?;
        let room = LOG_LIMIT.saturating_sub(self.text.iter().map(Vec::len).sum());
        let bytes = chunk.get(..length).unwrap_or_default();
        let kept = bytes.get(..room).unwrap_or(bytes);
        self.dropped += (length - kept.len()) as u64;
        if let Some(text) = self.text.get_mut(index) {
            text.extend_from_slice(kept);
        }
        Ok(length)
    }

    fn take(&mut self) -> Vec<(LogLevel, String)> {
        let mut out = Vec::new();
        for (level, text) in LEVELS.into_iter().zip(&mut self.text) {
            if !text.is_empty() {
                let bytes = std::mem::take(text);
                let text = String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(&bytes));
                out.push((level, text.into_owned()));
            }
        }
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            out.push((LogLevel::Stderr, format!("[{dropped} bytes of output dropped]")));
        }
        out
    }
}

impl OutputSource for Output {
    fn drain(&self) -> Vec<(LogLevel, String)> {
        let mut kept = self.kept.lock();
        for _ in 0..READS {
            let [stdout, stderr] = self.pipes.each_ref().map(|pipe| pipe.get_ref().as_fd());
            let mut polled = [PollFd::new(&stdout, PollFlags::IN), PollFd::new(&stderr, PollFlags::IN)];
            let ready = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap_or(0);
            let flags = polled.map(|fd| fd.revents().contains(PollFlags::IN));
            if ready == 0 || flags == [false, false] {
                break;
            }
            for (index, pipe) in
                self.pipes.iter().enumerate().filter(|(index, _)| flags.get(*index) == Some(&true))
            {
                let _broken = kept.read(index, pipe.get_ref());
            }
        }
        kept.take()
    }
}

/// A descriptor that the runtime watches.
fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is one open descriptor until it is dropped, and nobody gets `&mut` to it.
    unsafe { AsyncFd::register(fd) }.map_err(Into::into)
}

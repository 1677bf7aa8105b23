//! The programs that are measured: every one is a child of ours, and none outlives us, whether we end well, with an
//! error or by a signal. Only our own children are ever signalled, by their id.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a program may take until it listens.
const START: Duration = Duration::from_secs(60);
/// How long a program may take to end before it is killed.
const STOP: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
/// What the line begins with that names the address.
const LISTENING: &str = "listening on http://";

/// Waits without doing anything.
#[expect(clippy::disallowed_methods, reason = "the time between two measurements is part of the measurement")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// All children that may still run.
#[derive(Clone, Default)]
pub(crate) struct Processes {
    all: Arc<Mutex<Vec<Arc<Mutex<Child>>>>>,
}

impl Processes {
    /// Starts a program whose output goes to the file `log`.
    pub(crate) fn start(&self, command: &mut Command, log: &Path) -> anyhow::Result<Process> {
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
        // The registry is locked first, so that a signal cannot come between the start and the entry.
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let id = child.id();
        let child = Arc::new(Mutex::new(child));
        all.push(child.clone());
        Ok(Process { child, id, log: log.to_owned() })
    }

    /// Ends all children and does not let another one start.
    pub(crate) fn stop_all_for_good(&self) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for child in all.iter() {
            signal(child, Signal::TERM);
        }
        for child in all.iter() {
            end(child);
        }
        // Whoever wants to start one now waits for the end of this process.
        std::mem::forget(all);
    }
}

/// Signals a child unless it has ended; its id cannot be another process's while it was not waited for.
fn signal(child: &Mutex<Child>, signal: Signal) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(None) = child.try_wait() {
        // A child that ended just now is what is wanted.
        let _ = kill_process(Pid::from_child(&child), signal);
    }
}

/// Waits until a child that was told to stop has ended; kills it when that takes too long.
fn end(child: &Mutex<Child>) {
    let told = Instant::now();
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    while let Ok(None) = child.try_wait() {
        if told.elapsed() > STOP {
            // Either it ends by this or it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        pause(POLL);
    }
}

/// A running program; dropping it ends it.
pub(crate) struct Process {
    child: Arc<Mutex<Child>>,
    id: u32,
    log: PathBuf,
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Waits for the line that names the address.
    pub(crate) fn listening(&self) -> anyhow::Result<SocketAddr> {
        self.wait_for(|output| {
            let line = output.lines().find_map(|line| line.strip_prefix(LISTENING))?;
            output.contains(&format!("{line}\n")).then(|| line.trim().parse().ok()).flatten()
        })
    }

    /// Waits until somebody accepts connections at the address.
    pub(crate) fn accepting(&self, address: SocketAddr) -> anyhow::Result<SocketAddr> {
        self.wait_for(|_| std::net::TcpStream::connect(address).is_ok().then_some(address))
    }

    /// Waits for the program to end well and gives its output.
    pub(crate) fn finished(&self, within: Duration) -> anyhow::Result<String> {
        let started = Instant::now();
        while started.elapsed() < within {
            let status = self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?;
            match status {
                Some(status) if status.success() => return self.output(),
                Some(status) => bail!("{status}; its output:\n{}", self.output()?),
                None => pause(POLL),
            }
        }
        bail!("a program did not end within {within:?}; its output:\n{}", self.output()?)
    }

    fn output(&self) -> anyhow::Result<String> {
        let output =
            std::fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    fn wait_for<T>(&self, look: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        let started = Instant::now();
        loop {
            let ended = self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?;
            let output = self.output()?;
            if let Some(status) = ended {
                bail!("a program that was to listen ended, {status}; its output:\n{output}");
            }
            if let Some(found) = look(&output) {
                return Ok(found);
            }
            if started.elapsed() > START {
                bail!("a program does not listen after {START:?}; its output:\n{output}");
            }
            pause(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        signal(&self.child, Signal::TERM);
        end(&self.child);
    }
}

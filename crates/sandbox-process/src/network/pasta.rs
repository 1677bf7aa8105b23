//! Ways out of a yard: `pasta` (package passt), a user-mode network stack. It takes packets from a device in the
//! yard and makes connections of the machine from them, with the rights of any program of its user.
//!
//! There is one process for each sandbox with a network, killed with that; all of them are in the pid namespace of
//! the yard's process, which the kernel kills as a whole. `pasta` is told to forward no port in either direction and to let
//! no address stand for the machine's loopback; what else a sandbox may not reach is kept from it by the rules of
//! the yard, which its packets pass before.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::pipe::{PipeFlags, pipe_with};

use super::hand::Hand;
use super::link::{Exit, Linker, Plan};
use super::nft;
use crate::failure::{Failure, Step};

/// The program.
pub(crate) const PROGRAM: &str = "pasta";
/// The device through which it gets packets.
pub(crate) const TUN: &str = "/dev/net/tun";
/// How long it may take until its device is there, and how often that is looked up.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);
/// Longest piece of what it says that is told on, in bytes.
const SAID: u64 = 500;
/// Never to the outside: addresses of the two ends of a device. Locally administered (IEEE 802).
const MACS: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
/// What keeps it from giving the other side more than a way out. Versions know different ones of the last two.
const NOTHING_ELSE: [&str; 14] = [
    "--no-map-gw",
    "--no-dhcp",
    "--no-ndp",
    "--no-dhcpv6",
    "--no-ra",
    "--ipv4-only",
    "--tcp-ports",
    "none",
    "--udp-ports",
    "none",
    "--tcp-ns",
    "none",
    "--udp-ns",
    "none",
];
const SINCE_2024: [&str; 2] = ["--map-host-loopback", "--map-guest-addr"];

/// The processes, by the names of the links that they serve.
#[derive(Debug)]
pub(super) struct Pastas {
    program: PathBuf,
    /// Those of [`SINCE_2024`] that the installed version knows.
    known: Vec<&'static str>,
    /// A file that stands for the yard's network namespace.
    yard: String,
    /// A thread that is in the machine's network: that of the thread which starts a process is where it makes
    /// connections.
    gate: Hand<()>,
    running: Mutex<HashMap<String, Running>>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    plan: Plan,
    /// What it says. Its end does not block, so a process that says more than fits does not wait for a reader.
    said: OwnedFd,
}

impl Pastas {
    /// To be called by a thread in the machine's network. `yard` is the file of the other's.
    pub(super) fn new(yard: String) -> Result<Self, Failure> {
        let program = nft::find(PROGRAM).ok_or(io::Error::from_raw_os_error(libc::ENOENT));
        let program = program.step("find pasta")?;
        fs::File::options().read(true).write(true).open(TUN).step_with(|| format!("open {TUN}"))?;
        let help = Command::new(&program).arg("--help").env_clear().stdin(Stdio::null()).output();
        let help = help.step("ask pasta for its options")?;
        let text = [help.stdout, help.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let known = SINCE_2024.into_iter().filter(|option| text.contains(option)).collect();
        let gate = Hand::start("impuls-gate", || Ok(())).step("start a thread")?;
        Ok(Self { program, known, yard, gate, running: Mutex::default() })
    }

    /// Makes a sandbox's way out. On `Err` nothing is left behind.
    pub(super) fn raise(&self, linker: &mut Linker, plan: &Plan, exit: &Exit) -> Result<(), Failure> {
        let mut running = self.start(plan, exit)?;
        let made = await_device(linker, &mut running, &exit.tap).and_then(|()| linker.lead_out(plan, exit));
        match made {
            Ok(()) => drop(self.running.lock().insert(plan.name.clone(), running)),
            Err(failure) => {
                end(linker, running);
                return Err(failure);
            }
        }
        Ok(())
    }

    fn start(&self, plan: &Plan, exit: &Exit) -> Result<Running, Failure> {
        let (said, says) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).step("make pipe")?;
        let mut command = Command::new(&self.program);
        let [outer, inner] = MACS;
        let (gateway, beyond) = (plan.gateway.to_string(), exit.beyond.to_string());
        command.args(["--foreground", "--quiet", "--netns", &self.yard, "--ns-ifname", &exit.tap]);
        // Of the loopback device it takes nothing; other devices come and go.
        command.args(["--interface", "lo", "--address", &gateway, "--netmask", "32", "--gateway", &beyond]);
        command.args(["--mac-addr", outer, "--ns-mac-addr", inner]).args(NOTHING_ELSE);
        command.args(self.known.iter().flat_map(|option| [option, "none"]));
        command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(says);
        let (sender, started) = mpsc::channel();
        self.gate.post(move |()| {
            let _nobody_waits = sender.send(command.spawn());
        });
        let child = started.recv().map_err(io::Error::other).step("start pasta")?.step("start pasta")?;
        Ok(Running { child, plan: plan.clone(), said })
    }

    /// Begins to end the way out of a link, if it has one.
    pub(super) fn lower(&self, name: &str) -> Option<Lowered> {
        let mut running = self.running.lock().remove(name)?;
        let _ended_already = running.child.kill();
        Some(Lowered(running))
    }

    /// Makes the ways out again whose process has ended by itself; returns the last words of each.
    pub(super) fn tend(&self, linker: &mut Linker) -> Vec<String> {
        let has_ended = |running: &mut Running| !matches!(running.child.try_wait(), Ok(None));
        let ended: Vec<Running> =
            self.running.lock().extract_if(|_, running| has_ended(running)).map(|(_, ended)| ended).collect();
        let mut said = Vec::new();
        for running in ended {
            let (plan, words) = (running.plan.clone(), last_words(&running));
            end(linker, running);
            let again = plan.exit.as_ref().map(|exit| self.raise(linker, &plan, exit));
            let failed = again.and_then(Result::err).map(|failure| failure.to_string());
            said.push(format!("{}: {words} {}", plan.name, failed.unwrap_or_default()));
        }
        said
    }
}

/// A way out that is ending.
#[must_use]
pub(super) struct Lowered(Running);

impl Lowered {
    /// Waits until it has ended.
    pub(super) fn wait(self, linker: &mut Linker) {
        end(linker, self.0);
    }
}

fn await_device(linker: &Linker, running: &mut Running, tap: &str) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    while linker.index(tap).is_none() {
        if let Ok(Some(status)) = running.child.try_wait() {
            let why = io::Error::other(format!("{status}: {}", last_words(running)));
            return Err(Failure::new("start pasta", why));
        }
        if Instant::now() > until {
            return Err(Failure::new("await pasta's device", io::Error::from_raw_os_error(libc::ETIMEDOUT)));
        }
        std::thread::park_timeout(PAUSE);
    }
    Ok(())
}

fn end(linker: &mut Linker, mut running: Running) {
    let _ended_already = running.child.kill();
    let _ended = running.child.wait();
    if let Some(exit) = &running.plan.exit {
        let _no_rule = linker.lead_out_no_more(&running.plan.name, exit);
    }
}

/// What a process that has ended said last; without what its version says of a machine that has no system log.
fn last_words(running: &Running) -> String {
    let mut text = Vec::new();
    let Ok(said) = running.said.try_clone() else { return String::new() };
    // The pipe is at its end, or has nothing more for now.
    let _end = fs::File::from(said).take(SAID * 4).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.ends_with("to syslog"));
    lines.collect::<Vec<_>>().join("; ").chars().take(SAID as usize).collect()
}

/// What is missing for ways out through `pasta`, in words for the operator.
pub(crate) fn missing() -> Option<String> {
    if nft::find(PROGRAM).is_none() {
        return Some("pasta is not installed (Debian package passt)".to_owned());
    }
    match fs::File::options().read(true).write(true).open(Path::new(TUN)) {
        Ok(_) => None,
        Err(error) => Some(format!("{TUN} cannot be opened: {error}")),
    }
}

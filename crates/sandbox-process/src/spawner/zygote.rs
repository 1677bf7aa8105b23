//! Zygotes: one warmed interpreter for each image, which forks the process of a sandbox.
//!
//! A zygote runs code of ours and of the language's own library only. It lives in the image's root with the
//! spawner's user namespace, so that it may enter sandboxes. Asked for a process, it makes the spawner its parent
//! (`CLONE_PARENT`), so the spawner learns how it ended; the child enters the place that process 1 has built,
//! gives up every right and serves. `guest/shims/python/zygote.py` is the other end.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use super::events::{Source, Spawner};
use super::place::Phase;
use crate::failure::{Failure, Step};
use crate::init::{self, resource_limits};
use crate::messages::{Key, Refusal};
use crate::sys::{self, CloneArgs};
use crate::transport;

/// The zygote's end of the control socket.
const CONTROL: i32 = 3;
/// Rights that a zygote keeps: those to enter other namespaces.
const RIGHTS: [CapabilitySet; 3] =
    [CapabilitySet::SYS_ADMIN, CapabilitySet::SYS_CHROOT, CapabilitySet::SYS_PTRACE];
/// Zygotes of one image that may die before processes are executed instead.
const DEATHS: u32 = 3;
/// The environment of every runtime.
pub(crate) const ENVIRONMENT: [&str; 4] =
    ["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "LANG=C.UTF-8", "TMPDIR=/tmp"];

/// One image's zygote.
pub(super) struct Zygote {
    command: Vec<String>,
    process: Option<Running>,
    ready: bool,
    deaths: u32,
    /// Places that wait for it to be ready, and those that it was asked to fill.
    waiting: VecDeque<Key>,
    asked: VecDeque<Key>,
}

struct Running {
    pid: Pid,
    socket: OwnedFd,
    token: u64,
}

/// The first message to a zygote.
#[derive(Serialize)]
struct Setup {
    /// System call filters, to be installed in this order, as hexadecimal text.
    filters: [String; 2],
    /// `RLIMIT_…` numbers and values.
    limits: Vec<(u32, u64)>,
    guest_id: u32,
}

/// A process to be made. Descriptors: process 1, listening socket, standard output and error, status socket, then
/// Landlock rules, v2 cgroup (if so said) and v1 `tasks` files.
#[derive(Serialize)]
struct Order {
    key: String,
    rules: bool,
    cgroup: bool,
}

/// What a zygote says: first that it is ready, then what became of each order.
#[derive(Deserialize)]
struct Answer {
    key: Option<String>,
    pid: Option<i32>,
    errno: Option<i32>,
    step: Option<String>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Spawner {
    /// Whether an image's processes come from a zygote.
    pub(super) fn has_zygote(&self, image: u32) -> bool {
        self.zygote(image).is_some_and(|zygote| zygote.process.is_some())
    }

    fn zygote(&self, image: u32) -> Option<&Zygote> {
        self.runtimes.get(&image)?.zygote.as_ref()
    }

    fn zygote_mut(&mut self, image: u32) -> Option<&mut Zygote> {
        self.runtimes.get_mut(&image)?.zygote.as_mut()
    }

    /// Starts an image's zygote; it says later that it is ready.
    pub(super) fn start_zygote(&mut self, image: u32, command: Vec<String>) -> Result<(), Failure> {
        let process = self.run_zygote(image, &command)?;
        let deaths = self.zygote(image).map_or(0, |zygote| zygote.deaths);
        let zygote = Zygote {
            command,
            process: Some(process),
            ready: false,
            deaths,
            waiting: VecDeque::new(),
            asked: VecDeque::new(),
        };
        if let Some(runtime) = self.runtimes.get_mut(&image) {
            runtime.zygote = Some(zygote);
        }
        Ok(())
    }

    fn run_zygote(&mut self, image: u32, command: &[String]) -> Result<Running, Failure> {
        let strings = |texts: &[&str]| -> Result<Vec<CString>, Failure> {
            texts
                .iter()
                .map(|&text| CString::new(text))
                .collect::<Result<_, _>>()
                .map_err(io::Error::from)
                .step("read command")
        };
        let arguments = strings(&command.iter().map(String::as_str).collect::<Vec<_>>())?;
        let environment = strings(&ENVIRONMENT)?;
        let (ours, theirs) = transport::pair().step("make socket pair")?;
        let unknown = || Failure::new("find image", io::Error::from_raw_os_error(libc::ENOENT));
        let root = &self.runtimes.get(&image).ok_or_else(unknown)?.template.namespace;
        let pid = self.inside(root.as_fd(), || {
            sys::clone_process(CloneArgs::default(), || {
                match execute(&arguments, &environment, theirs.as_fd()) {
                    Ok(never) => match never {},
                    Err(_) => 1,
                }
            })
            .step("clone zygote")
        })?;
        drop(theirs);
        let [first, second] = self.filters.bytes();
        let limits = resource_limits(impuls_domain::limits::PIDS);
        let setup = Setup {
            filters: [hex(&first), hex(&second)],
            limits: limits.into_iter().map(|(resource, limit)| (resource as u32, limit)).collect(),
            guest_id: init::GUEST_ID,
        };
        transport::send(&ours, &setup, &[]).step("set zygote up")?;
        let token = self.watch(&ours, Source::Zygote(image))?;
        Ok(Running { pid, socket: ours, token })
    }

    /// Asks the zygote to fill a place, now or as soon as it is ready.
    pub(super) fn ask_zygote(&mut self, key: Key) {
        let Some(image) = self.places.get(&key).map(|place| place.image) else { return };
        match self.zygote_mut(image) {
            Some(zygote) if zygote.process.is_some() && !zygote.ready => zygote.waiting.push_back(key),
            Some(zygote) if zygote.process.is_some() => {
                zygote.asked.push_back(key);
                if let Err(failure) = self.order(key, image) {
                    self.fail_place(key, failure.into());
                }
            }
            _ => self.fail_place(key, Refusal::Zygote),
        }
    }

    fn fail_place(&mut self, key: Key, refusal: Refusal) {
        if let Some(place) = self.places.get_mut(&key) {
            place.failure.get_or_insert(refusal);
            self.kill(key);
        }
    }

    fn order(&mut self, key: Key, image: u32) -> Result<(), Failure> {
        let missing = || Failure::new("order process", io::Error::from_raw_os_error(libc::ESRCH));
        let (status, theirs) = transport::pair().step("make socket pair")?;
        let place = self.places.get_mut(&key).filter(|place| !place.reaped).ok_or_else(missing)?;
        let parts = place.parts.take().ok_or_else(missing)?;
        let init = pidfd_open(place.init, PidfdFlags::empty()).step("open process 1")?;
        let [listener, stdout, stderr] = &parts.stdio;
        let mut fds: Vec<BorrowedFd<'_>> =
            vec![init.as_fd(), listener.as_fd(), stdout.as_fd(), stderr.as_fd(), theirs.as_fd()];
        fds.extend(parts.rules.as_ref().map(AsFd::as_fd));
        fds.extend(parts.group.unified());
        fds.extend(parts.group.tasks());
        let order = Order {
            key: format!("{key:x}"),
            rules: parts.rules.is_some(),
            cgroup: parts.group.unified().is_some(),
        };
        let zygote = self.zygote(image).and_then(|zygote| zygote.process.as_ref()).ok_or_else(missing)?;
        transport::send(&zygote.socket, &order, &fds).step("order process")?;
        let token = self.watch(&status, Source::Forked(key))?;
        if let Some(place) = self.places.get_mut(&key) {
            place.forked_status = Some((status, token));
        }
        Ok(())
    }

    /// The zygote said something, or ended.
    pub(super) fn hear_zygote(&mut self, image: u32) {
        let Some(process) = self.zygote(image).and_then(|zygote| zygote.process.as_ref()) else { return };
        match transport::receive::<Answer>(&process.socket) {
            Ok(Some((answer, _))) => self.take_answer(image, answer),
            // Its death is dealt with when it is reaped; a zygote that talks nonsense is helped to it.
            Ok(None) | Err(_) => {
                let (pid, token) = (process.pid, process.token);
                if let Ok(socket) = process.socket.try_clone() {
                    self.unwatch(socket, token);
                }
                let _dead_already = kill_process(pid, Signal::KILL);
            }
        }
    }

    fn take_answer(&mut self, image: u32, answer: Answer) {
        let key = answer.key.as_deref().and_then(|key| Key::from_str_radix(key, 16).ok());
        let Some(zygote) = self.zygote_mut(image) else { return };
        let Some(key) = key else {
            zygote.ready = true;
            for key in std::mem::take(&mut zygote.waiting) {
                self.ask_zygote(key);
            }
            return;
        };
        zygote.asked.retain(|&asked| asked != key);
        match answer.pid.and_then(Pid::from_raw) {
            Some(pid) => self.forked(key, pid),
            None => {
                let step = format!("fork from zygote: {}", answer.step.unwrap_or_default());
                let errno = answer.errno.unwrap_or(libc::EIO);
                self.fail_place(key, Refusal::Step { step, errno });
            }
        }
    }

    fn forked(&mut self, key: Key, pid: Pid) {
        let died = self.strays.remove(&pid);
        if let Some(place) = self.places.get_mut(&key) {
            place.forked = Some(pid);
            if let Some(status) = died {
                self.place_process_ended(pid, status);
            }
        }
    }

    /// A forked process serves, or says why it cannot.
    pub(super) fn hear_forked(&mut self, key: Key) {
        let Some(place) = self.places.get_mut(&key) else { return };
        let Some((status, token)) = place.forked_status.take() else { return };
        let mut buffer = [0; 512];
        let length = transport::receive_bytes(&status, &mut buffer).map_or(0, |(length, _)| length);
        let message = buffer.get(..length).unwrap_or_default();
        match (message.first().copied(), &place.phase) {
            (Some(init::RUNNING), &Phase::Forking(request)) => {
                place.phase = Phase::Live;
                self.answer(request, Ok(()));
            }
            (Some(init::FAILED), _) => {
                let mut failure = init::read_failure(message);
                failure.step = format!("enter from zygote: {}", failure.step).into();
                self.fail_place(key, failure.into());
            }
            // It died, or the zygote did before it forked.
            _ => self.fail_place(key, Refusal::Zygote),
        }
        self.unwatch(&status, token);
    }

    /// Whether a process that ended was a zygote. It is started again, unless it ends time and again.
    pub(super) fn zygote_ended(&mut self, pid: Pid) -> bool {
        let is_it = |zygote: &Zygote| zygote.process.as_ref().is_some_and(|process| process.pid == pid);
        let found = self.runtimes.iter_mut().find_map(|(image, runtime)| {
            runtime.zygote.as_mut().filter(|zygote| is_it(zygote)).map(|zygote| (*image, zygote))
        });
        let Some((image, zygote)) = found else { return false };
        zygote.deaths += 1;
        let (deaths, command) = (zygote.deaths, zygote.command.clone());
        let process = zygote.process.take();
        let orphans: Vec<Key> = zygote.waiting.drain(..).chain(zygote.asked.drain(..)).collect();
        if let Some(process) = process {
            self.unwatch(&process.socket, process.token);
        }
        for key in orphans {
            self.fail_place(key, Refusal::Zygote);
        }
        if deaths < DEATHS {
            let _none_then = self.start_zygote(image, command);
        }
        true
    }
}

/// Turns this process into the zygote.
fn execute(
    arguments: &[CString],
    environment: &[CString],
    control: BorrowedFd<'_>,
) -> Result<std::convert::Infallible, Failure> {
    use rustix::process::{getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL)).step("set parent death signal")?;
    if getppid().is_none() || sys::is_hung_up(control) {
        return Err(Failure::new("await spawner", io::Error::from_raw_os_error(libc::EPIPE)));
    }
    for capability in CapabilitySet::all().iter().filter(|capability| !RIGHTS.contains(capability)) {
        let _unknown_to_this_kernel = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null").step("open /dev/null")?;
    sys::duplicate_onto(null.as_fd(), 1).step("set descriptors")?;
    sys::reset_signals();
    rustix::process::chdir("/").step("enter /")?;
    sys::close_from_on_exec(CONTROL).step("mark descriptors")?;
    sys::duplicate_onto(control, CONTROL).step("set control socket")?;
    Err(sys::execve(arguments, environment)).step("execute zygote")
}

//! The life of one sandbox as the spawner sees it:
//!
//! ```text
//! Building ──(process 1 executed the runtime)──────────────► Live ──┐
//!     │                                                        ▲    │ killed, or ended by itself
//!     └──(process 1 built the place)─► Forking ─(zygote forked)┘    ▼
//!     any of them ──(killed, failed)────────────────► process 1 reaped ─► cgroups removed ─► answered
//! ```
//!
//! Process 1 can only be reaped when nothing else is left in its pid namespace, and a cgroup can only be removed
//! when nothing is left in it: an answer that says "gone" rests on both.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, Signal, WaitStatus, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::events::{Source, Spawner};
use super::privilege::Identity;
use crate::cgroup::Group;
use crate::failure::{Failure, Step};
use crate::init::mounts::tmp_options;
use crate::init::{self, GUEST_ID, Plan, Process};
use crate::messages::{Create, End, Event, Key, Limits, Refusal, RequestId};
use crate::sys::{self, CloneArgs};
use crate::transport;

/// The namespaces of a sandbox.
pub(crate) const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// How far a sandbox has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// Process 1 is at work; the request is answered when it is done.
    Building(RequestId),
    /// The zygote is; what it needs is kept until it is asked.
    Forking(RequestId),
    /// It runs.
    Live,
}

/// One sandbox.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) image: u32,
    pub(super) host_id: Option<u32>,
    pub(super) init: Pid,
    /// Whether process 1 has been reaped; its number may be somebody else's then.
    pub(super) reaped: bool,
    pub(super) channel: OwnedFd,
    pub(super) token: u64,
    pub(super) phase: Phase,
    pub(super) limits: Limits,
    pub(super) assigned: bool,
    /// What the zygote gets.
    pub(super) parts: Option<Parts>,
    /// The process that the zygote forked, and its status socket until it has spoken.
    pub(super) forked: Option<Pid>,
    pub(super) forked_status: Option<(OwnedFd, u64)>,
    pub(super) ended: Option<(Option<i32>, Option<i32>)>,
    pub(super) failure: Option<Refusal>,
    pub(super) destroyers: Vec<RequestId>,
}

/// What turns a place into a sandbox with a process of a zygote.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) group: Group,
    pub(super) stdio: [OwnedFd; 3],
    pub(super) rules: Option<OwnedFd>,
}

/// A sandbox without processes whose cgroups have to go.
#[derive(Debug)]
pub(super) struct Removal {
    key: Key,
    host_id: Option<u32>,
    failed: Option<(RequestId, Refusal)>,
    destroyers: Vec<RequestId>,
}

fn strings(texts: Vec<String>) -> Result<Vec<CString>, Failure> {
    texts
        .into_iter()
        .map(CString::new)
        .collect::<Result<_, _>>()
        .map_err(io::Error::from)
        .step("read command")
}

impl Spawner {
    /// Starts making a sandbox; it is answered later. On `Err` nothing is left behind.
    pub(super) fn create(
        &mut self,
        request: RequestId,
        create: Create,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Refusal> {
        let invalid = || Failure::new("receive descriptors", io::Error::from_raw_os_error(libc::EBADF));
        let stdio: [OwnedFd; 3] = fds.try_into().map_err(|_| invalid())?;
        let host_id = match self.identity {
            Identity::Root => Some(self.ids.take().ok_or(Refusal::Full)?),
            Identity::Mapped => None,
        };
        let (key, limits) = (create.key, create.limits);
        let made = self.cgroups.create(key, limits).and_then(|group| {
            let made = self.make_place(request, create, (group, stdio), host_id);
            made.inspect_err(|_| drop(self.cgroups.remove(key)))
        });
        match made {
            Ok(place) => {
                self.places.insert(key, place);
                Ok(())
            }
            Err(failure) => {
                if let Some(id) = host_id {
                    self.ids.give_back(id);
                }
                match failure.errno() {
                    libc::EAGAIN | libc::ENOSPC | libc::ENOMEM | libc::EMFILE | libc::ENFILE => {
                        Err(Refusal::Full)
                    }
                    _ => Err(failure.into()),
                }
            }
        }
    }

    fn make_place(
        &mut self,
        request: RequestId,
        create: Create,
        (group, stdio): (Group, [OwnedFd; 3]),
        host_id: Option<u32>,
    ) -> Result<Place, Failure> {
        let (ours, theirs) = transport::pair().step("make socket pair")?;
        if let Some(id) = host_id {
            // So that a program may open /dev/stdout.
            let (user, group) = (rustix::fs::Uid::from_raw(id), rustix::fs::Gid::from_raw(id));
            for pipe in stdio.iter().skip(1) {
                rustix::fs::fchown(pipe, Some(user), Some(group)).step("hand over pipes")?;
            }
        }
        let fork = create.fork && self.has_zygote(create.image);
        let (process, kept) = if fork {
            (None, Some(stdio))
        } else {
            let (arguments, environment) = (strings(create.arguments)?, strings(create.environment)?);
            (Some(Process { stdio, arguments, environment }), None)
        };
        let plan = Plan {
            channel: theirs,
            group: &group,
            process,
            filters: &self.filters,
            pids: create.limits.pids,
            tmp: tmp_options(create.tmp_mib)?,
        };
        let init = self.clone_init(create.image, &plan)?;
        drop(plan);
        let token = self
            .map_ids(init, host_id)
            .and_then(|()| transport::send_bytes(&ours, b"g", &[]).step("start process 1"))
            .and_then(|()| self.watch(&ours, Source::Init(create.key)));
        let token = token.inspect_err(|_| end_now(init))?;
        Ok(Place {
            image: create.image,
            host_id,
            init,
            reaped: false,
            channel: ours,
            token,
            phase: Phase::Building(request),
            limits: create.limits,
            assigned: false,
            parts: kept.map(|stdio| Parts { group, stdio, rules: None }),
            forked: None,
            forked_status: None,
            ended: None,
            failure: None,
            destroyers: Vec::new(),
        })
    }

    /// Clones process 1 out of the image's root, so that its mount namespace is a copy of that.
    fn clone_init(&self, image: u32, plan: &Plan<'_>) -> Result<Pid, Failure> {
        let unknown = || Failure::new("find image", io::Error::from_raw_os_error(libc::ENOENT));
        let runtime = self.runtimes.get(&image).ok_or_else(unknown)?;
        self.inside(runtime.template.namespace.as_fd(), || {
            let args = CloneArgs { namespaces: NAMESPACES, cgroup: plan.group.unified() };
            sys::clone_process(args, || init::run(plan)).step("clone process 1")
        })
    }

    /// Does something in another mount namespace.
    pub(super) fn inside<T>(
        &self,
        namespace: std::os::fd::BorrowedFd<'_>,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount)).step("enter root")?;
        let result = work();
        self.go_home();
        result
    }

    /// A spawner that cannot get back to its own files is of no use: better none than a lost one.
    pub(super) fn go_home(&self) {
        if move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Mount)).is_err() {
            sys::exit_now(1);
        }
    }

    fn map_ids(&self, init: Pid, host_id: Option<u32>) -> Result<(), Failure> {
        let folder = format!("/proc/{}", init.as_raw_nonzero());
        // As an ordinary user, 0 is that user in the spawner's namespace.
        let map = format!("{GUEST_ID} {} 1", host_id.unwrap_or(0));
        std::fs::write(format!("{folder}/setgroups"), "deny").step("deny setgroups")?;
        std::fs::write(format!("{folder}/gid_map"), &map).step("map group id")?;
        std::fs::write(format!("{folder}/uid_map"), &map).step("map user id")
    }

    /// Kills a sandbox and answers when nothing of it is left.
    pub(super) fn destroy(&mut self, request: RequestId, key: Key) {
        if let Some(place) = self.places.get_mut(&key) {
            place.destroyers.push(request);
            self.kill(key);
        } else if let Some(removal) = self.removals.iter_mut().find(|removal| removal.key == key) {
            removal.destroyers.push(request);
        } else {
            self.answer(request, Ok(()));
        }
    }

    /// Kills everything in a sandbox; the loop hears of the deaths.
    pub(super) fn kill(&self, key: Key) {
        let Some(place) = self.places.get(&key).filter(|place| !place.reaped) else { return };
        self.cgroups.kill(key);
        // With process 1 the kernel kills its pid namespace. It is ours to reap, so its number is still its own.
        let _dead_already = kill_process(place.init, Signal::KILL);
    }

    /// Something came from process 1; false if that was the end.
    pub(super) fn hear_init(&mut self, key: Key) -> bool {
        let Some(place) = self.places.get_mut(&key) else { return false };
        let mut buffer = [0; 512];
        let (length, fds) = transport::receive_bytes(&place.channel, &mut buffer).unwrap_or_default();
        let message = buffer.get(..length).unwrap_or_default();
        match (message.first().copied(), &place.phase) {
            (Some(init::RUNNING), &Phase::Building(request)) => {
                place.phase = Phase::Live;
                self.answer(request, Ok(()));
            }
            (Some(init::PLACED), &Phase::Building(request)) => {
                place.phase = Phase::Forking(request);
                if let Some(parts) = &mut place.parts {
                    parts.rules = fds.into_iter().next();
                }
                self.ask_zygote(key);
            }
            (Some(init::FAILED), _) => {
                place.failure = Some(init::read_failure(message).into());
                self.kill(key);
            }
            (Some(init::EXITED), _) => place.ended = Some(init::read_exit(message)),
            (Some(_), _) => {}
            (None, _) => {
                let token = place.token;
                if let Ok(channel) = place.channel.try_clone() {
                    self.unwatch(channel, token);
                }
                return false;
            }
        }
        true
    }

    /// Whether a process that ended belonged to a sandbox.
    pub(super) fn place_process_ended(&mut self, pid: Pid, status: WaitStatus) -> bool {
        let found = self.places.iter_mut().find(|(_, place)| place.init == pid || place.forked == Some(pid));
        let Some((&key, place)) = found else { return false };
        if place.forked == Some(pid) {
            place.ended = Some((status.exit_status(), status.terminating_signal()));
            self.kill(key);
        } else {
            place.reaped = true;
            self.finish(key);
        }
        true
    }

    /// Process 1 has been reaped: no process of the sandbox is left.
    fn finish(&mut self, key: Key) {
        // Its last words may still be in the socket.
        while self.places.get(&key).is_some_and(|place| sys::is_readable(&place.channel))
            && self.hear_init(key)
        {}
        let Some(place) = self.places.remove(&key) else { return };
        self.unwatch(&place.channel, place.token);
        if let Some((status, token)) = &place.forked_status {
            self.unwatch(status, *token);
        }
        let out_of_memory = self.cgroups.out_of_memory(key);
        let failed = match place.phase {
            Phase::Building(request) | Phase::Forking(request) => {
                let died = Refusal::Step { step: "process 1 ended".into(), errno: libc::ECHILD };
                Some((request, place.failure.unwrap_or(died)))
            }
            Phase::Live => {
                let (code, signal) = place.ended.unwrap_or((None, Some(libc::SIGKILL)));
                let usage = self.cgroups.usage(key);
                self.tell(&Event::Exited { key, end: End { code, signal, out_of_memory, usage } });
                None
            }
        };
        let removal = Removal { key, host_id: place.host_id, failed, destroyers: place.destroyers };
        self.removals.push(removal);
    }

    /// Removes what can be removed and answers those who wait for it.
    pub(super) fn retry_removals(&mut self) {
        for removal in std::mem::take(&mut self.removals) {
            if self.cgroups.remove(removal.key).is_err() {
                self.removals.push(removal);
                continue;
            }
            if let Some(id) = removal.host_id {
                self.ids.give_back(id);
            }
            if let Some((request, refusal)) = removal.failed {
                self.answer(request, Err(refusal));
            }
            for request in removal.destroyers {
                self.answer(request, Ok(()));
            }
        }
    }
}

/// Ends a process 1 that has not been told to start.
fn end_now(init: Pid) {
    let _dead_already = kill_process(init, Signal::KILL);
    let _status = rustix::process::waitpid(Some(init), rustix::process::WaitOptions::empty());
}

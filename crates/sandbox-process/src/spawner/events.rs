//! The spawner's loop: requests of the server, messages of processes 1 and zygotes, deaths.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use impuls_sandbox::host_ids::HostIds;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::epoll;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use rustix::time::Timespec;

use super::ids;
use super::place::{Place, Removal};
use super::privilege::Identity;
use super::zygote::Zygote;
use crate::cgroup::{self, Cgroups};
use crate::failure::{Failure, Step};
use crate::messages::{Event, Image, Key, Refusal, Request, RequestId};
use crate::seccomp::Filters;
use crate::template::Template;
use crate::{probe, sys, transport};

const SERVER: u64 = 0;
const SIGNALS: u64 = 1;
const FIRST_SOURCE: u64 = 2;
/// How soon a folder that was still busy is tried again.
const RETRY: Duration = Duration::from_millis(1);
/// Deaths of processes that nobody has claimed yet; more are forgotten.
const STRAYS: usize = 4_096;

/// What an epoll token stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// The socket of a process 1.
    Init(Key),
    /// The socket of a process that a zygote forked.
    Forked(Key),
    /// The socket of an image's zygote.
    Zygote(u32),
}

/// A runtime of which sandboxes can be made.
pub(super) struct Runtime {
    pub(super) template: Template,
    pub(super) zygote: Option<Zygote>,
}

/// The whole state.
pub(super) struct Spawner {
    server: OwnedFd,
    signals: SignalFd,
    epoll: OwnedFd,
    next_token: u64,
    sources: HashMap<u64, Source>,
    pub(super) identity: Identity,
    /// The spawner's own mount namespace.
    pub(super) home: OwnedFd,
    pub(super) filters: Filters,
    pub(super) cgroups: Cgroups,
    pub(super) ids: HostIds,
    pub(super) runtimes: HashMap<u32, Runtime>,
    pub(super) places: HashMap<Key, Place>,
    pub(super) removals: Vec<Removal>,
    pub(super) strays: HashMap<Pid, WaitStatus>,
    /// The process of the network's yard.
    pub(super) yard: Option<Pid>,
}

impl Spawner {
    pub(super) fn new(server: OwnedFd, identity: Identity) -> Result<Self, Failure> {
        let mut child = SigSet::empty();
        child.add(Signal::SIGCHLD);
        child.thread_block().step("block signal")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&child, flags).step("make signal descriptor")?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).step("make epoll")?;
        for (fd, token) in [(server.as_fd(), SERVER), (signals.as_fd(), SIGNALS)] {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN).step("epoll")?;
        }
        Ok(Self {
            server,
            signals,
            epoll,
            next_token: FIRST_SOURCE,
            sources: HashMap::new(),
            identity,
            home: File::open("/proc/self/ns/mnt").step("open own mount namespace")?.into(),
            filters: Filters::compile()?,
            cgroups: Cgroups::default(),
            ids: HostIds::new(ids::RANGE, sys::own_pid()),
            runtimes: HashMap::new(),
            places: HashMap::new(),
            removals: Vec::new(),
            strays: HashMap::new(),
            yard: None,
        })
    }

    /// Serves until the server closes its socket, then ends every sandbox and tidies up.
    pub(super) fn run(mut self) -> Result<(), Failure> {
        let mut open = true;
        while open || !self.places.is_empty() || !self.removals.is_empty() {
            let mut events = Vec::with_capacity(64);
            let timeout = (!self.removals.is_empty()).then(|| Timespec::try_from(RETRY).unwrap_or_default());
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).step("wait for events"),
            }
            for event in events {
                match event.data.u64() {
                    SERVER if open => {
                        open = self.serve()?;
                        if !open {
                            self.end_all();
                        }
                    }
                    SERVER => {}
                    SIGNALS => self.reap(),
                    token => self.hear(token),
                }
            }
            self.retry_removals();
        }
        self.end_yard();
        self.cgroups.remove_bases();
        Ok(())
    }

    fn end_all(&mut self) {
        let _gone = epoll::delete(&self.epoll, &self.server);
        let keys: Vec<Key> = self.places.keys().copied().collect();
        for key in keys {
            self.kill(key);
        }
    }

    /// Carries out one request; false once the server is gone.
    fn serve(&mut self) -> Result<bool, Failure> {
        let Some((request, fds)) = transport::receive::<Request>(&self.server).step("receive request")?
        else {
            return Ok(false);
        };
        match request {
            Request::Hello { request, cgroup } => {
                self.cgroups = cgroup::discover(&cgroup);
                let report = probe::examine(&self.cgroups, self.identity, &self.filters);
                self.tell(&Event::Welcome { request, cgroups: self.cgroups.clone(), report });
            }
            Request::Image { request, image } => {
                let added = self.add_image(image, fds);
                self.answer(request, added.map_err(Refusal::from));
            }
            Request::Create { request, create } => {
                if let Err(refusal) = self.create(request, create, fds) {
                    self.answer(request, Err(refusal));
                }
            }
            Request::Assign { request, key, code, limits, network } => {
                let assigned = self.assign(key, &code, limits);
                match assigned.and_then(|()| self.network_of(key, network)) {
                    Ok(Some(namespace)) => self.pass(&Event::Assigned { request }, &namespace),
                    other => self.answer(request, other.map(drop)),
                }
            }
            Request::Yard { request } => {
                let opened = self.open_yard(fds);
                self.answer(request, opened);
            }
            Request::Destroy { request, key } => self.destroy(request, key),
        }
        Ok(true)
    }

    fn add_image(&mut self, number: u32, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        let missing = || std::io::Error::from_raw_os_error(libc::EBADF);
        let file = File::from(fds.into_iter().next().ok_or_else(missing).step("receive image")?);
        let image: Image = serde_json::from_reader(std::io::BufReader::new(file))
            .map_err(std::io::Error::from)
            .step("read image")?;
        let template = Template::build(&image)?;
        self.runtimes.insert(number, Runtime { template, zygote: None });
        if !image.zygote.is_empty() {
            self.start_zygote(number, image.zygote)?;
        }
        Ok(())
    }

    /// Watches a descriptor.
    pub(super) fn watch(&mut self, fd: impl AsFd, source: Source) -> Result<u64, Failure> {
        let token = self.next_token;
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN).step("watch descriptor")?;
        self.next_token += 1;
        self.sources.insert(token, source);
        Ok(token)
    }

    /// Watches it no more. Closing alone would not do: a child may still have a copy for a moment.
    pub(super) fn unwatch(&mut self, fd: impl AsFd, token: u64) {
        if self.sources.remove(&token).is_some() {
            let _closed = epoll::delete(&self.epoll, fd);
        }
    }

    fn hear(&mut self, token: u64) {
        match self.sources.get(&token).copied() {
            Some(Source::Init(key)) => drop(self.hear_init(key)),
            Some(Source::Forked(key)) => self.hear_forked(key),
            Some(Source::Zygote(image)) => self.hear_zygote(image),
            None => {}
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if self.yard.take_if(|yard| *yard == pid).is_some() {
                continue;
            }
            if self.place_process_ended(pid, status) || self.zygote_ended(pid) {
                continue;
            }
            if self.strays.len() >= STRAYS {
                self.strays.clear();
            }
            self.strays.insert(pid, status);
        }
    }

    /// Answers a request.
    pub(super) fn answer(&self, request: RequestId, result: Result<(), Refusal>) {
        self.tell(&match result {
            Ok(()) => Event::Done { request },
            Err(refusal) => Event::Failed { request, refusal },
        });
    }

    /// Tells the server something that comes with a descriptor.
    fn pass(&self, event: &Event, fd: &OwnedFd) {
        let _server_gone = transport::send(&self.server, event, &[fd.as_fd()]);
    }

    /// Tells the server. Its end is noticed by the loop, so a failure here needs nothing.
    pub(super) fn tell(&self, event: &Event) {
        let _server_gone = transport::send(&self.server, event, &[]);
    }
}

//! The server's end of the socket to one spawner: requests out, answers and news in.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use impuls_sandbox::{Gone, SandboxError};
use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use crate::cgroup::Cgroups;
use crate::isolation::IsolationReport;
use crate::messages::{End, Event, Key, Refusal, Request, RequestId};
use crate::{sys, transport};

/// What a request came to.
#[derive(Debug)]
pub(crate) enum Answer {
    Welcome(Cgroups, IsolationReport),
    Done,
    /// Done, and here is the sandbox's network namespace.
    Assigned(OwnedFd),
    Failed(Refusal),
}

/// News that nobody asked for.
pub(crate) struct News {
    pub(crate) key: Key,
    pub(crate) end: End,
}

/// A socket to a spawner.
#[derive(Debug)]
pub(crate) struct Link {
    socket: AsyncFd<OwnedFd>,
    next: AtomicU64,
    /// `None` once the spawner is gone.
    waiting: Mutex<Option<HashMap<RequestId, oneshot::Sender<Answer>>>>,
}

impl Link {
    /// Must be called in the runtime that is to serve it.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self {
            socket: sys::watched(socket)?,
            next: AtomicU64::new(1),
            waiting: Mutex::new(Some(HashMap::new())),
        })
    }

    /// Sends a request and waits for its answer. Dropped half-way, the request is carried out all the same.
    pub(crate) async fn ask(
        &self,
        request: impl FnOnce(RequestId) -> Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Answer, SandboxError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().as_mut().ok_or(SandboxError::SpawnerGone)?.insert(id, sender);
        if let Err(error) = self.send(&request(id), fds).await {
            if let Some(waiting) = self.waiting.lock().as_mut() {
                waiting.remove(&id);
            }
            return Err(match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => SandboxError::SpawnerGone,
                _ => SandboxError::Setup { step: "ask the spawner".to_owned(), source: error },
            });
        }
        answer.await.map_err(|_| SandboxError::SpawnerGone)
    }

    /// Like [`ask`](Self::ask), for requests whose answer says no more than yes or no.
    pub(crate) async fn order(
        &self,
        request: impl FnOnce(RequestId) -> Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), Refused> {
        match self.ask(request, fds).await.map_err(Refused::Error)? {
            Answer::Failed(refusal) => Err(Refused::Refusal(refusal)),
            Answer::Done | Answer::Assigned(_) | Answer::Welcome(..) => Ok(()),
        }
    }

    async fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            let sent = transport::send(self.socket.get_ref(), request, fds);
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.writable().await?.clear_ready();
                }
                other => return other,
            }
        }
    }

    /// Sends a request whose answer nobody waits for, without waiting; false if the socket is full.
    pub(crate) fn post(&self, request: impl FnOnce(RequestId) -> Request) -> bool {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        transport::send(self.socket.get_ref(), &request(id), &[]).is_ok()
    }

    /// Hands out answers until the spawner is gone; every request still waiting then fails.
    pub(crate) async fn serve(self: Arc<Self>, news: mpsc::UnboundedSender<News>) {
        while let Ok(Some((event, fds))) = self.receive().await {
            let (request, answer) = match event {
                Event::Welcome { request, cgroups, report } => (request, Answer::Welcome(cgroups, report)),
                Event::Done { request } => (request, Answer::Done),
                Event::Assigned { request } => {
                    (request, fds.into_iter().next().map_or(Answer::Failed(Refusal::Gone), Answer::Assigned))
                }
                Event::Failed { request, refusal } => (request, Answer::Failed(refusal)),
                Event::Exited { key, end } => {
                    let _nobody_listens = news.send(News { key, end });
                    continue;
                }
            };
            let waiting = self.waiting.lock().as_mut().and_then(|waiting| waiting.remove(&request));
            if let Some(waiting) = waiting {
                let _nobody_waits = waiting.send(answer);
            }
        }
        *self.waiting.lock() = None;
    }

    async fn receive(&self) -> io::Result<Option<(Event, Vec<OwnedFd>)>> {
        loop {
            let mut ready = self.socket.readable().await?;
            match transport::receive::<Event>(self.socket.get_ref().as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                other => return other,
            }
        }
    }

    /// Closes the socket for both sides: the spawner ends everything and itself.
    pub(crate) fn close(&self) {
        let _closed = rustix::net::shutdown(self.socket.get_ref(), rustix::net::Shutdown::Both);
    }
}

/// Why an order was not carried out.
#[derive(Debug)]
pub(crate) enum Refused {
    Refusal(Refusal),
    Error(SandboxError),
}

impl From<Refused> for SandboxError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Error(error) => error,
            Refused::Refusal(Refusal::Gone) => Self::Gone(Gone),
            Refused::Refusal(Refusal::Full) => Self::AtCapacity,
            Refused::Refusal(Refusal::Zygote) => Self::DiedInSetup("the zygote ended".to_owned()),
            Refused::Refusal(Refusal::Step { step, errno }) => {
                Self::Setup { step, source: io::Error::from_raw_os_error(errno) }
            }
        }
    }
}

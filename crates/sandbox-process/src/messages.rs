//! What the server and the spawner tell each other.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use impuls_sandbox::SandboxLimits;
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroups;
use crate::failure::Failure;
use crate::isolation::IsolationReport;

/// Chosen by the server, unique among its requests in flight.
pub(crate) type RequestId = u64;
/// A sandbox: its id as a number.
pub(crate) type Key = u128;

/// Server to spawner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The first: find out what works here. `cgroup` is what groups of this server are called.
    Hello { request: RequestId, cgroup: String },
    /// Prepares a runtime's root. One descriptor: a memory file with an [`Image`] as JSON.
    Image { request: RequestId, image: u32 },
    /// Makes a sandbox. Three descriptors: listening socket, standard output, standard error.
    Create { request: RequestId, create: Create },
    /// Shows code to a sandbox and sets its limits. With `network`, the answer is [`Event::Assigned`].
    Assign { request: RequestId, key: Key, code: PathBuf, limits: Limits, network: bool },
    /// Starts the process of a yard, ending the one before. One descriptor: its socket.
    Yard { request: RequestId },
    /// Kills a sandbox and removes all that it had. A sandbox that is not known is gone already.
    Destroy { request: RequestId, key: Key },
}

/// A sandbox to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Create {
    pub(crate) key: Key,
    pub(crate) image: u32,
    /// The command; not used if the image's zygote makes the process.
    pub(crate) arguments: Vec<String>,
    /// `NAME=value`.
    pub(crate) environment: Vec<String>,
    /// Whether the image's zygote is to make the process, if it has one.
    pub(crate) fork: bool,
    pub(crate) limits: Limits,
    /// The size of `/tmp`.
    pub(crate) tmp_mib: u32,
}

/// [`SandboxLimits`] on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) memory_mib: u32,
    pub(crate) milli_vcpu: u32,
    pub(crate) pids: u32,
}

impl From<SandboxLimits> for Limits {
    fn from(limits: SandboxLimits) -> Self {
        Self { memory_mib: limits.memory_mib, milli_vcpu: limits.milli_vcpu, pids: limits.pids }
    }
}

/// A runtime's root on the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Image {
    /// Host path, guest path.
    pub(crate) mounts: Vec<(PathBuf, PathBuf)>,
    pub(crate) links: Vec<(PathBuf, PathBuf)>,
    pub(crate) files: Vec<(PathBuf, String)>,
    /// The address that its sandboxes ask for names, once they have a network.
    pub(crate) resolver: Option<Ipv4Addr>,
    /// The zygote's command; empty if there is none.
    pub(crate) zygote: Vec<String>,
}

/// Spawner to server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Answers [`Request::Hello`].
    Welcome { request: RequestId, cgroups: Cgroups, report: IsolationReport },
    /// The request has been carried out.
    Done { request: RequestId },
    /// A sandbox has its code. One descriptor: its network namespace.
    Assigned { request: RequestId },
    /// The request failed and left nothing behind.
    Failed { request: RequestId, refusal: Refusal },
    /// A sandbox's process has ended, and everything else in it.
    Exited { key: Key, end: End },
}

/// Why a request failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// There is no such sandbox any more.
    Gone,
    /// No user id or process is left.
    Full,
    /// The zygote ended, or there is none; the process can still be executed.
    Zygote,
    /// The kernel refused a step.
    Step { step: String, errno: i32 },
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let errno = failure.errno();
        Self::Step { step: failure.step.into_owned(), errno }
    }
}

/// How a sandbox ended and what it had used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) out_of_memory: bool,
    pub(crate) usage: Option<Usage>,
}

/// What a sandbox has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) memory_peak_bytes: u64,
}

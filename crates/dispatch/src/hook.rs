//! Ends that are told over HTTP. How a request leaves is somebody else's; this is what dispatch asks for.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use impuls_domain::{HookUrl, InvocationId};

/// What is posted, and where.
#[derive(Clone, Debug)]
pub struct HookRequest {
    /// The address.
    pub url: HookUrl,
    /// The delivery: the same at every attempt, so that the receiver can tell a repetition.
    pub id: InvocationId,
    /// Which attempt this is, from one.
    pub attempt: u32,
    /// The body, JSON.
    pub body: Bytes,
    /// How long everything may take together.
    pub timeout: Duration,
}

/// What a hook answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookReply {
    /// The HTTP status.
    pub status: u16,
    /// The beginning of the body, of a length that the client bounds.
    pub body: String,
}

/// Why a hook did not answer. The texts are for the owner of the function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// The address must not be reached; another attempt would not help.
    #[error("{0}")]
    Refused(String),
    /// It could not be reached, or did not answer in time.
    #[error("{0}")]
    Failed(String),
}

/// The one way out for what is sent on a user's behalf. It refuses addresses that are not for users, follows no
/// redirects and keeps to its time. Safe to drop half-way: the request may or may not have arrived.
#[async_trait]
pub trait HookClient: Send + Sync + 'static {
    /// Posts the body and waits for the answer.
    async fn post(&self, request: HookRequest) -> Result<HookReply, HookError>;
}

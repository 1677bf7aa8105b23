//! What this server has nothing for: 501, and what is missing.

use crate::body::Authenticated;
use crate::errors::Refusal;

/// `/api/v1/fork`, `/api/v1/executions/{id}/fork`.
pub(crate) async fn forks(Authenticated(_): Authenticated) -> Refusal {
    Refusal::missing("executions cannot be forked: this server makes no snapshots of sandboxes")
}

/// `/api/v1/snapshots…`, `/api/v1/branches`.
pub(crate) async fn snapshots(Authenticated(_): Authenticated) -> Refusal {
    Refusal::missing("there are no snapshots: this server has no driver that makes snapshots of sandboxes")
}

/// `/api/v1/instances…`.
pub(crate) async fn instances(Authenticated(_): Authenticated) -> Refusal {
    Refusal::missing("there are no instances: a sandbox of this server ends with its command")
}

/// `/api/v1/ports/expose`.
pub(crate) async fn ports(Authenticated(_): Authenticated) -> Refusal {
    Refusal::missing("no port can be exposed: there are no instances; function URLs are at /fn/{name}/")
}

//! The model of Impuls as pure code: what a function, a revision, a version, an alias, an invocation and an
//! outcome are, which values they may have and how they change.
//!
//! Nothing here reads a clock, a file or a socket, and only ids and names can be serialised: every boundary owns
//! its own wire or row types and converts by hand. Start at [`function`], then [`revision`] and [`outcome`].

pub mod alias;
pub mod async_invocation;
pub mod built;
pub mod cadence;
pub mod caller;
pub mod deadline;
pub mod destination;
pub mod digest;
pub mod exchange;
pub mod function;
pub mod id;
pub mod invocation;
pub mod limits;
pub mod logs;
pub mod name;
pub mod network;
pub mod outcome;
pub mod qualifier;
pub mod retry;
pub mod revision;
pub mod schedule;
pub mod state_log;
pub mod usage;

pub use alias::{Alias, AliasError, AliasTarget};
pub use async_invocation::{AsyncInvocation, AsyncStatus, Completion, Tally};
pub use built::{Built, LoadFailure};
pub use cadence::{Cadence, CadenceError, CronRule, Interval};
pub use caller::Caller;
pub use deadline::Deadline;
pub use destination::{AsyncSettings, Destination, Destinations, HookUrl, HookUrlError};
pub use digest::{ArtifactDigest, ArtifactDigestError};
pub use exchange::{EXCERPT_LIMIT, Excerpt, Exchange};
pub use function::{Function, FunctionState};
pub use id::{FunctionId, IdError, InvocationId, RevisionId, SandboxId, ScheduleId};
pub use invocation::{Invocation, InvocationStatus};
pub use limits::{LimitError, Limits};
pub use logs::{LogLevel, LogLine, Logs};
pub use name::{AliasName, FunctionName, NameError, RuntimeName, ScheduleName, Scope};
pub use network::{AllowEntry, Allowlist, Cidr, HostPattern, NetworkError, NetworkPolicy};
pub use outcome::{ErrorType, Failure, Outcome};
pub use qualifier::{Qualifier, QualifierError, VersionNumber};
pub use retry::{RetryChange, RetryPolicy};
pub use revision::{
    CodeLayout, CommandLine, CommandLineError, Contract, DriverChoice, Environment, EnvironmentError,
    Handler, HandlerError, Metadata, MetadataError, Revision, RevisionConfig,
};
pub use schedule::Schedule;
pub use state_log::{DeployStep, STATE_LOG_LIMIT, StateLog};
pub use usage::Usage;

//! Identifiers. All are UUIDs of version 7 (RFC 9562 §5.7), so they sort by creation time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id; ids are UUIDs such as 01890a5d-ac96-774b-bcce-b302099a8057")]
pub struct IdError(String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, unique and later than every earlier one of this process.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "an id is never a default value")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// A new id for a moment that the caller has already read from the clock, as time since the Unix epoch.
            #[must_use]
            pub fn at(since_epoch: std::time::Duration) -> Self {
                let time = uuid::Timestamp::from_unix(
                    uuid::NoContext,
                    since_epoch.as_secs(),
                    since_epoch.subsec_nanos(),
                );
                Self(Uuid::new_v7(time))
            }

            /// The id as a UUID.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }

            /// The id that a UUID stands for.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                Uuid::try_parse(s).map(Self).map_err(|_| IdError(s.to_owned()))
            }
        }
    };
}

id! {
    /// A function's key, for life: renaming keeps it, deleting and creating again gives another.
    FunctionId
}
id! {
    /// One deploy of one function.
    RevisionId
}
id! {
    /// One call of one revision; the request id that the function sees.
    InvocationId
}
id! {
    /// One isolated place where one revision runs.
    SandboxId
}
id! {
    /// A rule by which a function is called at certain times.
    ScheduleId
}

impl ScheduleId {
    /// The id of the invocation that belongs to one tick, given in milliseconds since 1970: the same on every server,
    /// sorted by the tick, and different from that of any other schedule or tick.
    #[must_use]
    pub fn invocation_at(self, tick_ms: u64) -> InvocationId {
        const TIME_BITS: u32 = 80;
        let (own, tick) = (self.0.as_u128(), u128::from(tick_ms));
        let kept = own & ((1 << TIME_BITS) - 1);
        InvocationId(Uuid::from_u128((tick << TIME_BITS) | kept))
    }
}

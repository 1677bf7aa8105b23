//! Who asks.

/// On whose behalf a use case runs. Made only where a request enters, by the one layer that authenticates; every
/// use case takes it and decides from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody who reached a loopback address of a server that has no tokens: may do everything.
    LocalUser,
    /// The server itself, for work that nobody waits for.
    System,
}

impl Caller {
    /// Whether the caller may change and read functions.
    #[must_use]
    pub const fn may_administer(&self) -> bool {
        match self {
            Self::LocalUser | Self::System => true,
        }
    }

    /// Whether the caller may invoke functions.
    #[must_use]
    pub const fn may_invoke(&self) -> bool {
        match self {
            Self::LocalUser | Self::System => true,
        }
    }

    /// Whether the caller may run commands of its own in a sandbox, which is as much as deploying code.
    #[must_use]
    pub const fn may_execute(&self) -> bool {
        self.may_administer() && self.may_invoke()
    }
}

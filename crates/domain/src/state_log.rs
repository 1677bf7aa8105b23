//! How the deploys of a function went, step by step.

use time::OffsetDateTime;

/// Steps that are kept of one function; older ones go.
pub const STATE_LOG_LIMIT: usize = 32;

/// A step of a deploy.
///
/// ```text
///   Accepted ──> Starting ──> Loading ──> Ready
///      └─ does not build ─┐      └──> Failed
///                         └────────────^
/// ```
///
/// A change of a function that is there begins with `Starting`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeployStep {
    /// The function was accepted.
    Accepted,
    /// A sandbox for its code was asked for.
    Starting,
    /// The sandbox was there, and the code went into it.
    Loading,
    /// The code had been loaded.
    Ready,
    /// The code could not be built or loaded.
    Failed,
}

impl DeployStep {
    /// Every step.
    pub const ALL: [Self; 5] = [Self::Accepted, Self::Starting, Self::Loading, Self::Ready, Self::Failed];

    /// The name in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Starting => "starting",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }

    /// The step of a stored name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == name)
    }
}

/// The newest [`STATE_LOG_LIMIT`] steps of a function's deploys, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateLog(Vec<(DeployStep, OffsetDateTime)>);

impl StateLog {
    /// Adds a step.
    pub fn push(&mut self, step: DeployStep, at: OffsetDateTime) {
        if self.0.len() >= STATE_LOG_LIMIT {
            self.0.remove(0);
        }
        self.0.push((step, at));
    }

    /// The steps, oldest first.
    #[must_use]
    pub fn steps(&self) -> &[(DeployStep, OffsetDateTime)] {
        &self.0
    }
}

impl Extend<(DeployStep, OffsetDateTime)> for StateLog {
    fn extend<I: IntoIterator<Item = (DeployStep, OffsetDateTime)>>(&mut self, steps: I) {
        for (step, at) in steps {
            self.push(step, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_steps_are_kept() {
        let mut log = StateLog::default();
        let at = |n: usize| OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_secs(n as u64);
        log.extend((0..STATE_LOG_LIMIT + 3).map(|n| (DeployStep::Ready, at(n))));
        assert_eq!(log.steps().len(), STATE_LOG_LIMIT);
        assert_eq!(log.steps().first(), Some(&(DeployStep::Ready, at(3))));
    }

    #[test]
    fn names_are_read_back() {
        for step in DeployStep::ALL {
            assert_eq!(DeployStep::parse(step.as_str()), Some(step));
        }
    }
}

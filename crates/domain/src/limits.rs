//! What one function may use. Every limit has a minimum, a maximum and a default, all of them here.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Memory of one sandbox, in MiB.
pub const MEMORY_MIB: RangeInclusive<u32> = 64..=32_768;
/// Time for one invocation, in milliseconds.
pub const TIMEOUT_MS: RangeInclusive<u64> = 100..=3_600_000;
/// Processor share of one sandbox, in thousandths of a core.
pub const MILLI_VCPU: RangeInclusive<u32> = 50..=64_000;
/// Slots of one sandbox.
pub const CONCURRENCY: RangeInclusive<u32> = 1..=1_000;
/// Invocations of one function at once.
pub const MAX_CONCURRENCY: RangeInclusive<u32> = 1..=100_000;
/// How long an unused sandbox is kept, in seconds.
pub const IDLE_TIMEOUT_SECS: RangeInclusive<u64> = 1..=86_400;
/// Sandboxes that are kept however long they are unused.
pub const MIN_WARM: RangeInclusive<u32> = 0..=1_000;
/// Largest event and largest result of a synchronous invocation, in bytes (6 MiB, as AWS Lambda's).
pub const PAYLOAD_LIMIT: usize = 6 * 1024 * 1024;
/// Longest log text that one invocation keeps, in bytes.
pub const LOG_LIMIT: usize = 1024 * 1024;
/// Private `/tmp` of one sandbox, in MiB; it counts as memory of the sandbox.
pub const TMP_MIB: u32 = 64;
/// Processes and threads of one sandbox.
pub const PIDS: u32 = 256;

/// A limit that a function asked for and cannot have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field} is {value}; {min} to {max} are allowed")]
pub struct LimitError {
    /// The field's name on the wire.
    pub field: &'static str,
    /// What was asked for.
    pub value: f64,
    /// The least that is allowed.
    pub min: f64,
    /// The most that is allowed.
    pub max: f64,
}

/// What one function may use. The fields are private: a value has passed every range above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    memory_mib: u32,
    timeout: Duration,
    milli_vcpu: u32,
    concurrency: u32,
    max_concurrency: Option<NonZeroU32>,
    idle_timeout: Duration,
    min_warm: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 128,
            timeout: Duration::from_secs(30),
            milli_vcpu: 1_000,
            concurrency: 1,
            max_concurrency: None,
            idle_timeout: Duration::from_secs(300),
            min_warm: 0,
        }
    }
}

fn within<T>(field: &'static str, value: T, range: &RangeInclusive<T>, unit: f64) -> Result<T, LimitError>
where
    T: PartialOrd + Copy + TryInto<u32>,
{
    if range.contains(&value) {
        return Ok(value);
    }
    let number = |n: T| n.try_into().map_or(f64::INFINITY, f64::from) / unit;
    Err(LimitError { field, value: number(value), min: number(*range.start()), max: number(*range.end()) })
}

impl Limits {
    /// These limits with another memory limit, in MiB.
    pub fn with_memory_mib(self, memory_mib: u32) -> Result<Self, LimitError> {
        Ok(Self { memory_mib: within("memory_mb", memory_mib, &MEMORY_MIB, 1.0)?, ..self })
    }

    /// These limits with another timeout, in milliseconds.
    pub fn with_timeout_ms(self, millis: u64) -> Result<Self, LimitError> {
        let millis = within("timeout_sec", millis, &TIMEOUT_MS, 1_000.0)?;
        Ok(Self { timeout: Duration::from_millis(millis), ..self })
    }

    /// These limits with another processor share, in thousandths of a core.
    pub fn with_milli_vcpu(self, milli_vcpu: u32) -> Result<Self, LimitError> {
        Ok(Self { milli_vcpu: within("vcpu", milli_vcpu, &MILLI_VCPU, 1_000.0)?, ..self })
    }

    /// These limits with another number of slots in one sandbox.
    pub fn with_concurrency(self, concurrency: u32) -> Result<Self, LimitError> {
        Ok(Self { concurrency: within("concurrency", concurrency, &CONCURRENCY, 1.0)?, ..self })
    }

    /// These limits with another bound on invocations at once; `None` leaves only the server's own bound.
    pub fn with_max_concurrency(self, max: Option<u32>) -> Result<Self, LimitError> {
        let max = max.map(|max| within("max_concurrency", max, &MAX_CONCURRENCY, 1.0)).transpose()?;
        Ok(Self { max_concurrency: max.and_then(NonZeroU32::new), ..self })
    }

    /// These limits with another time that an unused sandbox is kept, in whole seconds.
    pub fn with_idle_timeout_secs(self, secs: u64) -> Result<Self, LimitError> {
        let secs = within("idle_timeout_sec", secs, &IDLE_TIMEOUT_SECS, 1.0)?;
        Ok(Self { idle_timeout: Duration::from_secs(secs), ..self })
    }

    /// These limits with another number of sandboxes that are always kept.
    pub fn with_min_warm(self, min_warm: u32) -> Result<Self, LimitError> {
        Ok(Self { min_warm: within("min_warm", min_warm, &MIN_WARM, 1.0)?, ..self })
    }

    /// Memory of one sandbox, in MiB.
    #[must_use]
    pub const fn memory_mib(&self) -> u32 {
        self.memory_mib
    }
    /// Time for one invocation, from admission to outcome.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }
    /// Processor share of one sandbox, in thousandths of a core.
    #[must_use]
    pub const fn milli_vcpu(&self) -> u32 {
        self.milli_vcpu
    }
    /// Slots of one sandbox.
    #[must_use]
    pub const fn concurrency(&self) -> u32 {
        self.concurrency
    }
    /// Invocations of the function at once, if it has a bound of its own.
    #[must_use]
    pub const fn max_concurrency(&self) -> Option<NonZeroU32> {
        self.max_concurrency
    }
    /// How long an unused sandbox is kept.
    #[must_use]
    pub const fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }
    /// Sandboxes that are kept however long they are unused.
    #[must_use]
    pub const fn min_warm(&self) -> u32 {
        self.min_warm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_the_ranges() {
        let limits = Limits::default();
        assert!(MEMORY_MIB.contains(&limits.memory_mib()));
        assert!(TIMEOUT_MS.contains(&u64::try_from(limits.timeout().as_millis()).unwrap()));
        assert!(MILLI_VCPU.contains(&limits.milli_vcpu()));
        assert!(IDLE_TIMEOUT_SECS.contains(&limits.idle_timeout().as_secs()));
    }

    #[test]
    fn a_refusal_names_field_value_and_range() {
        let error = Limits::default().with_milli_vcpu(20).unwrap_err();
        assert_eq!(error.to_string(), "vcpu is 0.02; 0.05 to 64 are allowed");
        let error = Limits::default().with_timeout_ms(0).unwrap_err();
        assert_eq!(error.to_string(), "timeout_sec is 0; 0.1 to 3600 are allowed");
    }

    #[test]
    fn both_ends_of_a_range_are_allowed() {
        assert!(Limits::default().with_memory_mib(*MEMORY_MIB.start()).is_ok());
        assert!(Limits::default().with_memory_mib(*MEMORY_MIB.end()).is_ok());
        assert!(Limits::default().with_memory_mib(MEMORY_MIB.end() + 1).is_err());
    }
}

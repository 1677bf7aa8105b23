//! How often, and how soon, an asynchronous invocation is tried again.
//!
//! What went wrong decides which budget pays for the next attempt:
//!
//! | what | budget |
//! |---|---|
//! | the function failed or ran out of time | [`RetryPolicy::max_retries`] |
//! | there was no room to run it | [`RetryPolicy::max_age`] alone |
//! | the platform could not run it | [`PLATFORM_TRIES`], within [`RetryPolicy::max_age`] |
//! | the worker that ran it died | [`DEATHS`] |

use std::time::Duration;

use crate::limits::LimitError;

/// How often the platform may fail at one invocation before it gives up.
pub const PLATFORM_TRIES: u32 = 20;
/// With how many dead workers an invocation is given up: it may be what kills them.
pub const DEATHS: u32 = 3;
/// Retries that may be asked for.
pub const MAX_RETRIES: u32 = 10;
/// The shortest wait before the first retry, in milliseconds.
pub const SHORTEST_WAIT_MS: u64 = 100;
/// The longest wait before any retry, in milliseconds.
pub const LONGEST_WAIT_MS: u64 = 24 * 3_600_000;
/// The shortest time that an invocation may be given to be run at all, in milliseconds.
pub const SHORTEST_AGE_MS: u64 = 60_000;
/// The longest, and the longest delay, in milliseconds: seven days.
pub const LONGEST_AGE_MS: u64 = 7 * 24 * 3_600_000;

/// How an asynchronous invocation is tried again. Made from another by [`RetryPolicy::with`], within its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RetryPolicy {
    max_retries: u32,
    first_wait: Duration,
    max_wait: Duration,
    max_age: Duration,
    dead_letter: bool,
}

/// A policy as it is asked for; what is `None` is as in the policy that it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryChange {
    /// How often a function's failure is tried again: 0 to [`MAX_RETRIES`].
    pub max_retries: Option<u32>,
    /// The wait before the first retry: [`SHORTEST_WAIT_MS`] to [`LONGEST_WAIT_MS`]; it doubles from retry to retry.
    pub first_wait: Option<Duration>,
    /// The longest wait before any retry; the same bounds.
    pub max_wait: Option<Duration>,
    /// How long after it could first have run an invocation may still begin an attempt: [`SHORTEST_AGE_MS`] to
    /// [`LONGEST_AGE_MS`].
    pub max_age: Option<Duration>,
    /// Whether an invocation that is given up is a dead letter, which can be driven again.
    pub dead_letter: Option<bool>,
}

impl RetryPolicy {
    /// Two retries, after one and two minutes; six hours; dead letters. As AWS Lambda's
    /// (<https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>).
    pub const DEFAULT: Self = Self {
        max_retries: 2,
        first_wait: Duration::from_secs(60),
        max_wait: Duration::from_secs(3_600),
        max_age: Duration::from_secs(6 * 3_600),
        dead_letter: true,
    };
    /// A function's failure is final, and nothing becomes a dead letter.
    pub const FINAL: Self = Self { max_retries: 0, dead_letter: false, ..Self::DEFAULT };

    /// This policy with changes; refuses what is out of its bounds.
    pub fn with(self, change: RetryChange) -> Result<Self, LimitError> {
        let span = |field, value: Option<Duration>, before: Duration, min, max| match value {
            None => Ok(before),
            Some(value) => {
                let ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
                within(field, ms, min, max).map(|()| Duration::from_millis(ms))
            }
        };
        if let Some(retries) = change.max_retries {
            within("max_retries", retries.into(), 0, MAX_RETRIES.into())?;
        }
        let (short, long) = (SHORTEST_WAIT_MS, LONGEST_WAIT_MS);
        let first_wait = span("retry_delay_ms", change.first_wait, self.first_wait, short, long)?;
        Ok(Self {
            max_retries: change.max_retries.unwrap_or(self.max_retries),
            first_wait,
            max_wait: span("max_retry_delay_ms", change.max_wait, self.max_wait, short, long)?
                .max(first_wait),
            max_age: span("max_age_ms", change.max_age, self.max_age, SHORTEST_AGE_MS, LONGEST_AGE_MS)?,
            dead_letter: change.dead_letter.unwrap_or(self.dead_letter),
        })
    }

    /// How often a function's failure is tried again.
    #[must_use]
    pub const fn max_retries(&self) -> u32 {
        self.max_retries
    }

    /// The wait before the first retry.
    #[must_use]
    pub const fn first_wait(&self) -> Duration {
        self.first_wait
    }

    /// The longest wait before any retry.
    #[must_use]
    pub const fn max_wait(&self) -> Duration {
        self.max_wait
    }

    /// How long after it could first have run an invocation may still begin an attempt.
    #[must_use]
    pub const fn max_age(&self) -> Duration {
        self.max_age
    }

    /// Whether an invocation that is given up is a dead letter.
    #[must_use]
    pub const fn dead_letter(&self) -> bool {
        self.dead_letter
    }

    /// The wait after so many failures of the function, counted from one; `None` if there is no retry left. `random`
    /// lengthens it by up to a tenth, so that what failed together does not come back together.
    #[must_use]
    pub fn wait_after_failure(&self, failures: u32, random: u64) -> Option<Duration> {
        (failures <= self.max_retries)
            .then(|| jittered(doubled(self.first_wait, failures).min(self.max_wait), random))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

fn within(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), LimitError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let [value, min, max] = [value, min, max].map(|number| number as f64);
    Err(LimitError { field, value, min, max })
}

/// The wait before the n-th repetition, counted from one: doubles each time.
fn doubled(first: Duration, nth: u32) -> Duration {
    let factor = 1u32.checked_shl(nth.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor)
}

fn jittered(wait: Duration, random: u64) -> Duration {
    let tenth = u64::try_from(wait.as_millis() / 10).unwrap_or(u64::MAX);
    wait.saturating_add(Duration::from_millis(random.checked_rem(tenth).unwrap_or_default()))
}

/// The wait after the platform could not run an invocation the n-th time: doubles from one second up to five minutes,
/// as AWS Lambda's does, and up to a tenth more.
#[must_use]
pub fn backoff(nth: u32, random: u64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(300);
    jittered(doubled(Duration::from_secs(1), nth).min(LONGEST), random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_waits_one_and_two_minutes() {
        let waits = [1, 2, 3].map(|failures| RetryPolicy::DEFAULT.wait_after_failure(failures, 0));
        assert_eq!(waits, [Some(Duration::from_secs(60)), Some(Duration::from_secs(120)), None]);
        assert_eq!(RetryPolicy::FINAL.wait_after_failure(1, 0), None);
    }

    #[test]
    fn the_platforms_waits_double_up_to_five_minutes() {
        let seconds = [1, 2, 3, 9, 10, 64, u32::MAX].map(|nth| backoff(nth, 0).as_secs());
        assert_eq!(seconds, [1, 2, 4, 256, 300, 300, 300]);
    }

    #[test]
    fn what_is_out_of_bounds_names_its_field() {
        let refused =
            RetryPolicy::DEFAULT.with(RetryChange { max_retries: Some(11), ..RetryChange::default() });
        assert_eq!(refused.map_err(|error| error.field), Err("max_retries"));
        let short = RetryChange { first_wait: Some(Duration::from_millis(99)), ..RetryChange::default() };
        assert_eq!(RetryPolicy::DEFAULT.with(short).map_err(|error| error.field), Err("retry_delay_ms"));
    }

    proptest! {
        #[test]
        fn waits_never_shrink_and_stay_within_their_bounds(
            retries in 0..=MAX_RETRIES,
            first in SHORTEST_WAIT_MS..=LONGEST_WAIT_MS,
            longest in SHORTEST_WAIT_MS..=LONGEST_WAIT_MS,
            random in any::<u64>(),
        ) {
            let change = RetryChange {
                max_retries: Some(retries),
                first_wait: Some(Duration::from_millis(first)),
                max_wait: Some(Duration::from_millis(longest)),
                ..RetryChange::default()
            };
            let policy = RetryPolicy::DEFAULT.with(change).unwrap();
            let mut before = Duration::ZERO;
            for failures in 1..=MAX_RETRIES + 1 {
                let plain = policy.wait_after_failure(failures, 0);
                let wait = policy.wait_after_failure(failures, random);
                prop_assert_eq!(plain.is_some(), failures <= retries);
                let (Some(plain), Some(wait)) = (plain, wait) else { continue };
                prop_assert!(plain >= before && plain <= policy.max_wait());
                prop_assert!(wait >= plain && wait <= plain + plain / 10);
                before = plain;
            }
        }

        #[test]
        fn backoff_is_never_longer_than_its_bound(nth in any::<u32>(), random in any::<u64>()) {
            prop_assert!(backoff(nth, random) <= Duration::from_secs(330));
            prop_assert!(backoff(nth, random) >= Duration::from_secs(1));
        }
    }
}

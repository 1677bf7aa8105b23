//! What becomes of an attempt: a pure function of what happened and of what has gone wrong before.

use std::time::Duration;

use bytes::Bytes;
use impuls_domain::retry::{DEATHS, PLATFORM_TRIES, backoff};
use impuls_domain::{AsyncInvocation, Completion, ErrorType, Failure, Outcome, Tally};
use impuls_store::PutBack;
use time::OffsetDateTime;

use crate::error::DispatchError;

/// What happened to an attempt.
#[derive(Debug)]
pub(super) enum Happened {
    /// It ran; or the hook answered, or did not.
    Outcome(Outcome<Bytes>),
    /// There was no room for it.
    Throttled(String),
    /// The platform could not run it, and may be able to later.
    Broken(String),
    /// It cannot be run, whenever it is tried.
    Refused(Failure),
    /// The server stops.
    Stopping,
    /// The worker that ran it died.
    WorkerDied(String),
    /// It may not be tried any more, because of how many workers died.
    Poisonous,
    /// It has not begun in time.
    TooOld,
}

impl Happened {
    /// What a refusal by dispatch means.
    pub(super) fn refusal(error: &DispatchError) -> Self {
        let text = error.to_string();
        match error {
            DispatchError::ShuttingDown => Self::Stopping,
            DispatchError::Throttled { .. } | DispatchError::Deploying(_) => Self::Throttled(text),
            DispatchError::Sandbox(cause) if cause.is_retryable() => Self::Throttled(text),
            DispatchError::NoWorker(_) => Self::Throttled(text),
            DispatchError::Sandbox(_) | DispatchError::Code(_) | DispatchError::Store(_) => {
                Self::Broken(text)
            }
            DispatchError::WorkerLost => Self::WorkerDied(text),
            DispatchError::Denied
            | DispatchError::NoNetwork
            | DispatchError::FunctionNotFound(_)
            | DispatchError::QualifierNotFound { .. }
            | DispatchError::BadEvent(_)
            | DispatchError::InputBroken(_)
            | DispatchError::InvocationNotFound(_)
            | DispatchError::KeyTaken(_)
            | DispatchError::Settled { .. }
            | DispatchError::Limit(_)
            | DispatchError::EventTooLarge { .. } => Self::Refused(platform(text)),
        }
    }
}

/// What becomes of an attempt.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Nothing more is tried.
    End(Completion),
    /// Another attempt.
    Again(PutBack),
}

/// The failure of an invocation that the platform gave up.
pub(super) fn platform(message: String) -> Failure {
    Failure { error_type: ErrorType::PlatformError, class: String::new(), message, stack: None }
}

/// Decides. `random` keeps what failed together from coming back together.
pub(super) fn next(
    invocation: &AsyncInvocation,
    happened: Happened,
    now: OffsetDateTime,
    random: u64,
) -> Next {
    let (policy, before) = (&invocation.policy, invocation.tally);
    let end = |failure| Next::End(Completion::without_outcome(failure, policy, now));
    let is_in_time = |wait: Duration| now + wait - invocation.ready_at <= policy.max_age();
    let again = |wait: Duration, tally: Tally, failure: Failure| {
        Next::Again(PutBack { not_before: now + wait, tally, failure: Some(failure) })
    };
    match happened {
        Happened::Outcome(outcome) => {
            let failures = before.failures + 1;
            let wait = outcome.result.as_ref().err().and(policy.wait_after_failure(failures, random));
            match (wait, &outcome.result) {
                (Some(wait), Err(failure)) if is_in_time(wait) => {
                    again(wait, Tally { failures, ..before }, failure.clone())
                }
                _ => Next::End(Completion::of(outcome, policy, now)),
            }
        }
        Happened::Throttled(why) => {
            let throttled = before.throttled + 1;
            let wait = backoff(throttled, random);
            if is_in_time(wait) {
                return again(wait, Tally { throttled, ..before }, platform(why));
            }
            let age = policy.max_age();
            end(platform(format!("there was no room for it within {age:?}, {throttled} times: {why}")))
        }
        Happened::Broken(why) => {
            let broken = before.broken + 1;
            let wait = backoff(broken, random);
            if broken < PLATFORM_TRIES && is_in_time(wait) {
                return again(wait, Tally { broken, ..before }, platform(why));
            }
            end(platform(format!("the platform could not run it {broken} times: {why}")))
        }
        Happened::Refused(failure) => end(failure),
        Happened::Stopping => Next::Again(PutBack { not_before: now, tally: before, failure: None }),
        Happened::WorkerDied(why) => {
            let tally = Tally { deaths: before.deaths + 1, ..before };
            let wait = backoff(tally.deaths, random);
            if is_poisonous(tally) || !is_in_time(wait) {
                return end(poisoned(tally.deaths));
            }
            again(wait, tally, platform(why))
        }
        Happened::Poisonous => end(poisoned(before.deaths)),
        Happened::TooOld => {
            let age = policy.max_age();
            end(platform(format!("it could not begin within {age:?}")))
        }
    }
}

fn poisoned(deaths: u32) -> Failure {
    platform(format!(
        "the worker died {deaths} times while it ran this invocation; it is not tried again by itself"
    ))
}

/// Whether it waited for longer than it may.
pub(super) fn is_too_old(invocation: &AsyncInvocation, now: OffsetDateTime) -> bool {
    now - invocation.ready_at > invocation.policy.max_age()
}

/// Whether so many workers have died that nobody should try again.
pub(super) const fn is_poisonous(tally: Tally) -> bool {
    tally.deaths >= DEATHS
}

#[cfg(test)]
pub(super) mod tests {
    use impuls_domain::{
        AsyncStatus, Destinations, FunctionId, InvocationId, Logs, Qualifier, RetryPolicy, Usage,
    };

    use super::*;

    pub(in super::super) fn invocation(policy: RetryPolicy, tally: Tally) -> AsyncInvocation {
        let at = OffsetDateTime::UNIX_EPOCH;
        AsyncInvocation {
            id: InvocationId::new(),
            function: FunctionId::new(),
            qualifier: Qualifier::Latest,
            hook: None,
            event: Vec::new(),
            context: Vec::new(),
            timeout: None,
            policy,
            destinations: Destinations::default(),
            key: None,
            origin: None,
            chain: 0,
            status: AsyncStatus::Running,
            attempt: 1,
            tally,
            not_before: at,
            created_at: at,
            ready_at: at,
            started_at: Some(at),
            last_failure: None,
            completion: None,
        }
    }

    fn failed() -> Happened {
        let result = Err(Failure { error_type: ErrorType::FunctionError, ..platform("no".to_owned()) });
        Happened::Outcome(Outcome { result, logs: Logs::default(), usage: Usage::default() })
    }

    fn check(policy: RetryPolicy, tally: Tally, happened: Happened, expected: Result<Tally, AsyncStatus>) {
        let decided = next(&invocation(policy, tally), happened, OffsetDateTime::UNIX_EPOCH, 0);
        let decided = match decided {
            Next::End(completion) => Err(completion.status),
            Next::Again(put_back) => Ok(put_back.tally),
        };
        assert_eq!(decided, expected);
    }

    #[test]
    fn each_kind_of_trouble_has_a_budget_of_its_own() {
        let (policy, none) = (RetryPolicy::DEFAULT, Tally::default());
        let failures = |failures| Tally { failures, throttled: 70, broken: 7, deaths: 1 };
        check(policy, failures(0), failed(), Ok(failures(1)));
        check(policy, failures(2), failed(), Err(AsyncStatus::Dead));
        check(RetryPolicy::FINAL, none, failed(), Err(AsyncStatus::Failed));
        let throttled = || Happened::Throttled("full".to_owned());
        check(
            RetryPolicy::FINAL,
            Tally { throttled: 70, ..none },
            throttled(),
            Ok(Tally { throttled: 71, ..none }),
        );
        let broken = || Happened::Broken("gone".to_owned());
        check(policy, Tally { broken: 18, ..none }, broken(), Ok(Tally { broken: 19, ..none }));
        check(policy, Tally { broken: 19, ..none }, broken(), Err(AsyncStatus::Dead));
        check(policy, none, Happened::Stopping, Ok(none));
        check(policy, none, Happened::Refused(platform("no".to_owned())), Err(AsyncStatus::Dead));
        check(policy, Tally { deaths: 3, ..none }, Happened::Poisonous, Err(AsyncStatus::Dead));
        let died = || Happened::refusal(&DispatchError::WorkerLost);
        check(RetryPolicy::FINAL, none, died(), Ok(Tally { deaths: 1, ..none }));
        check(policy, Tally { deaths: 2, ..none }, died(), Err(AsyncStatus::Dead));
        assert!(!is_poisonous(Tally { deaths: 2, ..none }) && is_poisonous(Tally { deaths: 3, ..none }));
    }

    #[test]
    fn nothing_begins_after_its_age() {
        let invocation = invocation(RetryPolicy::DEFAULT, Tally::default());
        let late = invocation.ready_at + invocation.policy.max_age();
        assert!(!is_too_old(&invocation, late) && is_too_old(&invocation, late + Duration::from_secs(1)));
        for happened in [failed(), Happened::Throttled(String::new()), Happened::Broken(String::new())] {
            assert!(matches!(next(&invocation, happened, late, 0), Next::End(_)));
        }
        assert!(matches!(next(&invocation, Happened::TooOld, late, 0), Next::End(_)));
        assert!(matches!(next(&invocation, Happened::Stopping, late, 0), Next::Again(_)));
    }
}

//! What sandboxes were refused, and how often that is told.

use std::collections::HashMap;
use std::time::Duration;

use impuls_sandbox::Refusals;
use tokio::time::Instant;

/// How long a function that has been in the log is left out of it. What it is refused meanwhile is told then.
const SILENCE: Duration = Duration::from_secs(60);
/// Functions that are told or kept waiting at once; refusals of others stay out of the log, not out of the counts.
const FUNCTIONS: usize = 256;

/// Which functions have been in the log, and what has been refused to them since.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    functions: HashMap<String, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    told: Option<Instant>,
    waiting: Refusals,
}

impl Ledger {
    /// Notes what a function was refused.
    pub(super) fn note(&mut self, function: &str, more: Refusals) {
        if more.is_none() || (self.functions.len() >= FUNCTIONS && !self.functions.contains_key(function)) {
            return;
        }
        let entry = self.functions.entry(function.to_owned()).or_default();
        entry.waiting = entry.waiting.and(more);
    }

    /// What is to be told now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(String, Refusals)> {
        let mut due = Vec::new();
        self.functions.retain(|function, entry| {
            if entry.told.is_some_and(|at| now.duration_since(at) < SILENCE) {
                return true;
            }
            if entry.waiting.is_none() {
                return false;
            }
            entry.told = Some(now);
            due.push((function.clone(), std::mem::take(&mut entry.waiting)));
            true
        });
        due.sort_by(|(a, _), (b, _)| a.cmp(b));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Refusals = Refusals { packets: 1, lookups: 2 };

    #[test]
    fn a_function_is_told_at_once_and_then_once_a_minute() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let mut at = |secs, notes: &[&str]| {
            notes.iter().for_each(|function| ledger.note(function, ONE));
            ledger.due(start + Duration::from_secs(secs))
        };
        assert_eq!(at(0, &["a"]), [("a".to_owned(), ONE)]);
        assert_eq!(at(5, &["a", "b"]), [("b".to_owned(), ONE)]);
        assert_eq!(at(59, &["a"]), []);
        assert_eq!(at(60, &[]), [("a".to_owned(), ONE.and(ONE))]);
        assert_eq!(at(200, &[]), []);
        assert!(ledger.functions.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        (0..1_000).for_each(|n| ledger.note(&n.to_string(), ONE));
        assert_eq!(ledger.due(start).len(), FUNCTIONS);
        ledger.note("later", ONE);
        assert_eq!(ledger.due(start + SILENCE), []);
        ledger.note("later", ONE);
        assert_eq!(ledger.due(start + SILENCE), [("later".to_owned(), ONE)]);
    }
}

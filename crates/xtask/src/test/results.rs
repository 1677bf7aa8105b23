//! The counts in what test programs print.

use std::ops::AddAssign;

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that ran and succeeded.
    pub passed: u64,
    /// Tests that failed, and test programs that died.
    pub failed: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Reads a line of libtest: `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
pub fn libtest(line: &str) -> Option<Counts> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |name: &str| {
        let part = counts.split("; ").find_map(|part| part.strip_suffix(name))?;
        part.trim().parse().ok()
    };
    Some(Counts { passed: count("passed")?, failed: count("failed")? })
}

/// Reads the summary of Node's TAP reporter: `# pass 12`, `# fail 0`, `# cancelled 0`.
pub fn tap(text: &str) -> Option<Counts> {
    let count = |name: &str| {
        let prefix = format!("# {name} ");
        text.lines().rev().find_map(|line| line.strip_prefix(&prefix)?.trim().parse::<u64>().ok())
    };
    Some(Counts { passed: count("pass")?, failed: count("fail")? + count("cancelled").unwrap_or(0) })
}

/// What Node's TAP reporter wrote about anything but tests that passed.
pub fn tap_failures(text: &str) -> String {
    let mut in_passed = false;
    let mut kept = String::new();
    for line in text.lines() {
        let start = line.trim_start();
        in_passed = start.starts_with("ok ")
            || (in_passed && !start.starts_with("# ") && !start.starts_with("not ok "));
        if !in_passed && !start.starts_with("# Subtest: ") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Reads the summary of Python's unittest: `Ran 12 tests in 0.1s`, then `OK` or `FAILED (failures=1, errors=2)`.
pub fn unittest(text: &str) -> Option<Counts> {
    let ran = text.lines().rev().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse().ok());
    let verdict = text.lines().rev().find(|line| line.starts_with("OK") || line.starts_with("FAILED"))?;
    let details = verdict.split_once('(').map_or("", |(_, details)| details.trim_end_matches(')'));
    let count = |name: &str| -> u64 {
        let parts = details.split(", ").filter_map(|part| part.split_once('='));
        parts.filter(|(key, _)| *key == name).filter_map(|(_, number)| number.parse::<u64>().ok()).sum()
    };
    let failed = count("failures") + count("errors") + count("unexpected successes");
    let ran: u64 = ran?;
    Some(Counts { passed: ran.saturating_sub(failed + count("skipped")), failed })
}

/// Reads the summary of Ruby's minitest: `12 runs, 34 assertions, 1 failures, 0 errors, 2 skips`.
pub fn minitest(text: &str) -> Option<Counts> {
    let summary =
        text.lines().rev().find(|line| line.contains(" runs, ") && line.contains(" assertions, "))?;
    let count = |name: &str| -> Option<u64> {
        let part = summary.split(", ").find_map(|part| part.trim().strip_suffix(name))?;
        part.trim().parse().ok()
    };
    let failed = count(" failures")? + count(" errors")?;
    Some(Counts { passed: count(" runs")?.saturating_sub(failed + count(" skips")?), failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64) -> Option<Counts> {
        Some(Counts { passed, failed })
    }

    #[test]
    fn a_result_line_of_libtest_is_read() {
        let line =
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.1s";
        assert_eq!(libtest(line), counts(12, 0));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(libtest(line), counts(1, 2));
        assert_eq!(libtest("running 3 tests"), None);
    }

    #[test]
    fn a_cancelled_node_test_is_a_failed_one() {
        let text = "TAP version 13\n# tests 5\n# pass 3\n# fail 1\n# cancelled 1\n# skipped 0\n";
        assert_eq!(tap(text), counts(3, 2));
        assert_eq!(tap("SyntaxError"), None);
    }

    #[test]
    fn of_node_tests_only_failures_are_shown() {
        let passed = "# Subtest: a\nok 1 - a\n  ---\n  duration_ms: 1\n  ...\n";
        let failed = "not ok 2 - b\n  ---\n  error: 'x'\n  ...\n";
        assert_eq!(
            tap_failures(&format!("{passed}# Subtest: b\n{failed}{passed}# fail 1\n")),
            format!("{failed}# fail 1\n")
        );
    }

    #[test]
    fn a_ruby_test_with_an_error_is_a_failed_one() {
        let text = "Finished in 1.9s\n9 runs, 40 assertions, 1 failures, 2 errors, 3 skips\n";
        assert_eq!(minitest(text), counts(3, 3));
        assert_eq!(minitest("cannot load such file -- minitest (LoadError)"), None);
    }

    #[test]
    fn skipped_python_tests_did_not_pass() {
        assert_eq!(unittest("....\nRan 4 tests in 0.1s\n\nOK (skipped=1)\n"), counts(3, 0));
        assert_eq!(unittest("Ran 9 tests in 1s\n\nFAILED (failures=1, errors=2, skipped=3)\n"), counts(3, 3));
        assert_eq!(unittest("Ran 2 tests in 1s\n\nOK\n"), counts(2, 0));
        assert_eq!(unittest("ImportError"), None);
    }
}

//! What a function wrote while one invocation ran.

use crate::limits::LOG_LIMIT;

/// What rendering may add to a line: its level's mark (at most `[DEBUG] `) and the newline. It counts, so that a
/// flood of short lines is bounded as well.
const LINE_COST: usize = 9;

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogLevel {
    /// Written to standard output.
    Stdout,
    /// Written to standard error.
    Stderr,
    /// `console.debug`, `console.trace`.
    Debug,
    /// `console.log`, `console.info`.
    Info,
    /// `console.warn`.
    Warn,
    /// `console.error`.
    Error,
}

/// One piece of log text: one or more whole lines without the last newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Where it came from.
    pub level: LogLevel,
    /// The text; invalid UTF-8 has been replaced.
    pub text: String,
}

/// The log of one invocation, bounded by [`LOG_LIMIT`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    lines: Vec<LogLine>,
    bytes: usize,
    dropped_bytes: u64,
}

impl Logs {
    /// Adds text; what goes beyond the bound is counted and dropped.
    pub fn push(&mut self, level: LogLevel, text: &str) {
        let room = LOG_LIMIT.saturating_sub(self.bytes);
        let kept = text.get(..text.floor_char_boundary(room)).unwrap_or_default();
        self.dropped_bytes += (text.len() - kept.len()) as u64;
        if !kept.is_empty() || text.is_empty() && room > 0 {
            self.bytes += kept.len() + LINE_COST;
            self.lines.push(LogLine { level, text: kept.to_owned() });
        }
    }

    /// Notes that the writer itself dropped so many bytes.
    pub const fn add_dropped(&mut self, bytes: u64) {
        self.dropped_bytes += bytes;
    }

    /// The lines in the order they were written.
    #[must_use]
    pub fn lines(&self) -> &[LogLine] {
        &self.lines
    }

    /// Bytes that the bound cut off.
    #[must_use]
    pub const fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// Whether nothing was written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped_bytes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_beyond_the_bound_is_counted_not_kept() {
        let mut logs = Logs::default();
        logs.push(LogLevel::Stdout, &"x".repeat(LOG_LIMIT - LINE_COST - 1));
        logs.push(LogLevel::Stdout, "hello");
        logs.push(LogLevel::Stdout, "again");
        assert_eq!(logs.lines().len(), 2);
        assert_eq!(logs.dropped_bytes(), 9);
    }

    #[test]
    fn a_flood_of_empty_lines_is_bounded() {
        let mut logs = Logs::default();
        for _ in 0..LOG_LIMIT + 10 {
            logs.push(LogLevel::Info, "");
        }
        assert_eq!(logs.lines().len(), LOG_LIMIT.div_ceil(LINE_COST));
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        let mut logs = Logs::default();
        logs.push(LogLevel::Stdout, &"x".repeat(LOG_LIMIT - LINE_COST - 1));
        logs.push(LogLevel::Stdout, "é");
        assert_eq!(logs.dropped_bytes(), 2);
    }
}

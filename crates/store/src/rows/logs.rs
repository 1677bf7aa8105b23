//! Logs as bytes: for each piece its level, the length of its text as LEB128, and the text. Not JSON, because logs
//! are often full of what JSON would have to escape.

use impuls_domain::{LogLevel, Logs};

const LEVELS: [LogLevel; 6] =
    [LogLevel::Stdout, LogLevel::Stderr, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];

const fn number(level: LogLevel) -> u8 {
    match level {
        LogLevel::Stdout => 0,
        LogLevel::Stderr => 1,
        LogLevel::Debug => 2,
        LogLevel::Info => 3,
        LogLevel::Warn => 4,
        LogLevel::Error => 5,
    }
}

/// The lines; the count of dropped bytes has a column of its own. `None` when there is no line.
pub(super) fn encode(logs: &Logs) -> Option<Vec<u8>> {
    if logs.lines().is_empty() {
        return None;
    }
    let mut bytes = Vec::with_capacity(logs.lines().iter().map(|line| line.text.len() + 3).sum());
    for line in logs.lines() {
        bytes.push(number(line.level));
        push_length(&mut bytes, line.text.len());
        bytes.extend_from_slice(line.text.as_bytes());
    }
    Some(bytes)
}

pub(super) fn push_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

/// The logs of stored bytes; `None` if they are damaged.
pub(super) fn decode(mut bytes: &[u8], dropped: u64) -> Option<Logs> {
    let mut logs = Logs::default();
    while let Some((&level, rest)) = bytes.split_first() {
        let level = *LEVELS.get(usize::from(level))?;
        let (length, rest) = decode_length(rest)?;
        let (text, rest) = rest.split_at_checked(length)?;
        // Text that was kept once is within the bound, so it is kept again.
        logs.push(level, std::str::from_utf8(text).ok()?);
        bytes = rest;
    }
    logs.add_dropped(dropped);
    Some(logs)
}

pub(super) fn decode_length(mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, rest) = bytes.split_first()?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((length, rest));
        }
        bytes = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use impuls_domain::limits::LOG_LIMIT;
    use proptest::prelude::*;

    fn round_trips(logs: &Logs) {
        let bytes = encode(logs).unwrap_or_default();
        assert_eq!(decode(&bytes, logs.dropped_bytes()).as_ref(), Some(logs));
    }

    #[test]
    fn levels_are_numbered_by_their_place() {
        for (place, level) in LEVELS.into_iter().enumerate() {
            assert_eq!(usize::from(number(level)), place);
        }
    }

    #[test]
    fn full_and_cut_logs_round_trip() {
        let mut logs = Logs::default();
        logs.push(LogLevel::Stdout, &"x".repeat(LOG_LIMIT - 3));
        logs.push(LogLevel::Error, "é€");
        logs.push(LogLevel::Error, "");
        round_trips(&logs);
        let mut flood = Logs::default();
        (0..LOG_LIMIT + 5).for_each(|_| flood.push(LogLevel::Info, ""));
        round_trips(&flood);
    }

    proptest! {
        #[test]
        fn any_logs_round_trip(lines in prop::collection::vec((0usize..6, ".{0,200}"), 0..20), dropped in 0u64..99) {
            let mut logs = Logs::default();
            for (level, text) in &lines {
                logs.push(LEVELS[*level], text);
            }
            logs.add_dropped(dropped);
            round_trips(&logs);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(logs) = decode(&bytes, 0) {
                prop_assert!(logs.lines().len() <= bytes.len());
            }
        }
    }
}

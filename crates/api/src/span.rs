//! Time spans as texts: `500ms`, `30s`, `1m30s`, `2h`, `7d`; a number without a unit is seconds.

use std::time::Duration;

use crate::problem::Problem;

/// The span that a field or a parameter of this name holds.
pub(crate) fn parse(name: &str, text: &str) -> Result<Duration, Problem> {
    let wrong = || {
        let start: String = text.chars().take(40).collect();
        Problem::invalid(name, format_args!("{start:?} is no time span, such as 30s, 500ms, 1m30s or 7d"))
    };
    read(text).ok_or_else(wrong)
}

fn read(text: &str) -> Option<Duration> {
    if text.is_empty() || text.len() > 40 {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    let (mut rest, mut total) = (text, 0u64);
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(millis)?)?;
        rest = tail;
    }
    Some(Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_or_are_seconds() {
        let millis = |text| read(text).map(|span| span.as_millis());
        assert_eq!(
            ["30", "500ms", "1m30s", "7d", "0s"].map(millis),
            [30_000, 500, 90_000, 604_800_000, 0].map(Some)
        );
        assert_eq!(
            ["", "s", "1", "-1s", "1 s", "1w", "99999999999999999999s", "1.5s"]
                .map(|text| millis(text).is_some()),
            [false, false, true, false, false, false, false, false]
        );
    }
}

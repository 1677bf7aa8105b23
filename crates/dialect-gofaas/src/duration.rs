//! Timeouts as this dialect writes them: a text such as `30s` or `1m30s`, or a number of nanoseconds.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};

/// A timeout as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Timeout {
    Nanoseconds(i64),
    Text(String),
}

impl Timeout {
    /// The time that is meant; an error says what is wrong with it.
    pub(crate) fn duration(&self) -> Result<Duration, String> {
        let duration = match self {
            Self::Nanoseconds(nanos) => u64::try_from(*nanos).ok().map(Duration::from_nanos),
            Self::Text(text) => parse(text),
        };
        let positive = duration.filter(|duration| !duration.is_zero());
        positive.ok_or_else(|| "timeout must be positive: a text such as \"30s\", or nanoseconds".to_owned())
    }
}

struct Written;

impl Visitor<'_> for Written {
    type Value = Timeout;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text such as \"30s\", or a whole number of nanoseconds")
    }

    fn visit_i64<E>(self, nanos: i64) -> Result<Timeout, E> {
        Ok(Timeout::Nanoseconds(nanos))
    }

    fn visit_u64<E>(self, nanos: u64) -> Result<Timeout, E> {
        Ok(Timeout::Nanoseconds(i64::try_from(nanos).unwrap_or(i64::MAX)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Timeout, E> {
        Ok(Timeout::Text(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// Go's syntax of durations (<https://pkg.go.dev/time#ParseDuration>) without a sign.
fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at_checked(digits)?;
        let letters = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let (unit, next) = unit.split_at_checked(letters)?;
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        let value: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(value * seconds).ok()?)?;
        rest = next;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<u64>) {
        let millis = Timeout::Text(text.to_owned()).duration().ok().map(|duration| duration.as_millis());
        assert_eq!(millis, expected.map(u128::from), "{text}");
    }

    #[test]
    fn texts_are_durations_of_go() {
        check("30s", Some(30_000));
        check("1m30s", Some(90_000));
        check("500ms", Some(500));
        check("1.5h", Some(5_400_000));
        for text in ["", "30", "s", "30x", "-1s", "0s"] {
            check(text, None);
        }
    }

    #[test]
    fn numbers_are_nanoseconds() {
        assert_eq!(Timeout::Nanoseconds(30_000_000_000).duration(), Ok(Duration::from_secs(30)));
        assert!(Timeout::Nanoseconds(-1).duration().is_err());
    }
}

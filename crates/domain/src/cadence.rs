//! When a schedule ticks: after the same time again and again, or by a cron expression on the clock of a time zone.
//!
//! Time zones are those of the IANA database that is compiled in, so that every server knows the same.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use time::OffsetDateTime;

/// The shortest time between two ticks.
pub const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time between two ticks of an interval.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(366 * 24 * 3_600);
/// The most bytes of a cron expression.
pub const CRON_LIMIT: usize = 255;

/// Why a schedule cannot tick like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CadenceError {
    /// Too short or too long.
    #[error("{0:?} is no interval of a schedule; 1 s to 366 days are allowed")]
    Interval(Duration),
    /// Not five fields, or not fields that make sense.
    #[error(
        "{0:?} is no cron expression: {1}; it has five fields, such as `*/5 * * * *` or `0 9 * * MON-FRI`"
    )]
    Expression(String, String),
    /// No such time zone.
    #[error("{0:?} is no time zone; it looks like Europe/Berlin or UTC")]
    TimeZone(String),
    /// A date that no year has.
    #[error("{0:?} never comes")]
    Never(String),
}

/// A time between two ticks: [`SHORTEST_INTERVAL`] to [`LONGEST_INTERVAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interval(Duration);

impl Interval {
    /// An interval of so long.
    pub fn new(length: Duration) -> Result<Self, CadenceError> {
        if (SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&length) {
            Ok(Self(length))
        } else {
            Err(CadenceError::Interval(length))
        }
    }

    /// How long it is.
    #[must_use]
    pub const fn length(self) -> Duration {
        self.0
    }
}

/// A cron expression on the clock of a time zone. Five fields: minute, hour, day of the month, month, day of the week; as
/// Vixie cron reads them. Where clocks are put forward, a fixed time that is left out comes right after the gap, and
/// times of a pattern are left out; where they are put back, a fixed time comes once and those of a pattern come twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CronRule {
    expression: String,
    time_zone: String,
}

impl CronRule {
    /// The rule that these texts mean.
    pub fn new(expression: &str, time_zone: &str) -> Result<Self, CadenceError> {
        if expression.len() > CRON_LIMIT {
            let start = expression.chars().take(40).collect();
            return Err(CadenceError::Expression(start, format!("more than {CRON_LIMIT} bytes")));
        }
        parse(expression)?;
        zone(time_zone)?;
        Ok(Self { expression: expression.to_owned(), time_zone: time_zone.to_owned() })
    }

    /// The expression as it was given.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The time zone's IANA name.
    #[must_use]
    pub fn time_zone(&self) -> &str {
        &self.time_zone
    }

    fn next_after(&self, after: OffsetDateTime) -> Result<OffsetDateTime, CadenceError> {
        let never = || CadenceError::Never(self.expression.clone());
        let second = Timestamp::from_second(after.unix_timestamp()).map_err(|_| never())?;
        let start = Zoned::new(second, zone(&self.time_zone)?);
        let next = parse(&self.expression)?.find_next_occurrence(&start, false).map_err(|_| never())?;
        OffsetDateTime::from_unix_timestamp(next.timestamp().as_second()).map_err(|_| never())
    }
}

fn parse(expression: &str) -> Result<Cron, CadenceError> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser
        .parse(expression)
        .map_err(|error| CadenceError::Expression(expression.to_owned(), error.to_string()))
}

fn zone(name: &str) -> Result<TimeZone, CadenceError> {
    TimeZone::get(name).map_err(|_| CadenceError::TimeZone(name.chars().take(100).collect()))
}

/// When a schedule ticks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cadence {
    /// Again and again after the same time, counted from when the schedule was made.
    Every(Interval),
    /// By a cron expression.
    Cron(CronRule),
}

impl Cadence {
    /// The first tick later than `after` of a schedule that was made at `made`. What was missed in between is left out.
    pub fn next_after(
        &self,
        made: OffsetDateTime,
        after: OffsetDateTime,
    ) -> Result<OffsetDateTime, CadenceError> {
        match self {
            Self::Cron(rule) => rule.next_after(after),
            Self::Every(interval) => {
                let step = interval.length().as_nanos();
                let gone = u128::try_from((after - made).whole_nanoseconds()).unwrap_or_default();
                let ahead = (gone / step + 1) * step - gone;
                let ahead = Duration::from_nanos(u64::try_from(ahead).unwrap_or(u64::MAX));
                after
                    .checked_add(time::Duration::try_from(ahead).unwrap_or(time::Duration::MAX))
                    .ok_or(CadenceError::Interval(interval.length()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::format_description::well_known::Rfc3339;

    fn at(text: &str) -> OffsetDateTime {
        OffsetDateTime::parse(text, &Rfc3339).unwrap()
    }

    fn check(expression: &str, zone: &str, after: &str, expected: &[&str]) {
        let cadence = Cadence::Cron(CronRule::new(expression, zone).unwrap());
        let mut from = at(after);
        for tick in expected {
            from = cadence.next_after(from, from).unwrap();
            assert_eq!(from, at(tick), "{expression} in {zone} after {after}");
        }
    }

    #[test]
    fn expressions_have_five_fields_of_vixie_cron() {
        check(
            "*/5 * * * *",
            "UTC",
            "2026-01-01T00:03:20Z",
            &["2026-01-01T00:05:00Z", "2026-01-01T00:10:00Z"],
        );
        check("0 9 * * MON-FRI", "UTC", "2026-11-20T09:00:00Z", &["2026-11-23T09:00:00Z"]);
        check(
            "30 4 1,15 * 5",
            "UTC",
            "2026-11-01T05:00:00Z",
            &["2026-11-06T04:30:00Z", "2026-11-13T04:30:00Z", "2026-11-15T04:30:00Z"],
        );
        check("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z"]);
        for bad in ["", "* * * *", "* * * * * *", "60 * * * *", "every day", "* * * * * * *", "*/0 * * * *"] {
            assert!(matches!(CronRule::new(bad, "UTC"), Err(CadenceError::Expression(..))), "{bad}");
        }
        assert_eq!(
            CronRule::new("* * * * *", "Mars/Base"),
            Err(CadenceError::TimeZone("Mars/Base".to_owned()))
        );
    }

    #[test]
    fn a_fixed_time_comes_once_a_day_where_clocks_change() {
        // Berlin put its clocks forward on 29 March 2026 at 02:00, and back on 25 October at 03:00.
        let spring = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
        check("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", &spring);
        let autumn = ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
        check("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00:00Z", &autumn);
    }

    #[test]
    fn a_pattern_keeps_its_step_where_clocks_change() {
        let spring = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"];
        check("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", &spring);
        let autumn =
            ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"];
        check("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", &autumn);
    }

    proptest! {
        #[test]
        fn the_next_tick_is_always_later(
            seconds in 1_700_000_000_i64..2_000_000_000,
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
            expression in prop::sample::select(vec!["* * * * *", "*/7 * * * *", "30 2 * * *", "0 1-3 * * SUN", "15 2 29 3 *"]),
        ) {
            let cadence = Cadence::Cron(CronRule::new(expression, zone).unwrap());
            let mut last = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            for _ in 0..5 {
                let next = cadence.next_after(last, last).unwrap();
                prop_assert!(next > last, "{expression} in {zone}: {next} after {last}");
                last = next;
            }
        }

        #[test]
        fn an_interval_keeps_its_grid(ms in 1_000_u64..100_000_000, gone in -1_000_000_i64..1_000_000_000) {
            let made = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
            let interval = Interval::new(Duration::from_millis(ms)).unwrap();
            let after = made + time::Duration::milliseconds(gone);
            let next = Cadence::Every(interval).next_after(made, after).unwrap();
            prop_assert!(next > after);
            if gone >= 0 {
                prop_assert!(next - after <= interval.length());
                prop_assert_eq!((next - made).whole_milliseconds() % i128::from(ms), 0);
            }
        }
    }
}

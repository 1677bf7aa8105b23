//! How single values are written.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use impuls_client::wire::Network;

/// An address with a port, such as `127.0.0.1:8080`, `[::1]:0` or `localhost:8080` (which means 127.0.0.1).
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let literal = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    literal.parse().map_err(|_| format!("{text:?} is not an address with a port, such as 127.0.0.1:8080"))
}

/// A time span: `30s`, `500ms`, `1m30s`, `2h`, `90d`; a number without a unit is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time span, such as 30s, 500ms or 1m30s");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let span = Duration::from_millis(number.checked_mul(millis).ok_or_else(wrong)?);
        total = total.checked_add(span).ok_or_else(wrong)?;
        rest = tail;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// A switch from the environment or after `=`. Empty means off, as an unset variable in a compose file does.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "" | "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("true or false is wanted".to_owned()),
    }
}

/// A path that may be empty, which means none: an environment variable can be set to nothing.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// A share of cores: a finite number above zero.
pub(super) fn cores(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(cores) if cores.is_finite() && cores > 0.0 => Ok(cores),
        _ => Err("a number above zero is wanted, such as 0.5".to_owned()),
    }
}

/// `KEY=VALUE`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE is wanted".to_owned()),
    }
}

/// A network policy: a word, or a list with commas. What is in the list is for the server to judge.
#[expect(clippy::unnecessary_wraps, reason = "clap takes parsers that may fail")]
pub(super) fn network(text: &str) -> Result<Network, String> {
    if matches!(text, "off" | "egress") {
        return Ok(Network::Word(text.to_owned()));
    }
    Ok(Network::List { allow: text.split(',').map(|entry| entry.trim().to_owned()).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_span(text: &str, millis: Option<u64>) {
        assert_eq!(duration(text).ok(), millis.map(Duration::from_millis), "{text:?}");
    }

    #[test]
    fn a_time_span_is_a_sum_of_numbers_with_units() {
        check_span("30s", Some(30_000));
        check_span("45", Some(45_000));
        check_span("1m30s", Some(90_000));
        check_span("500ms", Some(500));
        check_span("2h", Some(7_200_000));
        for wrong in ["", "s", "1x", "1m30", "-1s", "99999999999999999999s", "18446744073709551615h"] {
            check_span(wrong, None);
        }
    }

    #[test]
    fn a_listen_address_needs_a_port() {
        assert_eq!(listen_address("localhost:80").unwrap().to_string(), "127.0.0.1:80");
        assert_eq!(listen_address("[::1]:0").unwrap().to_string(), "[::1]:0");
        assert!(listen_address("127.0.0.1").is_err());
        assert!(listen_address(":8080").is_err());
    }

    #[test]
    fn a_variable_needs_a_name_and_may_contain_equals_signs() {
        assert_eq!(key_value("A=b=c").unwrap(), ("A".to_owned(), "b=c".to_owned()));
        assert!(key_value("=b").is_err());
        assert!(key_value("A").is_err());
    }
}

//! The two forms of a connection as words and values.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::ConnectionError;

type Words = BTreeMap<String, String>;

/// The words of either form.
pub(super) fn parse(text: &str) -> Result<Words, ConnectionError> {
    match text.split_once("://") {
        Some(("postgres" | "postgresql", rest)) => from_url(rest),
        Some((scheme, _)) if scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '+') => {
            Err(ConnectionError::Scheme(scheme.to_owned()))
        }
        _ if text.is_empty() => Err(ConnectionError::Form("it is empty")),
        _ => from_pairs(text),
    }
}

/// The words as a URL in which each is an argument.
pub(super) fn url(words: &Words) -> String {
    let mut url = "postgres://?".to_owned();
    for (name, value) in words {
        url.push_str(name);
        url.push('=');
        for byte in value.bytes() {
            // Writing to a string cannot fail.
            let _ = match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => write!(url, "{}", char::from(byte)),
                _ => write!(url, "%{byte:02X}"),
            };
        }
        url.push('&');
    }
    url
}

/// What stands behind `postgres://`.
fn from_url(rest: &str) -> Result<Words, ConnectionError> {
    let mut words = Words::new();
    let (place, arguments) = rest.split_once('?').unwrap_or((rest, ""));
    // The last one, because passwords are often written with an `@` as it is.
    let (login, place) = place.rsplit_once('@').map_or((None, place), |(login, place)| (Some(login), place));
    let (server, database) = place.split_once('/').unwrap_or((place, ""));
    let (host, port) = host_and_port(server)?;
    let (user, password) = login.map_or(("", ""), |login| login.split_once(':').unwrap_or((login, "")));
    let parts =
        [("user", user), ("password", password), ("host", host), ("port", port), ("dbname", database)];
    for (name, value) in parts.into_iter().filter(|(_, value)| !value.is_empty()) {
        words.insert(name.to_owned(), decode(value)?);
    }
    for argument in arguments.split('&').filter(|argument| !argument.is_empty()) {
        let (name, value) =
            argument.split_once('=').ok_or(ConnectionError::Form("an argument has no `=`"))?;
        words.insert(decode(name)?, decode(value)?);
    }
    Ok(words)
}

fn host_and_port(server: &str) -> Result<(&str, &str), ConnectionError> {
    if let Some(rest) = server.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(ConnectionError::Form("a `[` has no `]`"))?;
        return Ok((host, rest.strip_prefix(':').unwrap_or(rest)));
    }
    Ok(server.rsplit_once(':').unwrap_or((server, "")))
}

fn decode(text: &str) -> Result<String, ConnectionError> {
    let broken = ConnectionError::Form("a % is not followed by two hexadecimal digits of UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else { return Err(broken) };
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| broken)
}

/// `name=value name='a value'`, where `\` takes the next character as it is.
fn from_pairs(text: &str) -> Result<Words, ConnectionError> {
    let mut words = Words::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|character| character.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Ok(words);
        }
        let mut name = String::new();
        loop {
            match rest.next() {
                Some('=') => break,
                Some(character) => name.push(character),
                None => return Err(ConnectionError::Form("a word has no `=`")),
            }
        }
        while rest.next_if(|character| character.is_whitespace()).is_some() {}
        let value = value(&mut rest)?;
        words.insert(name.trim().to_owned(), value);
    }
}

fn value(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, ConnectionError> {
    let quoted = rest.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    loop {
        match rest.next() {
            Some('\\') => value.extend(rest.next()),
            Some('\'') if quoted => return Ok(value),
            Some(character) if !quoted && character.is_whitespace() => return Ok(value),
            Some(character) => value.push(character),
            None if quoted => return Err(ConnectionError::Form("a quotation mark has no second one")),
            None => return Ok(value),
        }
    }
}

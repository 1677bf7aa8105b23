//! How things look to people.

use comfy_table::{ContentArrangement, Table, presets};
use impuls_client::wire::{AliasTarget, LoadError};

/// A table without lines, its columns two spaces apart. Fits itself to a terminal; elsewhere no line is broken.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>, terminal: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    let arrangement = if terminal { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
    table.set_content_arrangement(arrangement);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Lines of `key  value`; a value that is empty is left out.
pub(crate) fn pairs(pairs: Vec<(&str, String)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or_default();
    let lines = pairs.iter().map(|(key, value)| {
        let value = value.replace('\n', &format!("\n{:width$}  ", ""));
        format!("{key:width$}  {value}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A size in binary units: `512 B`, `1.5 KiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// A time span with three digits or so: `0.42 ms`, `12.3 ms`, `1.25 s`.
pub(crate) fn milliseconds(ms: f64) -> String {
    if ms >= 1_000.0 {
        format!("{:.2} s", ms / 1_000.0)
    } else if ms >= 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.2} ms")
    }
}

/// An RFC 3339 time without its fraction of a second.
pub(crate) fn time(rfc3339: &str) -> String {
    match rfc3339.split_once('.') {
        Some((seconds, rest)) => {
            format!("{seconds}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => rfc3339.to_owned(),
    }
}

/// A number that may be absent.
pub(crate) fn number<T: ToString>(number: Option<T>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

/// Why code does not load, with its place first, as compilers do: `index.js:3: SyntaxError: …`.
pub(crate) fn load_error(error: &LoadError) -> String {
    let mut place = error.file.clone().unwrap_or_default();
    if let Some(line) = error.line {
        place = format!("{place}:{line}");
    }
    let parts = [place.as_str(), error.kind.as_str(), error.message.as_str()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

/// The same for somebody who has read what the build wrote: of the message only what is said before it quotes the build.
pub(crate) fn load_error_after(error: &LoadError, written: &str) -> String {
    let is_quoted = |line: &&str| !line.trim().is_empty() && written.contains(line.trim());
    if !error.message.lines().any(|line| is_quoted(&line)) {
        return load_error(error);
    }
    let own: Vec<&str> = error.message.lines().take_while(|line| !is_quoted(line)).collect();
    let message = if own.is_empty() { "see above".to_owned() } else { own.join("\n") };
    load_error(&LoadError { message, ..error.clone() })
}

/// Why an invocation failed: whose fault, the language's error, and where. A stack that begins by repeating the error
/// is not told twice.
pub(crate) fn failure(kind: &str, class: Option<&str>, message: &str, stack: Option<&str>) -> String {
    let error = match class {
        Some(class) if class != kind => format!("{class}: {message}"),
        _ => message.to_owned(),
    };
    let stack = stack.unwrap_or_default();
    let stack = stack.strip_prefix(&error).unwrap_or(stack).trim_matches('\n');
    if stack.is_empty() { format!("{kind}: {error}") } else { format!("{kind}: {error}\n{stack}") }
}

/// The versions behind an alias, as `alias set` takes them; the only one without its weight.
pub(crate) fn targets(targets: &[AliasTarget]) -> String {
    match targets {
        [only] => only.version.to_string(),
        several => {
            several.iter().map(|t| format!("{}:{}", t.version, t.weight)).collect::<Vec<_>>().join(",")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        let sizes = [0, 1023, 1536, 5 << 20, 3 << 30].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3.0 GiB"]);
        assert_eq!([0.4211, 12.34, 1250.0].map(milliseconds), ["0.42 ms", "12.3 ms", "1.25 s"]);
        assert_eq!(time("2026-01-02T03:04:05.678901Z"), "2026-01-02T03:04:05Z");
        assert_eq!(time("2026-01-02T03:04:05.6+01:00"), "2026-01-02T03:04:05+01:00");
    }

    #[test]
    fn a_table_is_plain_text() {
        let rows = vec![["a".into(), "1".into()], ["long-name".into(), String::new()]];
        assert_eq!(table(["NAME", "N"], rows, false), "NAME       N\na          1\nlong-name");
    }

    #[test]
    fn pairs_align_and_continue_below_themselves() {
        let shown = pairs(vec![("a", "1".into()), ("long", "x\ny".into()), ("none", String::new())]);
        assert_eq!(shown, "a     1\nlong  x\n      y");
    }

    #[test]
    fn a_failure_tells_its_error_once() {
        let node =
            failure("FunctionError", Some("TypeError"), "no", Some("TypeError: no\n    at f (a.js:1)\n"));
        assert_eq!(node, "FunctionError: TypeError: no\n    at f (a.js:1)");
        let python =
            failure("FunctionError", Some("KeyError"), "'a'", Some("Traceback:\n  x\nKeyError: 'a'"));
        assert_eq!(python, "FunctionError: KeyError: 'a'\nTraceback:\n  x\nKeyError: 'a'");
        assert_eq!(failure("Timeout", None, "late", None), "Timeout: late");
    }

    #[test]
    fn what_a_build_wrote_is_not_said_again() {
        let error = LoadError {
            kind: "BuildError".to_owned(),
            message: "install go\nmain.go:3: no\nmain.go:4: no".to_owned(),
            file: None,
            line: None,
        };
        let written = "go: building\n/tmp/build/main.go:3: no\n/tmp/build/main.go:4: no\n";
        assert_eq!(load_error_after(&error, written), "BuildError: install go");
        assert_eq!(load_error_after(&error, "go: building\n"), load_error(&error));
        let error = LoadError { message: "main.go:3: no\n".to_owned(), ..error };
        assert_eq!(load_error_after(&error, written), "BuildError: see above");
    }

    #[test]
    fn a_load_error_has_whatever_is_known() {
        let mut error = LoadError { message: "m".into(), ..LoadError::default() };
        assert_eq!(load_error(&error), "m");
        error = LoadError { kind: "SyntaxError".into(), file: Some("a.js".into()), line: Some(3), ..error };
        assert_eq!(load_error(&error), "a.js:3: SyntaxError: m");
    }
}

//! Files of environment variables.

use std::fs;
use std::path::Path;

use super::PackageError;

/// Reads a file with a `KEY=VALUE` on each line. Empty lines and lines that begin with `#` are left out, as is an
/// `export` before the key; quotes around a whole value are taken off. Nothing is expanded.
pub(super) fn read(path: &Path) -> Result<Vec<(String, String)>, PackageError> {
    let text = fs::read_to_string(path).map_err(|source| PackageError::read(path, source))?;
    parse(&text).map_err(|line| PackageError::EnvironmentLine { path: path.to_owned(), line })
}

/// The variables, or the number of the first line that is none.
fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let lines = text.lines().zip(1..).map(|(line, number)| (line.trim(), number));
    let lines = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(line, number)| variable(line).ok_or(number)).collect()
}

fn variable(line: &str) -> Option<(String, String)> {
    let (key, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    (!key.is_empty()).then(|| (key.to_owned(), quoted.unwrap_or(value).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[(&str, &str)], usize>) {
        let expected = expected
            .map(|pairs| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>());
        assert_eq!(parse(text), expected, "{text:?}");
    }

    #[test]
    fn each_line_is_a_variable_or_a_comment() {
        check("# c\n\nA=1\n export B = x=y \r\nC=\"a b\"\nD='q\"'\nE=", {
            Ok(&[("A", "1"), ("B", "x=y"), ("C", "a b"), ("D", "q\""), ("E", "")])
        });
        check("A=1\nB", Err(2));
        check("=1", Err(1));
    }
}

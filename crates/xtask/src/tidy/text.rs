//! Rules for every text file: white space, length, open points, words that belong to one machine only.

use super::source::{first_test_line, has_word};
use super::{Finding, TextFile};

/// Source files above this have to be divided (without the tests at their end).
const MOST_LINES: usize = 600;

/// Marks of work that is not done.
const OPEN_POINTS: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Folders of one machine.
const MACHINE_PATHS: [&str; 3] = ["/root/", "/home/", "/Users/"];

/// Marks of a package registry's address; which registry somebody uses is for their own configuration to say.
const REGISTRY_MARKS: [&str; 3] = ["\"resolved\":", "://registry.", "://index."];

/// The file with the lists above, which names what it forbids.
const THIS_FILE: &str = "crates/xtask/src/tidy/text.rs";

/// Reports what is wrong with a text file.
pub fn check(file: &TextFile, findings: &mut Vec<Finding>) {
    if is_foreign(file) {
        return;
    }
    white_space(file, findings);
    if file.path != THIS_FILE {
        words(file, findings);
    }
    length(file, findings);
}

/// Recorded exchanges and the like keep their bytes.
fn is_foreign(file: &TextFile) -> bool {
    file.path.split('/').any(|part| ["golden", "corpus", "fixtures", "vendor"].contains(&part))
}

fn white_space(file: &TextFile, findings: &mut Vec<Finding>) {
    for (number, line) in (1..).zip(file.text.split('\n')) {
        if line.ends_with([' ', '\t', '\r']) {
            findings.push(Finding::new(&file.path, number, "white space at the end of the line"));
        }
        if file.extension() == "rs" && line.contains('\t') {
            findings.push(Finding::new(
                &file.path,
                number,
                "a tab; indent with spaces, write `\\t` in literals",
            ));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        let last = file.text.lines().count();
        findings.push(Finding::new(&file.path, last, "no line break at the end of the file"));
    }
}

fn words(file: &TextFile, findings: &mut Vec<Finding>) {
    let tests = if file.is_test() { 0 } else { first_test_line(&file.text) };
    for (at, line) in file.text.lines().enumerate() {
        let mut report = |message: String| findings.push(Finding::new(&file.path, at + 1, message));
        for word in OPEN_POINTS {
            if has_word(line, word) && !names_an_issue(line) {
                report(format!("{word} without an issue; do it now, or write `{word}(#123)`"));
            }
        }
        if let Some(mark) = REGISTRY_MARKS.into_iter().find(|mark| line.contains(mark)) {
            report(format!("has a registry's address ({mark}); leave it to each machine's configuration"));
        }
        if at < tests {
            for path in MACHINE_PATHS.into_iter().filter(|path| has_path(line, path)) {
                report(format!("names the folder {path} of one machine"));
            }
        }
    }
}

/// Whether the line has a `#` followed by a number.
fn names_an_issue(line: &str) -> bool {
    line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether an absolute path in the line begins with `path`.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "-_./})*~".contains(c))
    })
}

fn length(file: &TextFile, findings: &mut Vec<Finding>) {
    if !["rs", "js", "mjs", "cjs", "ts", "py", "sh"].contains(&file.extension()) {
        return;
    }
    let lines = first_test_line(&file.text);
    if lines > MOST_LINES {
        let message = format!("{lines} lines without tests; {MOST_LINES} are the limit, so divide the file");
        findings.push(Finding::new(&file.path, 1, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::findings_of;

    fn check_lines(path: &str, text: &str, expected: &[usize]) {
        let lines: Vec<usize> = findings_of(check, path, text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, expected, "{path}: {text:?}");
    }

    #[test]
    fn white_space_at_the_end_is_found() {
        check_lines("a.md", "a\nb \n", &[2]);
        check_lines("a.md", "a\r\n", &[1]);
        check_lines("a.md", "a", &[1]);
        check_lines("tests/golden/a.json", "a ", &[]);
    }

    #[test]
    fn tabs_are_for_makefiles() {
        check_lines("a.rs", "\tfn a() {}\n", &[1]);
        check_lines("Makefile", "a:\n\tb\n", &[]);
    }

    #[test]
    fn an_open_point_names_its_issue() {
        let mark = OPEN_POINTS.first().copied().unwrap_or_default();
        check_lines("a.rs", &format!("// {mark}: later\n"), &[1]);
        check_lines("a.rs", &format!("// {mark}(#12): later\n"), &[]);
        check_lines("run.sh", "mktemp a.XXXXXX\n", &[]);
    }

    #[test]
    fn folders_of_one_machine_are_found_outside_tests() {
        check_lines("a.md", "see /home/me/impuls\n", &[1]);
        check_lines("a.md", "the framework/home/ folder\n", &[]);
        check_lines("crates/a/tests/b.rs", "// /home/me\n", &[]);
        check_lines("a.rs", "a\n#[cfg(test)]\nmod tests { \"/home/me\" }\n", &[]);
    }

    #[test]
    fn addresses_of_registries_are_found_everywhere() {
        check_lines("bench/package-lock.json", "\"resolved\": \"https://registry.example/a\"\n", &[1]);
        check_lines("deny.toml", "https://github.com/rust-lang/crates.io-index\n", &[]);
    }

    #[test]
    fn tests_do_not_count_as_lines_of_a_file() {
        let code = "a\n".repeat(MOST_LINES);
        check_lines("a.rs", &format!("{code}#[cfg(test)]\nmod tests {{}}\n"), &[]);
        check_lines("a.rs", &format!("{code}a\n"), &[1]);
        check_lines("a.json", &format!("{code}a\n"), &[]);
    }
}

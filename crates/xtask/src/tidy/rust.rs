//! Rules for Rust sources: where `unsafe` may be, names of files and tests, ignored tests, thin `lib.rs`.

use super::source::{blank, has_word};
use super::{Finding, TextFile};

/// Names that say nothing.
pub const EMPTY_NAMES: [&str; 9] =
    ["common", "core", "util", "utils", "helper", "helpers", "manager", "managers", "misc"];

/// Lines of code in `lib.rs`, without comments and blank lines.
const MOST_LIB_LINES: usize = 60;
/// Lines of a function that may stand in `lib.rs`.
const MOST_LIB_FUNCTION_LINES: usize = 8;

/// Reports what is wrong with a Rust source.
pub fn check(file: &TextFile, findings: &mut Vec<Finding>) {
    let code = blank(&file.text);
    names(file, findings);
    tests(file, &code, findings);
    unsafe_code(file, &code, findings);
    if file.path.ends_with("src/lib.rs") {
        table_of_contents(file, &code, findings);
    }
}

fn names(file: &TextFile, findings: &mut Vec<Finding>) {
    if file.name() == "mod.rs" {
        findings.push(Finding::new(&file.path, 1, "`mod.rs`; a module is `foo.rs` beside `foo/`"));
    }
    let parts = file.path.trim_end_matches(".rs").split('/');
    for name in parts.filter(|part| EMPTY_NAMES.contains(part)) {
        findings.push(Finding::new(&file.path, 1, format!("`{name}` says nothing about what is inside")));
    }
}

fn tests(file: &TextFile, code: &str, findings: &mut Vec<Finding>) {
    let mut in_test = false;
    for (number, (line, code)) in (1..).zip(file.text.lines().zip(code.lines())) {
        let attribute = code.trim_start();
        if attribute.starts_with("#[ignore") && !line.trim_start().starts_with("#[ignore = \"needs ") {
            let message = "an ignored test without a need; write `#[ignore = \"needs …\"]`";
            findings.push(Finding::new(&file.path, number, message));
        }
        if attribute.starts_with("#[") {
            in_test |= attribute.starts_with("#[test]") || attribute.contains("::test");
        } else if has_word(code, "fn") {
            if in_test && code.contains("fn test_") {
                let message = "a test's name states a fact; leave out the prefix `test_`";
                findings.push(Finding::new(&file.path, number, message));
            }
            in_test = false;
        }
    }
}

fn unsafe_code(file: &TextFile, code: &str, findings: &mut Vec<Finding>) {
    if file.path.starts_with("crates/sandbox") || file.path.starts_with("guest/") {
        return;
    }
    for (number, line) in (1..).zip(code.lines()) {
        if has_word(line, "unsafe") {
            let message = "`unsafe` outside of `crates/sandbox*` and `guest/`";
            findings.push(Finding::new(&file.path, number, message));
        }
    }
}

fn table_of_contents(file: &TextFile, code: &str, findings: &mut Vec<Finding>) {
    let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
    if lines > MOST_LIB_LINES {
        let message =
            format!("{lines} lines of code; `lib.rs` is a table of contents ({MOST_LIB_LINES} at most)");
        findings.push(Finding::new(&file.path, 1, message));
    }
    for (line, length) in functions(code).filter(|(_, length)| *length > MOST_LIB_FUNCTION_LINES) {
        let message = format!("a function of {length} lines in `lib.rs`; give it a module");
        findings.push(Finding::new(&file.path, line, message));
    }
}

/// First line, from 1, and number of lines of each function in blanked code.
fn functions(code: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let begins = (1..).zip(code.lines()).filter(|(_, line)| has_word(line, "fn") && line.contains('('));
    begins.map(|(number, _)| {
        let mut depth = 0_usize;
        let mut length = 0;
        for line in code.lines().skip(number - 1) {
            length += 1;
            let opened = line.matches('{').count();
            depth = (depth + opened).saturating_sub(line.matches('}').count());
            if depth == 0 && (opened > 0 || line.contains([';', '}'])) {
                break;
            }
        }
        (number, length)
    })
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
    fn empty_names_and_mod_files_are_found() {
        check_lines("crates/api/src/routes/mod.rs", "", &[1]);
        check_lines("crates/api/src/utils.rs", "", &[1]);
        check_lines("crates/api/src/routes.rs", "", &[]);
    }

    #[test]
    fn unsafe_code_stays_in_the_sandbox() {
        check_lines("crates/api/src/a.rs", "fn a() {\n    unsafe { b() }\n}\n", &[2]);
        check_lines("crates/api/src/a.rs", "#![deny(unsafe_code)] // unsafe\n", &[]);
        check_lines("crates/sandbox-process/src/a.rs", "unsafe { b() }\n", &[]);
    }

    #[test]
    fn an_ignored_test_has_a_need() {
        check_lines("a.rs", "#[test]\n#[ignore]\nfn a() {}\n", &[2]);
        check_lines("a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n", &[2]);
        check_lines("a.rs", "#[test]\n#[ignore = \"needs root\"]\nfn a() {}\n", &[]);
        check_lines("a.rs", "const A: &str = \"#[ignore]\";\n", &[]);
    }

    #[test]
    fn a_test_states_a_fact() {
        check_lines("a.rs", "#[tokio::test]\nasync fn test_a() {}\n", &[2]);
        check_lines("a.rs", "#[test]\nfn a_holds() {}\nfn test_bed() {}\n", &[]);
    }

    #[test]
    fn lib_is_a_table_of_contents() {
        let path = "crates/api/src/lib.rs";
        check_lines(path, &"pub mod a;\n".repeat(MOST_LIB_LINES), &[]);
        check_lines(path, &"pub mod a;\n".repeat(MOST_LIB_LINES + 1), &[1]);
        check_lines(path, &format!("pub mod a;\nfn b() {{\n{}}}\n", "    c();\n".repeat(8)), &[2]);
        check_lines(path, "fn b() -> u8 {\n    1\n}\n", &[]);
    }
}

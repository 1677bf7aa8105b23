//! Rules for the manifest of a crate: its name, its description, the lints of the workspace.

use toml::{Table, Value};

use super::rust::EMPTY_NAMES;
use super::{Finding, TextFile};

/// Reports what is wrong with a `Cargo.toml` of a crate; the root manifest is virtual.
pub fn check(file: &TextFile, findings: &mut Vec<Finding>) {
    let mut report = |line, message: String| findings.push(Finding::new(&file.path, line, message));
    let manifest: Table = match file.text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return report(1, format!("not valid TOML: {error}")),
    };
    let Some(package) = manifest.get("package").and_then(Value::as_table) else { return };
    let folder = folder_of(&file.path);

    let name = package.get("name").and_then(Value::as_str).unwrap_or_default();
    let expected = match folder {
        // The one binary is called after the product.
        "bin" => "impuls".to_owned(),
        "benches" => "impuls-bench".to_owned(),
        _ => format!("impuls-{folder}"),
    };
    if name != expected {
        report(line_of(&file.text, "name"), format!("folder `{folder}` holds the package `{expected}`"));
    }
    if EMPTY_NAMES.contains(&folder) {
        report(
            line_of(&file.text, "name"),
            format!("a crate called `{folder}` says nothing about what is inside"),
        );
    }
    if package.get("description").and_then(Value::as_str).is_none_or(str::is_empty) {
        report(line_of(&file.text, "[package]"), "no description".to_owned());
    }
    for dependency in versioned(&manifest) {
        let message =
            format!("`{dependency}` has a version of its own; write `{dependency}.workspace = true`");
        report(line_of(&file.text, dependency), message);
    }
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    if lints.and_then(Value::as_bool) != Some(true) {
        report(1, "without the lints of the workspace; write `[lints]` and `workspace = true`".to_owned());
    }
}

/// Dependencies whose version does not come from the root manifest. A path has none: a crate may name itself so, to
/// test with its own features.
fn versioned(manifest: &Table) -> impl Iterator<Item = &str> {
    let tables = ["dependencies", "build-dependencies", "dev-dependencies"].into_iter();
    let entries = tables.filter_map(|key| manifest.get(key).and_then(Value::as_table)).flatten();
    entries
        .filter(|(_, value)| value.get("workspace").is_none() && value.get("path").is_none())
        .map(|(name, _)| name.as_str())
}

/// The name of the folder that holds the file.
pub fn folder_of(path: &str) -> &str {
    path.rsplit('/').nth(1).unwrap_or_default()
}

/// The first line, from 1, that begins with `start`; 1 if there is none.
pub fn line_of(text: &str, start: &str) -> usize {
    text.lines().position(|line| line.trim_start().starts_with(start)).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::findings_of;

    const GOOD: &str = "[package]\nname = \"impuls-api\"\ndescription = \"x\"\n[lints]\nworkspace = true\n";

    fn check_lines(path: &str, text: &str, expected: &[usize]) {
        let lines: Vec<usize> = findings_of(check, path, text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, expected, "{path}: {text:?}");
    }

    #[test]
    fn a_complete_manifest_passes() {
        check_lines("crates/api/Cargo.toml", GOOD, &[]);
        check_lines("Cargo.toml", "[workspace]\n", &[]);
    }

    #[test]
    fn versions_come_from_the_workspace() {
        check_lines(
            "crates/api/Cargo.toml",
            &format!("{GOOD}[dependencies]\na.workspace = true\nb = \"1\"\n"),
            &[8],
        );
        check_lines(
            "crates/api/Cargo.toml",
            &format!("{GOOD}[dev-dependencies]\nb = {{ version = \"1\" }}\n"),
            &[7],
        );
    }

    #[test]
    fn each_lack_is_found() {
        check_lines("crates/web/Cargo.toml", GOOD, &[2]);
        check_lines("crates/bin/Cargo.toml", GOOD, &[2]);
        check_lines("crates/api/Cargo.toml", &GOOD.replace("description", "homepage"), &[1]);
        check_lines("crates/api/Cargo.toml", &GOOD.replace("true", "false"), &[1]);
        check_lines("crates/core/Cargo.toml", &GOOD.replace("api", "core"), &[2]);
        check_lines("crates/api/Cargo.toml", "[package", &[1]);
    }
}

//! Who may import whom: the table of the house, row by row. Development dependencies are free.

use toml::{Table, Value};

use super::manifests::{folder_of, line_of};
use super::{Finding, TextFile};

/// What a crate may import.
struct Row {
    /// Folders of workspace crates.
    workspace: Workspace,
    /// Crates from outside that it must not import, or the only ones that it may.
    outside: Outside,
}

enum Workspace {
    Everything,
    Only(Vec<&'static str>),
}

enum Outside {
    Free,
    Only(&'static [&'static str]),
    Never(&'static [&'static str]),
}

/// Below the API nobody knows that there is HTTP or SQL.
const NO_EDGE: Outside =
    Outside::Never(&["http", "hyper", "axum", "tower", "reqwest", "sqlx", "redis", "anyhow"]);
const NO_HTTP: Outside = Outside::Never(&["http", "hyper", "axum", "reqwest", "anyhow"]);
const NO_SQL: Outside = Outside::Never(&["sqlx", "redis", "anyhow"]);

const SEAMS: [&str; 4] = ["store", "artifacts", "queue", "sandbox"];

/// The row of the crate in this folder, or `None` if the table has none.
fn row(folder: &str) -> Option<Row> {
    let only = |workspace: &[&'static str], outside| {
        Some(Row { workspace: Workspace::Only(workspace.to_vec()), outside })
    };
    match folder {
        // The last two know calendars and time zones by heart; they read nothing.
        "domain" => only(&[], Outside::Only(&["serde", "thiserror", "time", "uuid", "croner", "jiff"])),
        "guest-protocol" => {
            only(&[], Outside::Only(&["bytes", "serde", "serde_json", "thiserror", "time", "uuid"]))
        }
        "store" | "artifacts" | "queue" => only(&["domain"], NO_EDGE),
        "sandbox" => only(&["domain", "guest-protocol"], NO_EDGE),
        "runtimes" => only(&["domain", "sandbox"], NO_EDGE),
        "control" => only(&["domain", "store", "artifacts"], NO_EDGE),
        "dispatch" => only(&["domain", "store", "queue", "sandbox"], NO_EDGE),
        "worker" => only(&["domain", "store", "artifacts", "sandbox", "runtimes", "dispatch"], NO_EDGE),
        // Implements the worker that dispatch sees, over HTTP.
        "cluster" => only(&["domain", "store", "sandbox", "runtimes", "dispatch"], NO_SQL),
        // Implements the trait by which dispatch sends what it tells over HTTP.
        "outgoing" => only(&["domain", "dispatch"], NO_SQL),
        // Shows what another store has, and code is part of it.
        "store-file" => only(&["domain", "store", "artifacts"], NO_HTTP),
        "transfer" => only(&["domain", "store", "artifacts"], NO_EDGE),
        "metering" => only(&["domain", "store"], NO_EDGE),
        "api" => only(&["domain", "control", "dispatch"], NO_SQL),
        "client" => only(&[], NO_SQL),
        "cli" => only(&["client"], Outside::Never(&["sqlx", "redis", "axum"])),
        // Speaks HTTP with programs in its own sandbox.
        "agent" => only(&["guest-protocol"], NO_SQL),
        "telemetry" => only(&["domain"], NO_SQL),
        "xtask" => only(&["domain"], Outside::Free),
        // They measure the program from outside, beside the servers that tests start.
        "benches" => only(&["testkit"], Outside::Free),
        "bin" | "embed" | "testkit" | "e2e" => {
            Some(Row { workspace: Workspace::Everything, outside: Outside::Free })
        }
        "ingress" => only(&["domain", "control", "dispatch"], NO_SQL),
        _ if folder.starts_with("dialect-") => only(&["domain", "control", "dispatch", "ingress"], NO_SQL),
        _ => back_end(folder),
    }
}

/// A back end is called after its seam: `store-sqlite`.
fn back_end(folder: &str) -> Option<Row> {
    let seam =
        SEAMS.into_iter().find(|seam| folder.strip_prefix(seam).is_some_and(|rest| rest.starts_with('-')))?;
    let mut workspace = vec!["domain", seam];
    if seam == "sandbox" {
        workspace.push("guest-protocol");
    }
    // A container engine is spoken to over HTTP.
    let outside = if seam == "sandbox" || seam == "artifacts" { NO_SQL } else { NO_HTTP };
    Some(Row { workspace: Workspace::Only(workspace), outside })
}

/// Reports imports that the table does not allow.
pub fn check(file: &TextFile, findings: &mut Vec<Finding>) {
    let Ok(manifest) = file.text.parse::<Table>() else { return };
    if !manifest.contains_key("package") {
        return;
    }
    let folder = folder_of(&file.path);
    let Some(row) = row(folder) else {
        let message =
            format!("`{folder}` has no row in the table of imports (crates/xtask/src/tidy/imports.rs)");
        return findings.push(Finding::new(&file.path, 1, message));
    };
    for dependency in dependencies(&manifest) {
        if let Some(message) = refusal(folder, &row, dependency) {
            findings.push(Finding::new(&file.path, line_of(&file.text, dependency), message));
        }
    }
}

/// Names in every table of dependencies except those of development.
fn dependencies(manifest: &Table) -> impl Iterator<Item = &str> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flatten();
    let tables = std::iter::once(manifest).chain(targets.filter_map(|(_, target)| target.as_table()));
    tables
        .flat_map(|table| ["dependencies", "build-dependencies"].into_iter().filter_map(|key| table.get(key)))
        .filter_map(Value::as_table)
        .flat_map(|table| table.keys().map(String::as_str))
}

/// Why the crate in `folder` must not import `dependency`.
fn refusal(folder: &str, row: &Row, dependency: &str) -> Option<String> {
    if dependency == "impuls" {
        return Some("nothing imports the binary".to_owned());
    }
    let Some(crate_name) = dependency.strip_prefix("impuls-") else {
        let refused = match row.outside {
            Outside::Free => false,
            Outside::Only(allowed) => !allowed.contains(&dependency),
            Outside::Never(forbidden) => forbidden.contains(&dependency),
        };
        return refused.then(|| format!("`{folder}` must not import the crate `{dependency}`"));
    };
    let measures = folder == "benches" && crate_name == "testkit";
    if ["testkit", "xtask"].contains(&crate_name) && folder != "testkit" && !measures {
        return Some(format!("`{crate_name}` is for development dependencies only"));
    }
    match &row.workspace {
        Workspace::Only(allowed) if !allowed.contains(&crate_name) => {
            Some(format!("`{folder}` must not import `{crate_name}`; allowed: {}", list(allowed)))
        }
        _ => None,
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "no workspace crate".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::findings_of;

    fn check_folder(folder: &str, dependencies: &str, expected: &[usize]) {
        let text = format!("[package]\n[dependencies]\n{dependencies}");
        let found = findings_of(check, &format!("crates/{folder}/Cargo.toml"), &text);
        let lines: Vec<usize> = found.into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, expected, "{folder}: {dependencies}");
    }

    #[test]
    fn the_table_is_enforced() {
        check_folder("api", "impuls-domain.workspace = true\nimpuls-control.workspace = true\n", &[]);
        check_folder("api", "impuls-domain.workspace = true\nimpuls-store.workspace = true\n", &[4]);
        check_folder("store-sqlite", "impuls-store = { workspace = true }\n", &[]);
        check_folder("store-sqlite", "impuls-artifacts = { workspace = true }\n", &[3]);
        check_folder("sandbox-process", "impuls-guest-protocol = { workspace = true }\n", &[]);
        check_folder("cli", "impuls-client.workspace = true\nimpuls-domain.workspace = true\n", &[4]);
        check_folder("bin", "impuls-worker.workspace = true\nsqlx.workspace = true\n", &[]);
    }

    #[test]
    fn pure_crates_stay_pure() {
        check_folder("domain", "serde.workspace = true\ntokio.workspace = true\n", &[4]);
        check_folder("dispatch", "axum.workspace = true\n", &[3]);
    }

    #[test]
    fn tables_for_one_platform_count_and_those_of_development_do_not() {
        let text = "impuls-domain.workspace = true\n[target.'cfg(unix)'.dependencies]\nimpuls-api.workspace = true\n";
        check_folder("control", text, &[5]);
        check_folder("control", "[dev-dependencies]\nimpuls-api.workspace = true\n", &[]);
    }

    #[test]
    fn nobody_imports_the_binary_or_the_test_kit() {
        check_folder("embed", "impuls.workspace = true\n", &[3]);
        check_folder("bin", "impuls-testkit.workspace = true\n", &[3]);
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        check_folder("novelty", "", &[1]);
    }
}

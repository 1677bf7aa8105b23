//! Rules for Markdown: links lead somewhere, `make` targets exist, and decisions are written down.

use std::collections::BTreeSet;
use std::path::Path;

use toml::{Table, Value};

use super::{Finding, TextFile};

/// Where the reason for every dependency and crate is.
const DECISIONS: &str = "docs/decisions.md";

/// Reports dead links and unknown targets in all documents, and dependencies without a reason.
pub fn check(root: &Path, files: &[TextFile], findings: &mut Vec<Finding>) {
    decisions(files, findings);
    let makefile = files.iter().find(|file| file.path == "Makefile");
    let targets = makefile.map(|file| targets(&file.text)).unwrap_or_default();
    for file in files.iter().filter(|file| file.extension() == "md") {
        for (number, link) in links(&file.text) {
            if let Some(message) = dead(root, files, file, link) {
                findings.push(Finding::new(&file.path, number, message));
            }
        }
        for (number, target) in make_commands(&file.text) {
            if !targets.contains(target) {
                let message = format!("`make {target}`: the Makefile has no such target");
                findings.push(Finding::new(&file.path, number, message));
            }
        }
    }
}

/// Reports dependencies and crates of the root manifest that the decisions do not name.
fn decisions(files: &[TextFile], findings: &mut Vec<Finding>) {
    let text_of = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    let (Some(manifest), Some(document)) = (text_of("Cargo.toml"), text_of(DECISIONS)) else { return };
    let manifest: Table = manifest.parse().unwrap_or_default();
    let dependencies = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    for name in dependencies.and_then(Value::as_table).into_iter().flat_map(Table::keys) {
        let name = name.trim_start_matches("impuls-");
        if !document.contains(&format!("`{name}`")) {
            findings.push(Finding::new(DECISIONS, 1, format!("does not say why there is `{name}`")));
        }
    }
}

/// The lines of a document with their number from 1 and whether they are in a code block.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str, bool)> {
    let mut in_block = false;
    (1..).zip(text.lines()).map(move |(number, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        (number, line, in_block || is_fence)
    })
}

/// Targets of `[text](target)` outside of code.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    lines(text).filter(|(_, _, in_block)| !in_block).flat_map(|(number, line, _)| {
        // Between backticks lies code: every second part.
        line.split('`').step_by(2).flat_map(move |part| {
            let targets = part.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            targets.map(move |(target, _)| (number, target.split(' ').next().unwrap_or(target)))
        })
    })
}

/// Why a link leads nowhere; links to other hosts are not followed.
fn dead(root: &Path, files: &[TextFile], file: &TextFile, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = if path.is_empty() { file.path.clone() } else { resolve(&file.path, path) };
    if !root.join(&target).exists() {
        return Some(format!("the link leads to `{target}`, which does not exist"));
    }
    let anchor = anchor?;
    let document = files.iter().find(|file| file.path == target && file.extension() == "md")?;
    let has_anchor = headings(&document.text).any(|heading| heading == anchor);
    (!has_anchor).then(|| format!("`{target}` has no heading `#{anchor}`"))
}

/// The path of a link relative to the root.
fn resolve(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// The anchors that the usual renderers make from headings.
fn headings(text: &str) -> impl Iterator<Item = String> {
    lines(text).filter(|(_, line, in_block)| !in_block && line.starts_with('#')).map(|(_, line, _)| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// Words after `make` at the start of a line of code, in a block or between backticks.
fn make_commands(text: &str) -> impl Iterator<Item = (usize, &str)> {
    lines(text).flat_map(|(number, line, in_block)| {
        let code: Vec<&str> =
            if in_block { vec![line.trim_start()] } else { line.split('`').skip(1).step_by(2).collect() };
        let commands = code.into_iter().flat_map(|code| {
            let words = code.trim_start_matches("$ ").strip_prefix("make ").unwrap_or_default();
            words.split('#').next().unwrap_or_default().split_whitespace()
        });
        commands
            .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'))
            .filter(|word| !word.starts_with('-'))
            .map(move |word| (number, word))
    })
}

/// The targets of a Makefile.
fn targets(makefile: &str) -> BTreeSet<&str> {
    let rules = makefile.lines().filter(|line| !line.starts_with(['\t', '.', '#', ' ']));
    rules
        .filter_map(|line| line.split_once(':'))
        .filter(|(_, rest)| !rest.starts_with('='))
        .flat_map(|(names, _)| names.split_whitespace())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: path.to_owned(), text: text.to_owned() }
    }

    fn check_lines(document: &str, expected: &[usize]) -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        std::fs::create_dir(root.path().join("docs"))?;
        std::fs::write(root.path().join("docs/a.md"), "")?;
        std::fs::write(root.path().join("README.md"), "")?;
        let files = [
            file("Makefile", "A := b\nrun: build ## runs\n\tc: d\n"),
            file("README.md", "# The first call\n"),
            file("docs/a.md", document),
            file(
                "Cargo.toml",
                "[workspace.dependencies]\nimpuls-api = { path = \"crates/api\" }\nserde = \"1\"\n",
            ),
            file(DECISIONS, "`serde` and `api`"),
        ];
        let mut findings = Vec::new();
        check(root.path(), &files, &mut findings);
        let lines: Vec<usize> = findings.into_iter().map(|finding| finding.line).collect();
        assert_eq!(lines, expected, "{document:?}");
        Ok(())
    }

    #[test]
    fn links_lead_somewhere() -> anyhow::Result<()> {
        check_lines("[a](../README.md) [b](a.md) [c](https://example.org/x)\n", &[])?;
        check_lines("\n[a](../gone.md)\n", &[2])?;
        check_lines("`[a](gone.md)`\n```\n[a](gone.md)\n```\n", &[])
    }

    #[test]
    fn anchors_are_headings() -> anyhow::Result<()> {
        check_lines("[a](../README.md#the-first-call)\n", &[])?;
        check_lines("[a](../README.md#the-last-call)\n", &[1])?;
        check_lines("# One\n[a](#one) [b](#two)\n", &[2])
    }

    #[test]
    fn every_dependency_has_a_reason() {
        let files =
            [file("Cargo.toml", "[workspace.dependencies]\nserde = \"1\"\n"), file(DECISIONS, "`toml`")];
        let mut findings = Vec::new();
        decisions(&files, &mut findings);
        assert_eq!(findings, [Finding::new(DECISIONS, 1, "does not say why there is `serde`")]);
    }

    #[test]
    fn make_targets_exist() -> anyhow::Result<()> {
        check_lines("`make run` `make LISTEN=x run` and make no mistake\n", &[])?;
        check_lines("`make fly`\n```sh\nmake run # make it\nmake fly\n```\n", &[1, 4])
    }
}

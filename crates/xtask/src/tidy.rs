//! What no other tool checks: the rules of the house that a machine can read from the tree.
//!
//! [`imports`] and [`manifests`] look at the crates, [`rust`] at Rust sources, [`text`] at every text file and
//! [`documents`] at Markdown. Each rule reports a file, a line and a sentence.

mod documents;
mod imports;
mod manifests;
mod rust;
mod source;
mod text;
pub mod tree;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context;

/// One breach of one rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Relative to the root, with `/`.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// A text file of the tree.
pub struct TextFile {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl TextFile {
    fn extension(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Whether the whole file is test code.
    fn is_test(&self) -> bool {
        self.name() == "tests.rs"
            || self.path.split('/').any(|part| ["tests", "test", "benches", "fuzz"].contains(&part))
    }
}

/// Checks the tree and prints what it finds. Whether it found nothing.
pub fn run(root: &Path) -> anyhow::Result<bool> {
    let findings = check(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        println!("tidy: {} findings", findings.len());
    }
    Ok(findings.is_empty())
}

/// All findings, sorted.
fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let files = read(root)?;
    let mut findings = Vec::new();
    for file in &files {
        text::check(file, &mut findings);
        if file.extension() == "rs" {
            rust::check(file, &mut findings);
        }
        if file.name() == "Cargo.toml" {
            manifests::check(file, &mut findings);
            imports::check(file, &mut findings);
        }
    }
    documents::check(root, &files, &mut findings);
    findings.sort();
    findings.dedup();
    Ok(findings)
}

/// Every file that is text; others are none of our business.
fn read(root: &Path) -> anyhow::Result<Vec<TextFile>> {
    let mut files = Vec::new();
    for path in tree::files(root)? {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let relative = path.strip_prefix(root).unwrap_or(&path);
        let path = relative.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/");
        if !text.contains('\0') {
            files.push(TextFile { path, text });
        }
    }
    Ok(files)
}

/// Runs a rule on one file.
#[cfg(test)]
fn findings_of(rule: fn(&TextFile, &mut Vec<Finding>), path: &str, text: &str) -> Vec<(usize, String)> {
    let mut findings = Vec::new();
    rule(&TextFile { path: path.to_owned(), text: text.to_owned() }, &mut findings);
    findings.into_iter().map(|finding| (finding.line, finding.message)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_its_place() {
        assert_eq!(Finding::new("a/b.rs", 7, "wrong").to_string(), "a/b.rs:7: wrong");
    }

    #[test]
    fn a_tree_is_checked_with_every_rule() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        let write = |path: &str, text: &str| -> anyhow::Result<()> {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().context("no parent")?)?;
            Ok(fs::write(path, text)?)
        };
        write("README.md", "[gone](docs/gone.md)\n")?;
        write("crates/utils/Cargo.toml", "[package]\nname = \"impuls-utils\"\n")?;
        write("crates/domain/src/a/mod.rs", "fn a() {} \n")?;
        write("target/debug/ignored.rs", "\tunsafe\n")?;
        let places: Vec<String> = check(root.path())?.into_iter().map(|finding| finding.path).collect();
        for expected in ["README.md", "crates/utils/Cargo.toml", "crates/domain/src/a/mod.rs"] {
            assert!(places.iter().any(|place| place == expected), "{expected} in {places:?}");
        }
        assert!(!places.iter().any(|place| place.starts_with("target/")));
        Ok(())
    }

    #[test]
    fn this_crate_is_tidy() -> anyhow::Result<()> {
        let found = check(&crate::root()?)?;
        let ours: Vec<String> = found
            .iter()
            .filter(|finding| finding.path.starts_with("crates/xtask/"))
            .map(ToString::to_string)
            .collect();
        assert_eq!(ours, Vec::<String>::new());
        Ok(())
    }
}

//! The files of the repository, without what is built or fetched.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Folders that `.gitignore` leaves out, and git's own.
const LEFT_OUT: [&str; 7] = [".git", "target", "build", ".cache", "node_modules", "__pycache__", ".venv"];

/// Every regular file below `folder`, sorted; symbolic links are not followed.
pub fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_file() {
                found.push(entry.path());
            } else if kind.is_dir() && !LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
                pending.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

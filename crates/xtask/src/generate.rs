//! Generated files that are committed: `openapi/impuls.json`, which the `openapi` example of the api crate prints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};

use crate::process;

/// Writes the OpenAPI document when it differs.
pub fn write(root: &Path) -> anyhow::Result<()> {
    let document = openapi(root)?;
    let path = openapi_path(root);
    if fs::read_to_string(&path).is_ok_and(|old| old == document) {
        println!("{} is up to date", path.display());
        return Ok(());
    }
    let folder = path.parent().context("the document has no folder")?;
    fs::create_dir_all(folder)?;
    fs::write(&path, document).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Whether the committed document is the one that the code describes.
pub fn is_current(root: &Path) -> anyhow::Result<bool> {
    let document = openapi(root)?;
    let current = fs::read_to_string(openapi_path(root)).is_ok_and(|committed| committed == document);
    if !current {
        println!("openapi/impuls.json is stale; run `make gen`");
    }
    Ok(current)
}

fn openapi_path(root: &Path) -> PathBuf {
    root.join("openapi/impuls.json")
}

fn openapi(root: &Path) -> anyhow::Result<String> {
    let arguments = ["run", "--quiet", "--package", "impuls-api", "--example", "openapi"];
    let mut command = process::command(root, "cargo", &arguments);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the openapi example of impuls-api failed");
    }
    let text = String::from_utf8(output.stdout).context("the OpenAPI document is not UTF-8")?;
    Ok(format!("{}\n", text.trim_end()))
}

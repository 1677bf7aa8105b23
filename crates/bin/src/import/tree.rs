//! The files of the first Impuls: `functions/metadata/NAME.json` and `functions/code/NAME/function.js`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

use super::{Dialect, Found, Left, read_code};

/// The most functions of one tree.
const FUNCTIONS: usize = 100_000;
/// What the server takes; the rest of a metadata file is its own (ids, times).
const TAKEN: [&str; 7] =
    ["name", "description", "runtime", "handler", "memory_mb", "timeout_sec", "environment"];

/// What is in a data folder, or in its folder `functions`.
pub(super) fn read(source: &Path) -> anyhow::Result<Left> {
    let inside = [source.join("functions"), source.to_owned()];
    let Some(root) = inside.iter().find(|root| root.join("metadata").is_dir()) else {
        bail!(
            "{} has nothing to import: there is no functions/metadata in it; a database is named as postgres://user:password@host/database",
            source.display()
        );
    };
    let cards = root.join("metadata");
    let mut names = Vec::new();
    for entry in fs::read_dir(&cards).with_context(|| format!("cannot read {}", cards.display()))? {
        let name = entry?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
        names.extend(name.map(str::to_owned));
        if names.len() > FUNCTIONS {
            bail!("{} has more than {FUNCTIONS} functions", cards.display());
        }
    }
    names.sort();
    let functions = names.into_iter().map(|name| function(root, name)).collect();
    Ok(Left { dialect: Dialect::Impuls, functions, not_taken: Vec::new() })
}

fn function(root: &Path, name: String) -> Found {
    let mut remark = None;
    let request = request(root, &name, &mut remark);
    Found { name, request, remark }
}

fn request(root: &Path, name: &str, remark: &mut Option<String>) -> Result<Value, String> {
    let path = root.join("metadata").join(format!("{name}.json"));
    let members: Map<String, Value> = serde_json::from_str(&read_code(&path)?)
        .map_err(|error| format!("{} is no JSON object: {error}", path.display()))?;
    let said = members.get("code").and_then(Value::as_str);
    let folder = root.join("code").join(name);
    let file = folder.join("function.js");
    let code = match (said, file.exists()) {
        // What that server ran is what its metadata files have.
        (Some(said), there) => {
            if there && read_code(&file).is_ok_and(|text| text != said) {
                *remark = Some(format!("with the code of the metadata file; {} is another", file.display()));
            }
            said.to_owned()
        }
        (None, _) => read_code(&file)?,
    };
    let mut request: Map<String, Value> = TAKEN
        .iter()
        .filter_map(|member| Some(((*member).to_owned(), members.get(*member)?.clone())))
        .collect();
    request.insert("code".to_owned(), code.into());
    Ok(Value::Object(request))
}

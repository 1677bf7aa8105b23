//! Running `nft`.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Where `nft` may be; a server's own environment may not name the folders of administrators' programs.
const FOLDERS: [&str; 6] =
    ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin", "/run/current-system/sw/bin"];
/// Longest piece of what `nft` says that is told on, in characters.
const SAID: usize = 500;

/// The program, if it is installed.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

fn command(arguments: &[&str]) -> io::Result<Command> {
    let program =
        find("nft").ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "nft is not installed"))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

fn checked(output: std::process::Output) -> io::Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said: String = String::from_utf8_lossy(&output.stderr).chars().take(SAID).collect();
    Err(io::Error::other(format!("nft failed: {}", said.trim())))
}

/// Carries a script out: all of it or, on `Err`, nothing. Blocks for some milliseconds.
pub(crate) fn run(script: &str) -> io::Result<()> {
    let mut child = command(&["-f", "-"])?.stdin(Stdio::piped()).spawn()?;
    // nft reads all before it says anything, so neither waits for the other. It may end before it has read all.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()));
    checked(child.wait_with_output()?)?;
    written
}

/// What a question is answered with: a text in JSON.
pub(crate) fn ask(arguments: &[String]) -> io::Result<Vec<u8>> {
    let mut command = command(&["-j"])?;
    checked(command.args(arguments).stdin(Stdio::null()).output()?)
}

/// The question for the names of the tables of family `inet`, and its answer.
pub(crate) fn tables(ask: impl FnOnce(&[&str]) -> io::Result<Vec<u8>>) -> io::Result<Vec<String>> {
    let name = |object: &Value| Some(object.get("table")?.get("name")?.as_str()?.to_owned());
    Ok(objects(&ask(&["list", "tables", "inet"])?)?.iter().filter_map(name).collect())
}

/// The question for the named counters of a table, and its answer: packets by name.
pub(crate) fn counters(
    table: &str,
    ask: impl FnOnce(&[&str]) -> io::Result<Vec<u8>>,
) -> io::Result<BTreeMap<String, u64>> {
    let count = |object: &Value| {
        let counter = object.get("counter")?;
        Some((counter.get("name")?.as_str()?.to_owned(), counter.get("packets")?.as_u64()?))
    };
    Ok(objects(&ask(&["list", "counters", "table", "inet", table])?)?.iter().filter_map(count).collect())
}

/// The question for a set whose elements count, and its answer: packets by element.
pub(crate) fn counting_set(
    (table, set): (&str, &str),
    ask: impl FnOnce(&[&str]) -> io::Result<Vec<u8>>,
) -> io::Result<HashMap<String, u64>> {
    let answer = objects(&ask(&["list", "set", "inet", table, set])?)?;
    let elements = answer.iter().filter_map(|object| object.get("set")?.get("elem")?.as_array()).flatten();
    let count = |element: &Value| {
        let element = element.get("elem")?;
        let packets = element.get("counter")?.get("packets")?.as_u64()?;
        Some((element.get("val")?.as_str()?.to_owned(), packets))
    };
    Ok(elements.filter_map(count).collect())
}

fn objects(answer: &[u8]) -> io::Result<Vec<Value>> {
    let answer: Value = serde_json::from_slice(answer)?;
    Ok(answer.get("nftables").and_then(Value::as_array).cloned().unwrap_or_default())
}

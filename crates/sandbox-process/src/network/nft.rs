//! Running `nft`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

/// What a question is answered with, as JSON.
pub(crate) fn ask(arguments: &[&str]) -> io::Result<serde_json::Value> {
    let mut command = command(&["-j"])?;
    let output = command.args(arguments).stdin(Stdio::null()).output()?;
    Ok(serde_json::from_slice(&checked(output)?)?)
}

/// The names of the tables of family `inet`.
pub(crate) fn tables() -> io::Result<Vec<String>> {
    let answer = ask(&["list", "tables", "inet"])?;
    let objects = answer.get("nftables").and_then(|list| list.as_array()).cloned().unwrap_or_default();
    let name = |object: &serde_json::Value| Some(object.get("table")?.get("name")?.as_str()?.to_owned());
    Ok(objects.iter().filter_map(name).collect())
}

//! Builds: commands that turn a function's source into what its sandboxes run. The source is copied to a folder that
//! can be written to, the commands run there one after the other, and what they leave in the output folder goes to the
//! host as a ZIP archive.

mod pack;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Component, Path};

use bytes::Bytes;
use impuls_guest_protocol::CallErrorKind;
use serde::{Deserialize, Serialize};

use crate::call::{Invocation, Reply, error};
use crate::code::Code;
use crate::process::{Run, run};

/// Where the commands run: the source, and whatever they make of it.
const WORKPLACE: &str = "/tmp/build";

#[derive(Deserialize)]
struct Order {
    /// Files that are added to the source before the first command: path within it, and text.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// Commands, each an argument vector.
    steps: Vec<Vec<String>>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// The folder whose contents are wanted; absolute, or relative to the source.
    output: String,
    /// The most bytes of the archive.
    packed_limit: usize,
}

#[derive(Default, Serialize)]
struct Answer {
    /// The command that failed, if one did: its place in the order, and how it ended.
    failed_step: Option<usize>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    /// Why there is no archive although every command succeeded.
    refused: Option<String>,
}

/// Carries out the build that the event describes. Its output is sent as log text while it runs, the archive before
/// the result.
pub(crate) async fn call(code: &Code, invocation: Invocation) {
    let reply = invocation.reply.clone();
    let order: Order = match serde_json::from_slice(&invocation.event) {
        Ok(order) => order,
        Err(cause) => {
            return reply.fail(&error(
                CallErrorKind::BadEvent,
                "",
                format!("this is no build: {cause}"),
                None,
            ));
        }
    };
    match carry_out(code, &order, &reply).await {
        // A structure of texts and numbers.
        Ok(answer) => reply.succeed(serde_json::to_vec(&answer).unwrap_or_default()),
        Err(cause) => {
            reply.fail(&error(CallErrorKind::FunctionError, "BuildError", cause.to_string(), None));
        }
    }
}

async fn carry_out(code: &Code, order: &Order, reply: &Reply) -> io::Result<Answer> {
    let workplace = Path::new(WORKPLACE);
    copy(Path::new(&code.init.code_dir), workplace)?;
    for (name, text) in &order.files {
        let path = within(workplace, name)?;
        fs::create_dir_all(path.parent().unwrap_or(workplace))?;
        fs::write(path, text)?;
    }
    let output = workplace.join(&order.output);
    fs::create_dir_all(&output)?;
    let mut environment = code.environment.clone();
    environment.extend(order.env.clone());
    for (at, words) in order.steps.iter().enumerate() {
        let process = Run {
            words,
            environment: &environment,
            directory: WORKPLACE,
            stdin: Bytes::new(),
            stdout_limit: 0,
            alone: true,
        };
        let ended = run(process, |is_stdout, bytes| reply.log_exactly(u8::from(!is_stdout), bytes));
        let named = |cause: io::Error| {
            let program = words.first().map_or("", String::as_str);
            io::Error::new(cause.kind(), format!("cannot run {program}: {cause}"))
        };
        let status = ended.await.map_err(named)?.status;
        if !status.success() {
            let (exit_code, signal) = (status.code(), status.signal());
            return Ok(Answer { failed_step: Some(at), exit_code, signal, refused: None });
        }
    }
    match pack::pack(&output, order.packed_limit)? {
        Ok(archive) => {
            reply.stream(archive.into()).await;
            Ok(Answer::default())
        }
        Err(refusal) => Ok(Answer { refused: Some(refusal), ..Answer::default() }),
    }
}

/// A path below a folder, from a relative name without `..`.
fn within(folder: &Path, name: &str) -> io::Result<std::path::PathBuf> {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if plain { Ok(folder.join(name)) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Copies a folder of files and folders, which is what the host lays out.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_files_stay_within_the_source() {
        let folder = Path::new("/src");
        assert_eq!(within(folder, "a/b.go").unwrap(), Path::new("/src/a/b.go"));
        for name in ["../a", "/a", "a/../../b"] {
            assert!(within(folder, name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_copy_has_everything_and_its_modes() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/run"), "x").unwrap();
        fs::set_permissions(from.join("a/b/run"), fs::Permissions::from_mode(0o755)).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::metadata(to.join("a/b/run")).unwrap().permissions().mode() & 0o777, 0o755);
    }
}

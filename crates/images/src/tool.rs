//! Programs of this machine that do the work: found, started, heard, and judged by their exit code.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::ImageError;

/// How many of the last lines of a program are shown when it fails.
const TAIL_LINES: usize = 30;
/// The longest line that is kept.
const LINE_BYTES: u64 = 4096;
/// Where the system's programs lie, some of them not on an ordinary user's `PATH`.
const SYSTEM: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Hears what is going on.
pub trait Steps {
    /// Something else is going on now.
    fn step(&self, text: &str);
}

impl<F: Fn(&str)> Steps for F {
    fn step(&self, text: &str) {
        self(text);
    }
}

/// A program, and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need(pub(crate) &'static str, pub(crate) &'static str);

/// Where programs are looked for.
#[derive(Clone, Debug)]
pub struct Toolbox {
    folders: Vec<PathBuf>,
}

impl Toolbox {
    /// The folders of a value of `PATH`, then the system's.
    #[must_use]
    pub fn new(path: &OsStr) -> Self {
        let mut folders: Vec<PathBuf> =
            std::env::split_paths(path).filter(|folder| folder.is_absolute()).collect();
        for folder in SYSTEM.map(PathBuf::from) {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        Self { folders }
    }

    /// These folders alone.
    #[must_use]
    pub fn only(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// Where a program is, if it is anywhere.
    #[must_use]
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        self.folders.iter().map(|folder| folder.join(program)).find(|path| path.is_file())
    }

    /// Names every missing program at once.
    pub(crate) fn require(&self, needs: &[Need]) -> Result<(), ImageError> {
        let missing: Vec<&Need> = needs.iter().filter(|need| self.find(need.0).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut packages: Vec<String> = missing.iter().map(|need| need.1.to_owned()).collect();
        packages.sort();
        packages.dedup();
        Err(ImageError::Tools { programs: missing.iter().map(|need| need.0.to_owned()).collect(), packages })
    }

    /// A command of this program, which has been required, in plain English and with our search path.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.find(program).unwrap_or_else(|| program.into()));
        command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        if let Ok(path) = std::env::join_paths(&self.folders) {
            command.env("PATH", path);
        }
        command
    }
}

/// Runs a command to its end. Each line that it writes, to either stream, goes to `hear` and, if there is one, to the log.
pub(crate) fn run(
    command: &mut Command,
    log: Option<&Path>,
    mut hear: impl FnMut(&str),
) -> Result<(), ImageError> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let program = program.to_string_lossy().into_owned();
    let failed = |source| ImageError::Start { program: program.clone(), source };
    let mut log = log
        .map(|path| {
            File::options().create(true).append(true).open(path).map_err(ImageError::io("writing", path))
        })
        .transpose()?;
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
    let mut child = command.spawn().map_err(failed)?;
    // The pipe ends when nobody holds its other end, and the command holds it too.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut tail = VecDeque::new();
    let mut lines = BufReader::new(reader);
    while let Some(line) = next_line(&mut lines).map_err(failed)? {
        if let Some(log) = &mut log {
            // A log that cannot be written is no reason to stop.
            let _ = writeln!(log, "{line}");
        }
        hear(&line);
        tail.push_back(line);
        if tail.len() > TAIL_LINES {
            tail.pop_front();
        }
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let output: Vec<String> = tail.into();
    Err(ImageError::Tool { program, output: output.join("\n") })
}

/// The next line, cut where it is too long.
fn next_line(lines: &mut impl std::io::BufRead) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = lines.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let empty = tempfile::tempdir().unwrap();
        let toolbox = Toolbox::only(vec![empty.path().to_owned()]);
        let needs = [Need("flex", "flex"), Need("bison", "bison"), Need("xzcat", "xz-utils")];
        let error = toolbox.require(&needs).unwrap_err().to_string();
        assert_eq!(error, "flex, bison, xzcat are missing: install the Debian packages bison flex xz-utils");
        let error = toolbox.require(&needs[..1]).unwrap_err().to_string();
        assert_eq!(error, "flex is missing: install the Debian package flex");
    }

    #[test]
    fn a_failing_program_shows_how_it_ended() {
        let toolbox = Toolbox::new(OsStr::new("relative:/nowhere"));
        let mut heard = Vec::new();
        let mut command = toolbox.command("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let error = run(&mut command, None, |line| heard.push(line.to_owned())).unwrap_err();
        assert_eq!(error.to_string(), "sh failed:\none\ntwo");
        assert_eq!(heard, ["one", "two"]);
    }
}

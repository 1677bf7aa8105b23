//! A network namespace of a test's own: the ports that documents print are free in it, whatever listens on this machine.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::cli::Outcome;
use crate::data::Data;
use crate::launch::{Launch, inherited, program};

/// How long one pasted command may take, in seconds; the first build of Go on a machine is among them.
const PATIENCE: &str = "180";

/// A network namespace with nothing but a loopback device. It is gone with the last process in it.
pub struct Network {
    holder: Child,
    /// Closed when this process ends, in whatever way; the holder ends then.
    stdin: Option<ChildStdin>,
}

impl Network {
    /// A new one. Needs root and iproute2.
    #[must_use]
    pub fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && echo up && read line"]);
        let mut holder =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare is there");
        let stdin = holder.stdin.take();
        let mut line = String::new();
        let read = holder.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        assert!(matches!(read, Some(Ok(1..))), "no network namespace could be made");
        Self { holder, stdin }
    }

    fn enter(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.holder.id())
    }

    /// `impuls serve` in this namespace, without a word about addresses; its data folder is told as Impuls' documents
    /// tell it.
    #[must_use]
    pub fn launch(&self, data: &Data) -> Launch {
        let launch = Launch::bare(data, PathBuf::from("nsenter")).argument(self.enter());
        launch.argument(program()).argument("serve").variable("DATA_DIR", data.folder())
    }

    /// A command line that starts a server, as it is printed, in this namespace and in a folder with a program
    /// `impuls-server`. The machine's `/var/lib` is not what it sees there.
    #[must_use]
    pub fn launch_printed(&self, command: &str, data: &Data) -> Launch {
        let scratch = data.scratch();
        std::os::unix::fs::symlink(program(), scratch.join("impuls-server")).expect("the folder is new");
        let script = format!("mount -t tmpfs none /var/lib && cd '{}' && exec {command}", scratch.display());
        let launch = Launch::bare(data, PathBuf::from("nsenter")).argument(self.enter());
        launch.arguments(["unshare", "--mount", "bash", "-c"]).argument(script)
    }

    /// Pastes commands into a shell in this namespace, in a folder, with these variables set.
    #[must_use]
    pub fn paste(&self, commands: &str, folder: &Data, variables: &[(&str, &str)]) -> Outcome {
        let mut command = Command::new("nsenter");
        command.arg(self.enter()).args(["timeout", PATIENCE, "bash", "-c", commands]);
        command.env_clear().env("PATH", inherited("PATH")).env("HOME", folder.scratch());
        command.envs(variables.iter().copied()).current_dir(folder.scratch()).stdin(Stdio::null());
        let output = command.output().expect("there is a shell");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stdin.take();
        let _ended = self.holder.wait();
    }
}

/// The commands of a printed block: its paragraphs, without the first, which says where it is printed.
#[must_use]
pub fn commands(block: &str) -> Vec<&str> {
    block.trim_end().split("\n\n").skip(1).collect()
}

//! A network namespace of a test's own: the ports that documents print are free in it, whatever listens on this machine.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::cli::Outcome;
use crate::data::Data;
use crate::launch::{Launch, inherited, program};

/// How long one pasted command may take, in seconds; the first build of Go on a machine is among them.
const PATIENCE: &str = "180";

/// The address of what is outside of a [`Network::with_outside`], and another one of the same place.
pub const OUTSIDE: [&str; 2] = ["203.0.113.2", "203.0.113.3"];

/// A network namespace with nothing but a loopback device. It is gone with the last process in it.
pub struct Network {
    holder: Child,
    /// Closed when this process ends, in whatever way; the holder ends then.
    stdin: Option<ChildStdin>,
}

/// A network namespace that stands for everything outside of a machine, and a server in it.
pub struct Outside {
    _network: Network,
    server: Child,
}

impl Drop for Outside {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.server.kill().and_then(|()| self.server.wait());
    }
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

    /// A new one with a link to an outside that has the addresses [`OUTSIDE`], where a program serves that prints a line
    /// when it does. Its arguments follow.
    #[must_use]
    pub fn with_outside(program: &str, arguments: &[&str]) -> (Self, Outside) {
        let (inside, outside) = (Self::new(), Self::new());
        let peer = outside.holder.id().to_string();
        inside.run(&["ip", "link", "add", "wan0", "type", "veth", "peer", "name", "out0", "netns", &peer]);
        inside.run(&["ip", "addr", "add", "203.0.113.1/24", "dev", "wan0"]);
        inside.run(&["ip", "link", "set", "wan0", "up"]);
        for address in OUTSIDE {
            outside.run(&["ip", "addr", "add", &format!("{address}/24"), "dev", "out0"]);
        }
        outside.run(&["ip", "link", "set", "out0", "up"]);
        inside.run(&["ip", "route", "add", "default", "via", OUTSIDE[0]]);
        let mut command = Command::new("nsenter");
        command.arg(outside.enter()).arg(program).args(arguments).stdout(Stdio::piped());
        let mut server = command.spawn().expect("the server outside starts");
        let mut line = String::new();
        let read = server.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        assert!(matches!(read, Some(Ok(1..))), "{program} does not serve");
        (inside, Outside { _network: outside, server })
    }

    /// Runs a command in this namespace; it must succeed.
    pub(crate) fn run(&self, words: &[&str]) {
        let status = Command::new("nsenter").arg(self.enter()).args(words).status();
        assert!(status.is_ok_and(|status| status.success()), "{words:?}");
    }

    /// As [`Network::launch`], on a machine that trusts these certificate authorities and no others.
    #[must_use]
    pub fn launch_trusting(&self, authorities: &Path, data: &Data) -> Launch {
        let bundle = "/etc/ssl/certs/ca-certificates.crt";
        let script = format!("mount --bind '{}' {bundle} && exec \"$0\" serve", authorities.display());
        let launch = self.launch_bare(data);
        let launch = launch.arguments(["unshare", "--mount", "sh", "-c"]).argument(script);
        launch.argument(program()).variable("DATA_DIR", data.folder())
    }

    fn enter(&self) -> String {
        format!("--net={}", self.namespace())
    }

    /// The process that keeps this namespace.
    pub(crate) fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// The file that stands for this namespace.
    pub(crate) fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.holder())
    }

    /// A launch in this namespace of whatever program is its first argument.
    pub(crate) fn launch_bare(&self, data: &Data) -> Launch {
        Launch::bare(data, PathBuf::from("nsenter")).argument(self.enter())
    }

    /// `impuls serve` in this namespace, without a word about addresses; its data folder is told as Impuls' documents
    /// tell it.
    #[must_use]
    pub fn launch(&self, data: &Data) -> Launch {
        let launch = self.launch_bare(data);
        launch.argument(program()).argument("serve").variable("DATA_DIR", data.folder())
    }

    /// A command line that starts a server, as it is printed, in this namespace and in a folder with a program
    /// `impuls-server`. The machine's `/var/lib` is not what it sees there.
    #[must_use]
    pub fn launch_printed(&self, command: &str, data: &Data) -> Launch {
        let scratch = data.scratch();
        std::os::unix::fs::symlink(program(), scratch.join("impuls-server")).expect("the folder is new");
        let script = format!("mount -t tmpfs none /var/lib && cd '{}' && exec {command}", scratch.display());
        let launch = self.launch_bare(data);
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

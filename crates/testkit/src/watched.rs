//! A server process that ends with the test.
//!
//! A shell watches over it and holds one end of a pipe. When the other end is closed, because the test says so, or
//! because its process is gone for whatever reason, the shell stops the server and removes the folder.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What the watching shell does: `$1` the folder, `$2` the file with the server's process id in its first line, `$3` the signal that
/// ends it at once, from `$4` on its command. It is told by its standard input that the test is gone, and told again if it was
/// started anew.
const WATCH: &str = r#"
folder=$1; pidfile=$2; signal=$3; shift 3
stop() { [ -f "$pidfile" ] && kill -"$signal" "$(head -n 1 "$pidfile")" 2>/dev/null; }
while read -r word; do
  case $word in
    start) "$@" >>"$folder/log" 2>&1 </dev/null & echo started ;;
    stop) stop; wait; rm -f "$pidfile"; echo stopped ;;
  esac
done
stop; wait; rm -rf "$folder"
"#;

/// A server, started or stopped.
#[derive(Debug)]
pub(crate) struct Watched {
    shell: Child,
    words: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Watched {
    /// A shell for this server, which is not started yet. The folder goes with it.
    pub(crate) fn new(folder: &Path, pid_file: &Path, signal: &str, command: &[String]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCH, "watch"]).arg(folder).arg(pid_file).arg(signal).args(command);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut shell = shell.spawn().expect("no shell");
        let words = shell.stdin.take();
        let answers = BufReader::new(shell.stdout.take().expect("no pipe"));
        Self { shell, words, answers }
    }

    /// Starts it, also again.
    pub(crate) fn start(&mut self) {
        self.tell("start");
    }

    /// Ends it at once and waits until it is gone.
    pub(crate) fn stop(&mut self) {
        self.tell("stop");
    }

    fn tell(&mut self, word: &str) {
        let words = self.words.as_mut().expect("the shell is gone");
        writeln!(words, "{word}").expect("the shell is gone");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the shell is gone");
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.words = None;
        // The shell ends by itself, and nobody is left who would want to know how.
        drop(self.shell.wait());
    }
}

/// Waits a moment for a server that is starting.
#[expect(
    clippy::disallowed_methods,
    reason = "a server says in no other way that it is ready than by answering"
)]
pub(crate) fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(50));
}

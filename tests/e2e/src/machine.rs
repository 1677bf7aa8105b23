//! A machine that a test plays: a network and mounts of its own, and an outside that answers. Nothing goes any further.

use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::cli::Outcome;
use crate::data::Data;
use crate::launch::{Launch, program};

/// What the outside is: `hello <who asks>` over HTTP on port 8080 of all of its addresses, and a resolver.
const OUTSIDE: &str = "
import http.server, socket, struct, threading
NAMES = {'www.example': '203.0.113.2', 'inside.example': '10.77.0.1', 'elsewhere.example': '203.0.113.3'}
class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'hello ' + self.client_address[0].encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *rest):
        pass
def names():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(('', 53))
    while True:
        asked, peer = sock.recvfrom(1500)
        labels, at = [], 12
        while asked[at]:
            labels.append(asked[at + 1:at + 1 + asked[at]].decode().lower())
            at += asked[at] + 1
        found = NAMES.get('.'.join(labels))
        answer = b'\\xc0\\x0c' + struct.pack('>HHIH', 1, 1, 60, 4) + socket.inet_aton(found) if found else b''
        head = asked[:2] + struct.pack('>5H', 0x8180 if found else 0x8183, 1, 1 if found else 0, 0, 0)
        sock.sendto(head + asked[12:at + 5] + answer, peer)
threading.Thread(target=names, daemon=True).start()
http.server.ThreadingHTTPServer(('', 8080), Web).serve_forever()
";

/// Sets it all up, says so and waits for the end of standard input. The outside is process `$outside`.
const SET_UP: &str = r#"
set -e
unshare --net python3 -c "$0" & outside=$!
trap 'kill $outside' EXIT
until [ "$(readlink /proc/$outside/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
there() { nsenter --net=/proc/$outside/ns/net ip "$@"; }
ip link set lo up
ip link add wan0 type veth peer name out0 netns $outside
ip addr add 203.0.113.1/24 dev wan0
ip link set wan0 up
ip route add default via 203.0.113.2
there link set lo up
there link set out0 up
for address in 203.0.113.2/24 203.0.113.3/24; do there addr add $address dev out0; done
for address in 10.77.0.1 169.254.169.254; do there addr add $address/32 dev lo; done
mount -t tmpfs net /dev/net
mknod --mode 666 /dev/net/tun c 10 200
echo nameserver 203.0.113.2 > /dev/net/resolv.conf
mount --bind /dev/net/resolv.conf /etc/resolv.conf
until (exec 3<>/dev/tcp/203.0.113.2/8080) 2>/dev/null; do sleep 0.02; done
echo up
read line
"#;

/// The machine. It is gone with the last process in it.
pub struct Machine {
    holder: Child,
    /// Closed when this process ends, in whatever way; the holder ends then.
    stdin: Option<ChildStdin>,
}

impl Machine {
    /// The machine's own public address.
    pub const ADDRESS: &'static str = "203.0.113.1";

    /// A new one, in whose network the calling thread is from now on: what it connects to is there. For a runtime of
    /// one thread. Needs root, iproute2 and Python.
    #[must_use]
    pub fn enter() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "bash", "-c", SET_UP, OUTSIDE]);
        let mut holder =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare is there");
        let stdin = holder.stdin.take();
        let mut line = String::new();
        let read = holder.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        assert!(matches!(read, Some(Ok(1..))), "no machine could be made");
        let machine = Self { holder, stdin };
        let network = std::fs::File::open(machine.namespace("net")).expect("the holder lives");
        let entered = move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network));
        entered.expect("root may enter");
        machine
    }

    fn namespace(&self, kind: &str) -> PathBuf {
        format!("/proc/{}/ns/{kind}", self.holder.id()).into()
    }

    /// The program on this machine without arguments: as root, or as a user from a copy that this user can read.
    #[must_use]
    pub fn launch(&self, data: &Data, user: Option<u32>) -> Launch {
        let mounts = format!("--mount={}", self.namespace("mnt").display());
        let launch = Launch::bare(data, "nsenter".into()).argument(mounts);
        let Some(user) = user else { return launch.argument(program()) };
        let copy = data.scratch().join("impuls");
        std::fs::copy(program(), &copy).expect("there is room");
        std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).expect("the copy is ours");
        std::os::unix::fs::chown(data.scratch(), Some(user), Some(user)).expect("root may");
        let user = user.to_string();
        let launch = launch.arguments(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
        launch.argument(copy).variable("HOME", data.scratch())
    }

    /// Runs a command on this machine, as root.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Outcome {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount={}", self.namespace("mnt").display()));
        command.arg(format!("--net={}", self.namespace("net").display())).args(words);
        let output = command.stdin(Stdio::null()).output().expect("nsenter is there");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// What `impuls doctor` says on this machine to a user about the network of functions. That of this user has been
    /// launched before.
    #[must_use]
    pub fn doctor(&self, data: &Data, user: u32) -> Value {
        let (user, copy) = (user.to_string(), data.scratch().join("impuls"));
        let switch = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
        let doctor = [copy.to_str().expect("the folder has a plain name"), "doctor", "--json"];
        let layers = self.run(&[&switch[..], &doctor[..]].concat()).json()["isolation"].clone();
        let network = |layer: &&Value| layer["name"] == "FunctionNetwork";
        layers.as_array().into_iter().flatten().find(network).cloned().unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stdin.take();
        let _ended = self.holder.wait();
    }
}

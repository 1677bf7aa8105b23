//! A machine with an outside, and code in a sandbox that tries what it reaches.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use impuls_domain::SandboxId;
use impuls_sandbox::conformance::fixture::libraries;
use impuls_sandbox::{Assignment, Connection, RuntimeImage, Sandbox, SandboxDriver, SandboxSpec};
use impuls_sandbox_container::{ContainerDriver, OciRuntime};
use impuls_sandbox_process::{Config, NetworkConfig, ProcessDriver};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::fixture::{self, LIMITS, PYTHON, call, deadline};
use crate::names;

/// Answers on every address with what it takes the caller for.
const OUTSIDE: &str = "import socket, threading\n\
    def tcp(port):\n    \
        listener = socket.create_server(('', port))\n    \
        while True:\n        \
            stream, peer = listener.accept()\n        \
            stream.sendall(b'hello ' + peer[0].encode())\n        \
            stream.close()\n\
    def udp(port):\n    \
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n    \
        sock.bind(('', port))\n    \
        while True:\n        \
            _, peer = sock.recvfrom(100)\n        \
            sock.sendto(b'hello ' + peer[0].encode(), peer)\n\
    def web():\n    \
        listener = socket.create_server(('', 80))\n    \
        while True:\n        \
            stream, _ = listener.accept()\n        \
            stream.recv(4096)\n        \
            stream.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\nConnection: close\\r\\n\\r\\nweb')\n        \
            stream.close()\n\
    threading.Thread(target=web, daemon=True).start()\n\
    for run, port in [(tcp, 8080), (tcp, 5432), (udp, 9999)]:\n    \
        threading.Thread(target=run, args=(port,), daemon=True).start()\n\
    print('ready', flush=True)\n\
    input()\n";

/// Does what the event says.
const INSIDE: &str = "import socket, struct\n\
    kept = []\n\
    def handler(event, context):\n    \
        try:\n        \
            return globals()[event['do']](*event['with'])\n    \
        except OSError as error:\n        \
            return f'{type(error).__name__} {error.errno}'\n\
    def tcp(host, port):\n    \
        with socket.create_connection((host, port), 3) as stream:\n        \
            return stream.recv(100).decode()\n\
    def udp(host, port):\n    \
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:\n        \
            sock.settimeout(3)\n        \
            sock.sendto(b'x', (host, port))\n        \
            return sock.recv(100).decode()\n\
    def flood(host, port, count):\n    \
        for sent in range(count):\n        \
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:\n            \
                sock.sendto(b'x', (host, port))\n    \
        return count\n\
    def keep(host, port):\n    \
        kept.append(socket.create_connection((host, port), 3))\n    \
        while kept[-1].recv(100): pass\n    \
        return len(kept)\n\
    def resolve(name):\n    \
        return socket.gethostbyname_ex(name)[2]\n\
    def gateway():\n    \
        return open('/etc/resolv.conf').read().split()[1]\n\
    def listen():\n    \
        kept.append(socket.create_server(('', 8080)))\n    \
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:\n        \
            sock.connect((gateway(), 53))\n        \
            return sock.getsockname()[0]\n\
    def ask(name, how):\n    \
        question = b''.join(bytes([len(part)]) + part.encode() for part in name.split('.'))\n    \
        message = struct.pack('>6H', 7, 0x100, 1, 0, 0, 0) + question + struct.pack('>BHH', 0, 1, 1)\n    \
        kind = socket.SOCK_DGRAM if how == 'udp' else socket.SOCK_STREAM\n    \
        with socket.socket(socket.AF_INET, kind) as sock:\n        \
            sock.settimeout(3)\n        \
            sock.connect((gateway(), 53))\n        \
            sock.sendall(message if how == 'udp' else struct.pack('>H', len(message)) + message)\n        \
            if how == 'tcp': sock.recv(2, socket.MSG_WAITALL)\n        \
            head = struct.unpack('>6H', sock.recv(65536)[:12])\n        \
            return {'rcode': head[1] & 15, 'truncated': bool(head[1] & 0x200), 'answers': head[3]}\n";

pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn ip(line: &str) {
    output("ip", &line.split(' ').collect::<Vec<_>>());
}

/// From now on, the machine is a network namespace. To be called while there is one thread.
pub fn leave_the_machines_network() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET | nix::sched::CloneFlags::CLONE_NEWNS)
            .unwrap();
        open_tun_to_everybody();
        let outside = outside();
        ip("link set lo up");
        ip(&format!("link add wan0 type veth peer name out0 netns {}", outside.id()));
        ip("addr add 203.0.113.1/24 dev wan0");
        ip("link add lan0 type veth peer name lan1");
        ip("addr add 198.51.100.1/24 dev lan0");
        for link in ["wan0", "lan0", "lan1"] {
            ip(&format!("link set {link} up"));
        }
        ip("route add default via 203.0.113.2");
        // So that an ordinary user can play somebody else's resolver.
        fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").unwrap();
        let there = |line: &str| {
            let pid = outside.id().to_string();
            let words = ["-t", &pid, "-n", "ip"].into_iter().chain(line.split(' ')).collect::<Vec<_>>();
            output("nsenter", &words)
        };
        there("link set lo up");
        there("addr add 203.0.113.2/24 dev out0");
        there("addr add 203.0.113.3/24 dev out0");
        there("link set out0 up");
        for address in [
            "10.77.0.1",
            "172.16.77.1",
            "192.168.77.1",
            "100.64.77.1",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.1.1",
            "100.100.100.200",
        ] {
            there(&format!("addr add {address}/32 dev lo"));
        }
        // It ends with this process, whose end it reads.
        std::mem::forget(outside);
    });
}

/// In a mount namespace of the test's own; most machines have it so.
fn open_tun_to_everybody() {
    output("mount", &["--make-rprivate", "/"]);
    output("mount", &["-t", "tmpfs", "net", "/dev/net"]);
    output("mknod", &["--mode", "666", "/dev/net/tun", "c", "10", "200"]);
}

/// A user that nobody else is.
const USER: u32 = 54_322;

/// One of the tests that are an ordinary user's, to be started.
pub fn as_ordinary_user(test: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["ordinary", test]).uid(USER).gid(USER);
    command
}

/// One of the tests whose sandboxes are containers, to be started.
pub fn contained(test: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["contained", test]);
    command
}

fn is_contained() -> bool {
    std::env::args().nth(1).as_deref() == Some("contained")
}

/// The driver of containers, with the other's network.
async fn containers(process: &ProcessDriver, folder: &Path) -> Arc<ContainerDriver> {
    let init = std::env::current_exe().unwrap();
    let config = impuls_sandbox_container::Config {
        run_dir: folder.join("containers"),
        runtime: OciRuntime::examine(Path::new("/usr/bin/crun")).await.unwrap(),
        init_libraries: libraries(&init),
        init,
        network: Some(process.network()),
        allow_unsafe: true,
    };
    ContainerDriver::start(config).await.unwrap()
}

/// The processes of this user's whose command line begins so.
pub fn processes(name: &str) -> Vec<u32> {
    let own = rustix::process::geteuid().as_raw();
    let is_own = |pid: &u32| {
        let owner = fs::metadata(format!("/proc/{pid}")).map(|metadata| metadata.uid());
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let program = command.split(|&byte| byte == 0).next().unwrap_or_default();
        owner.is_ok_and(|owner| owner == own) && Path::new(&*String::from_utf8_lossy(program)).ends_with(name)
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_own).collect()
}

pub fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _gone_with_another = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Waits until nothing is left of what the user has started.
pub fn eventually_no_process_of_the_user() {
    let until = Instant::now() + Duration::from_secs(5);
    let some = || {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let owner = |entry: fs::DirEntry| entry.metadata().map(|metadata| metadata.uid()).ok();
        pids.filter_map(owner).any(|owner| owner == USER)
    };
    while some() {
        assert!(Instant::now() < until, "processes are left");
        std::thread::yield_now();
    }
}

fn outside() -> Child {
    let mut command = Command::new("unshare");
    command.args(["--net", "python3", "-c", OUTSIDE]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line)
        .unwrap();
    child
}

pub fn forwarding(link: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{link}/forwarding")).unwrap().trim().to_owned()
}

/// What there is of ours: tables, and links.
pub fn tables_and_links() -> Vec<String> {
    let tables = output("nft", &["list", "tables"]);
    let tables = tables.lines().map(|line| line.trim_start_matches("table inet ").to_owned());
    let links = output("ip", &["-br", "link"]);
    let links = links.lines().filter(|line| line.starts_with("im")).map(str::to_owned);
    tables.chain(links).collect()
}

/// A driver on the machine, and what is beside it.
pub struct Machine {
    pub driver: Arc<ProcessDriver>,
    containers: Option<Arc<ContainerDriver>>,
    pub folder: tempfile::TempDir,
}

impl Machine {
    pub async fn new(allow: &[&str]) -> Self {
        Self::serve_control_plane().await;
        Self::new_beside(allow).await
    }

    async fn serve_control_plane() {
        // Somebody else's server, on all of the machine's addresses.
        // A process that is just being started has it for a moment more after a test before.
        let control = fixture::eventually(|| std::net::TcpListener::bind("0.0.0.0:8080").ok()).await;
        control.set_nonblocking(true).unwrap();
        let control = tokio::net::TcpListener::from_std(control).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = control.accept().await.unwrap();
                stream.write_all(b"control plane").await.unwrap();
            }
        });
    }

    /// Another server on the same machine.
    pub async fn new_beside(allow: &[&str]) -> Self {
        let resolver = names::serve().await;
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            run_dir: folder.path().join("run"),
            exe: "/proc/self/exe".into(),
            allow_weaker: false,
            network: NetworkConfig {
                allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
                resolvers: vec![resolver],
                ..NetworkConfig::default()
            },
        };
        let driver = ProcessDriver::start(config).await.unwrap();
        let containers = match is_contained() {
            true => Some(containers(&driver, folder.path()).await),
            false => None,
        };
        Self { driver, containers, folder }
    }

    /// What makes the sandboxes of this test.
    pub fn sandboxes(&self) -> &dyn SandboxDriver {
        match &self.containers {
            Some(containers) => containers.as_ref(),
            None => self.driver.as_ref(),
        }
    }

    pub async fn guest(&self, policy: &str) -> Guest {
        Guest::new(self.sandboxes(), self.folder.path(), policy).await
    }

    pub async fn refused(&self, reason: &str) -> u64 {
        self.driver.refused_packets().await.unwrap().get(reason).copied().unwrap_or_default()
    }

    pub async fn end(&self) {
        if let Some(containers) = &self.containers {
            containers.shutdown().await;
        }
        self.driver.shutdown().await;
    }
}

/// A sandbox with code that tries things.
pub struct Guest {
    pub sandbox: Arc<dyn Sandbox>,
    connection: Connection,
}

fn spec(image: &Arc<RuntimeImage>) -> SandboxSpec {
    SandboxSpec {
        id: SandboxId::new(),
        image: image.clone(),
        prewarm: false,
        interpreter_environment: Default::default(),
        limits: LIMITS,
    }
}

impl Guest {
    pub async fn new(driver: &dyn SandboxDriver, folder: &Path, policy: &str) -> Self {
        Self::assign(Self::sandbox(driver).await, folder, policy).await
    }

    pub async fn sandbox(driver: &dyn SandboxDriver) -> Arc<dyn Sandbox> {
        Self::sandbox_of(driver, &PYTHON).await
    }

    /// One, unless the spawner has just gone.
    pub async fn try_sandbox(driver: &dyn SandboxDriver) -> Option<Arc<dyn Sandbox>> {
        driver.create(spec(&PYTHON), deadline(20)).await.ok()
    }

    /// How many packets and lookups it was refused.
    pub fn refused(&self) -> (u64, u64) {
        let refused = self.sandbox.refusals();
        (refused.packets, refused.lookups)
    }

    pub async fn sandbox_of(driver: &dyn SandboxDriver, image: &Arc<RuntimeImage>) -> Arc<dyn Sandbox> {
        driver.create(spec(image), deadline(20)).await.unwrap()
    }

    pub async fn assign(sandbox: Arc<dyn Sandbox>, folder: &Path, policy: &str) -> Self {
        Self::give(sandbox, folder, ("index.py", INSIDE), policy).await
    }

    pub async fn give(
        sandbox: Arc<dyn Sandbox>,
        folder: &Path,
        (file, text): (&str, &str),
        policy: &str,
    ) -> Self {
        let code = folder.join(sandbox.id().to_string());
        fs::create_dir(&code).unwrap();
        fs::write(code.join(file), text).unwrap();
        let assignment = Assignment {
            code,
            limits: LIMITS,
            network: policy.parse().unwrap(),
            init: fixture::init("index.handler", LIMITS),
        };
        sandbox.assign(assignment, deadline(20)).await.unwrap().unwrap();
        let connection = sandbox.connect().await.unwrap();
        Self { sandbox, connection }
    }

    /// What the handler answers, or how it fails.
    pub async fn call(&self, event: &str) -> String {
        let answer = call(&self.connection, &json!(event).to_string()).await;
        answer.map_or_else(|error| error, |value| value.as_str().unwrap().to_owned())
    }

    async fn tries(&self, what: &str, with: Value) -> Value {
        call(&self.connection, &json!({ "do": what, "with": with }).to_string()).await.unwrap()
    }

    pub async fn tcp(&self, host: &str, port: u16) -> String {
        self.tries("tcp", json!([host, port])).await.as_str().unwrap().to_owned()
    }

    pub async fn udp(&self, host: &str, port: u16) -> String {
        self.tries("udp", json!([host, port])).await.as_str().unwrap().to_owned()
    }

    /// Sends so many datagrams, each from a port of its own, and says how many could be sent.
    pub async fn flood(&self, host: &str, port: u16, count: usize) -> u64 {
        self.tries("flood", json!([host, port, count])).await.as_u64().unwrap()
    }

    /// Makes a connection that stays, with nothing left to be read, which would end it at once, and says how many there are.
    pub async fn keep(&self, host: &str, port: u16) -> u64 {
        self.tries("keep", json!([host, port])).await.as_u64().unwrap()
    }

    pub async fn resolve(&self, name: &str) -> Value {
        self.tries("resolve", json!([name])).await
    }

    pub async fn ask(&self, name: &str, how: &str) -> Value {
        self.tries("ask", json!([name, how])).await
    }

    pub async fn gateway(&self) -> String {
        self.tries("gateway", json!([])).await.as_str().unwrap().to_owned()
    }

    /// Starts to listen, and says where.
    pub async fn listen(&self) -> String {
        self.tries("listen", json!([])).await.as_str().unwrap().to_owned()
    }

    /// Sends a packet from another address, as somebody with rights in the sandbox's network could.
    pub fn spoof(&self, source: &str) {
        let id = self.sandbox.id();
        // Process sandboxes' groups are called after the number, containers' after its text.
        let (key, text) = (format!("{:032x}", id.as_uuid().as_u128()), id.to_string());
        let found = output("find", &["/sys/fs/cgroup", "-name", &key, "-o", "-name", &text]);
        let group = Path::new(found.lines().next().unwrap());
        let pid = fs::read_to_string(group.join("cgroup.procs")).unwrap().lines().next().unwrap().to_owned();
        let send = format!(
            "import socket\n\
             s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
             s.setsockopt(0, 19, 1)\n\
             s.bind(('{source}', 0))\n\
             s.sendto(b'x', ('203.0.113.2', 9999))\n"
        );
        output("nsenter", &["-t", &pid, "-n", "python3", "-c", &send]);
    }
}

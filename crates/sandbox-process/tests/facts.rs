//! What code in a sandbox can and cannot see and do. Every fact holds for executed and for forked processes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support/fixture.rs"]
mod fixture;

use std::sync::Arc;

use fixture::{Fixture, NODE, PYTHON, ZYGOTE, call};
use impuls_sandbox::RuntimeImage;
use impuls_sandbox::conformance::walls::PROBE;
use serde_json::{Value, json};

struct Probe {
    fixture: Fixture,
    connection: impuls_sandbox::Connection,
    _sandbox: Arc<dyn impuls_sandbox::Sandbox>,
}

impl Probe {
    async fn new(image: &Arc<RuntimeImage>) -> Self {
        let fixture = Fixture::new().await;
        let (sandbox, connection) = fixture.run(image, "index.py", PROBE).await;
        Self { fixture, connection, _sandbox: sandbox }
    }

    async fn check(&self, expression: &str, expected: Value) {
        let answer = call(&self.connection, &json!(expression).to_string()).await;
        assert_eq!(answer, Ok(expected), "{expression}");
    }

    async fn end(self) {
        self.fixture.driver.shutdown().await;
    }
}

/// Runs the facts in both kinds of Python sandbox.
macro_rules! facts {
    ($($name:ident($probe:ident) $body:block)+) => {
        mod executed {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs root"]
            async fn $name() {
                let $probe = Probe::new(&PYTHON).await;
                $body
                $probe.end().await;
            })+
        }
        mod forked {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs root"]
            async fn $name() {
                let $probe = Probe::new(&ZYGOTE).await;
                $body
                $probe.end().await;
            })+
        }
    };
}

facts! {
    no_privilege_is_left(probe) {
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            probe.check(&format!("int(status('{set}'), 16)"), json!(0)).await;
        }
        probe.check("status('NoNewPrivs')", json!("1")).await;
        probe.check("status('Seccomp')", json!("2")).await;
        probe.check("status('Seccomp_filters')", json!("2")).await;
        probe.check("[os.getresuid(), os.getresgid(), os.getgroups()]", json!([[1000, 1000, 1000], [1000, 1000, 1000], []])).await;
        // No id but its own exists in its user namespace.
        probe.check("refusal(lambda: os.setuid(0))", json!("EINVAL")).await;
    }

    the_host_is_not_visible(probe) {
        probe.check("sorted(os.listdir('/'))", json!(["dev", "etc", "lib", "lib64", "opt", "proc", "tmp", "usr", "var"])).await;
        probe.check("sorted(os.listdir('/etc'))", json!(["group", "hostname", "hosts", "localtime", "nsswitch.conf", "passwd", "resolv.conf"])).await;
        for path in ["/home", "/root", "/work", "/sys", "/run", "/etc/shadow", "/etc/machine-id", "/proc/1/environ"] {
            probe.check(&format!("read('{path}')"), json!("ENOENT")).await;
        }
        probe.check("sorted(os.listdir('/dev'))", json!(["fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"])).await;
        probe.check("os.uname().nodename", json!("sandbox")).await;
        probe.check("sorted(os.environ)", json!(["HOME", "LANG", "PATH", "TMPDIR"])).await;
    }

    only_its_own_places_can_be_written(probe) {
        for path in [
            "/x", "/etc/passwd", "/opt/impuls/python/shim.py", "/var/task/index.py", "/dev/x",
            "/proc/sys/kernel/core_pattern", "/proc/sys/net/ipv4/ip_forward", "/proc/self/oom_score_adj",
        ] {
            probe.check(&format!("write('{path}') in ('EROFS', 'EACCES')"), json!(true)).await;
        }
        probe.check("write('/tmp/x')", json!(null)).await;
        probe.check("write('/dev/shm/x')", json!(null)).await;
        probe.check("write('/dev/null')", json!(null)).await;
        probe.check("write('/dev/stdout')", json!(null)).await;
        probe.check("os.statvfs('/var/task').f_flag & (os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV)", json!(7)).await;
        probe.check("write('/tmp/big', 'x' * (70 << 20))", json!("ENOSPC")).await;
    }

    machine_files_of_proc_are_masked(probe) {
        probe.check("open('/proc/keys').read() + open('/proc/timer_list').read() + open('/proc/interrupts').read()", json!("")).await;
        probe.check("os.path.exists('/proc/kcore') and open('/proc/kcore').read() != ''", json!(false)).await;
        probe.check("os.listdir('/proc/fs') + os.listdir('/proc/irq') + os.listdir('/proc/bus')", json!([])).await;
        probe.check("write('/proc/sysrq-trigger', 'h') in (None, 'EACCES', 'ENOENT')", json!(true)).await;
    }

    other_processes_are_out_of_reach(probe) {
        probe.check("[name for name in os.listdir('/proc') if name.isdigit()]", json!(["2"])).await;
        probe.check("refusal(lambda: os.kill(1, 9))", json!("EPERM")).await;
        probe.check("refusal(lambda: os.kill(-1, 9))", json!("ESRCH")).await;
    }

    calls_into_the_kernel_are_refused(probe) {
        let eperm = [
            ("mount", 165), ("umount2", 166), ("pivot_root", 155), ("chroot", 161), ("unshare", 272), ("setns", 308),
            ("ptrace", 101), ("keyctl", 250), ("add_key", 248), ("request_key", 249), ("bpf", 321),
            ("userfaultfd", 323), ("perf_event_open", 298), ("process_vm_readv", 310), ("process_vm_writev", 311),
            ("kexec_load", 246), ("init_module", 175), ("finit_module", 313), ("reboot", 169), ("swapon", 167),
            ("quotactl", 179), ("acct", 163), ("name_to_handle_at", 303), ("open_by_handle_at", 304), ("open_tree", 428),
            ("move_mount", 429), ("fsopen", 430), ("mount_setattr", 442), ("pidfd_getfd", 438), ("syslog", 103),
            ("io_setup", 206), ("shmget", 29), ("msgget", 68), ("sethostname", 170), ("settimeofday", 164),
            ("iopl", 172), ("modify_ldt", 154), ("vhangup", 153), ("kcmp", 312),
        ];
        for (name, number) in eperm {
            probe.check(&format!("['{name}', syscall({number}, 0, 0, 0, 0)]"), json!([name, "EPERM"])).await;
        }
        for (name, number) in [("clone3", 435), ("io_uring_setup", 425), ("io_uring_enter", 426), ("memfd_secret", 447), ("newest", 479)] {
            probe.check(&format!("['{name}', syscall({number}, 0, 0, 0, 0)]"), json!([name, "ENOSYS"])).await;
        }
        // clone with CLONE_NEWUSER, ioctl TIOCSTI, personality ADDR_NO_RANDOMIZE, prctl PR_SET_MM
        for call in ["56, 0x10000011, 0, 0, 0, 0", "16, 0, 0x5412, 0", "135, 0x40000", "157, 35, 1, 0, 0, 0"] {
            probe.check(&format!("syscall({call})"), json!("EPERM")).await;
        }
        probe.check("syscall(135, 0xffffffff)", json!(0)).await;
    }

    there_is_no_network(probe) {
        for family in ["AF_NETLINK", "AF_PACKET", "AF_VSOCK"] {
            probe.check(&format!("refusal(lambda: socket.socket(socket.{family}, socket.SOCK_DGRAM))"), json!("EPERM")).await;
        }
        probe.check("refusal(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))", json!("EPERM")).await;
        probe.check("refusal(lambda: socket.create_connection(('169.254.169.254', 80), 1))", json!("ENETUNREACH")).await;
        probe.check("refusal(lambda: socket.create_connection(('10.0.0.1', 80), 1))", json!("ENETUNREACH")).await;
        probe.check("refusal(lambda: socket.create_connection(('127.0.0.1', 80), 1))", json!("ECONNREFUSED")).await;
        probe.check("[name for _, name in socket.if_nameindex()] if False else open('/proc/net/dev').read().count(':')", json!(1)).await;
        probe.check("socket.create_server(('127.0.0.1', 0)) is not None", json!(true)).await;
    }

    programs_run_well(probe) {
        probe.check("subprocess.run([sys.executable or '/usr/bin/python3.11', '-I', '-S', '-c', 'print(40 + 2)'], capture_output=True, text=True).stdout if sys.executable else '42\\n'", json!("42\n")).await;
        probe.check("subprocess.run(['/usr/bin/python3.11', '-I', '-S', '-c', 'print(40 + 2)'], capture_output=True, text=True).stdout", json!("42\n")).await;
        probe.check("(lambda t: (t.start(), t.join(), t.is_alive()))(threading.Thread(target=print))[2]", json!(false)).await;
        probe.check("__import__('sqlite3').connect('/tmp/a.db').execute('select 6 * 7').fetchone()[0]", json!(42)).await;
        probe.check("len(__import__('ssl').RAND_bytes(8))", json!(8)).await;
        probe.check("__import__('tempfile').TemporaryFile().write(b'abc')", json!(3)).await;
        probe.check("(lambda m: m.get_context('fork').Pool(2).map(abs, [-1, -2]))(__import__('multiprocessing'))", json!([1, 2])).await;
        probe.check("__import__('asyncio').run(__import__('asyncio').sleep(0, 5))", json!(5)).await;
        probe.check("__import__('pwd').getpwuid(os.getuid()).pw_name", json!("sandbox")).await;
        probe.check("socket.getaddrinfo('localhost', 80)[0][4][1]", json!(80)).await;
    }

    resource_limits_are_set(probe) {
        probe.check("__import__('resource').getrlimit(__import__('resource').RLIMIT_NOFILE)", json!([4096, 4096])).await;
        probe.check("__import__('resource').getrlimit(__import__('resource').RLIMIT_CORE)", json!([0, 0])).await;
    }

    nothing_of_the_spawner_is_open(probe) {
        probe.check("sorted(int(n) for n in os.listdir('/proc/self/fd'))[:4]", json!([0, 1, 2, 3])).await;
        probe.check("[l for l in (os.readlink('/proc/self/fd/' + n) for n in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + n)) if l.startswith('/') and not l.startswith(('/dev/null', '/proc/', '/tmp', '/var/task'))]", json!([])).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn forked_sandboxes_share_no_randomness_and_no_namespace() {
    let fixture = Fixture::new().await;
    let mut seen = Vec::new();
    for _ in 0..8 {
        let (sandbox, connection) = fixture.run(&ZYGOTE, "index.py", PROBE).await;
        let expression = "[__import__('random').random(), os.urandom(8).hex(), __import__('uuid').uuid4().hex] + \
                          [os.readlink('/proc/self/ns/' + n) for n in ('user', 'pid', 'mnt', 'net', 'ipc', 'uts', 'cgroup')]";
        let answer = call(&connection, &json!(expression).to_string()).await.unwrap();
        seen.push((sandbox, answer.as_array().unwrap().clone()));
    }
    for column in 0..10 {
        let mut values: Vec<String> = seen.iter().map(|(_, row)| row[column].to_string()).collect();
        values.sort();
        values.dedup();
        assert_eq!(values.len(), 8, "column {column}");
    }
    fixture.driver.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn node_runs_well() {
    let fixture = Fixture::new().await;
    let code = r#"
const fs = require('fs'), os = require('os'), cp = require('child_process');
const { Worker } = require('worker_threads');
exports.handler = async () => {
  const worker = await new Promise((resolve, reject) =>
    new Worker('require("worker_threads").parentPort.postMessage(6 * 7)', { eval: true }).on('message', resolve).on('error', reject));
  fs.writeFileSync('/tmp/x', 'y');
  return {
    worker,
    child: cp.execFileSync(process.execPath, ['-p', '40 + 2']).toString(),
    cpus: os.cpus().length > 0,
    host: os.hostname(),
    hash: require('crypto').createHash('sha256').update('').digest('hex').length,
    read: (await fs.promises.readFile('/tmp/x')).toString(),
    root: fs.readdirSync('/'),
  };
};"#;
    let (_sandbox, connection) = fixture.run(&NODE, "index.js", code).await;
    let answer = call(&connection, "{}").await.unwrap();
    let expected = json!({
        "worker": 42, "child": "42\n", "cpus": true, "host": "sandbox", "hash": 64, "read": "y",
        "root": ["dev", "etc", "lib", "lib64", "opt", "proc", "tmp", "usr", "var"],
    });
    assert_eq!(answer, expected);
    fixture.driver.shutdown().await;
}

//! What code in a sandbox can see and do.

use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};

use super::fixture::{Stage, call, run};
use crate::Connection;

/// Code whose handler evaluates an expression of Python, with helpers that say how the kernel refuses.
pub const PROBE: &str = r#"
import ctypes, errno, os, socket, subprocess, sys, threading

libc = ctypes.CDLL(None, use_errno=True)

def status(name):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name + ":"):
                return line.split(":", 1)[1].strip()

def refusal(action):
    """The error's name, or None if it went well."""
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]

def syscall(*arguments):
    """The error's name of a system call, or its result."""
    result = libc.syscall(*[ctypes.c_long(n) for n in arguments])
    return errno.errorcode[ctypes.get_errno()] if result < 0 else result

def write(path, text="x"):
    def action():
        with open(path, "w") as file:
            file.write(text)
    return refusal(action)

def read(path):
    def action():
        with open(path, "rb") as file:
            file.read(1)
    return refusal(action)

def handler(event, context):
    return eval(event, globals())
"#;

async fn ask(connection: &Connection, expression: &str) -> Result<Value, String> {
    call(connection, &json!(expression).to_string()).await
}

async fn check(connection: &Connection, expression: &str, expected: Value) {
    assert_eq!(ask(connection, expression).await, Ok(expected), "{expression}");
}

/// No capability, no other user, no way to get either.
pub async fn no_privilege_is_left(stage: &impl Stage) {
    let (_sandbox, connection) = run(stage, PROBE).await;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        check(&connection, &format!("int(status('{set}'), 16)"), json!(0)).await;
    }
    check(&connection, "status('NoNewPrivs')", json!("1")).await;
    check(&connection, "status('Seccomp')", json!("2")).await;
    let ids = "[os.getresuid(), os.getresgid(), os.getgroups()]";
    check(&connection, ids, json!([[1000, 1000, 1000], [1000, 1000, 1000], []])).await;
    check(&connection, "refusal(lambda: os.setuid(0)) in ('EPERM', 'EINVAL')", json!(true)).await;
    check(&connection, "os.uname().nodename", json!("sandbox")).await;
}

/// Files, the environment and the memory of the server.
pub async fn secrets_of_the_host_are_out_of_reach(stage: &impl Stage) {
    let secret = stage.folder().join("secret");
    fs::write(&secret, "hunter2").expect("the file is written");
    let (_sandbox, connection) = run(stage, PROBE).await;
    let path = secret.display();
    check(&connection, &format!("read('{path}')"), json!("ENOENT")).await;
    for root in ["/proc/1/root", "/proc/self/root", "/var/task/..", "/proc/1/cwd"] {
        let answer = ask(&connection, &format!("read('{root}{path}')")).await;
        assert!(answer.as_ref().is_ok_and(Value::is_string), "{root}: {answer:?}");
    }
    for path in ["/etc/shadow", "/etc/machine-id", "/proc/1/environ", "/proc/1/mem", "/dev/mem"] {
        let answer = ask(&connection, &format!("read('{path}')")).await;
        assert!(answer.as_ref().is_ok_and(Value::is_string), "{path}: {answer:?}");
    }
    check(&connection, "sorted(os.environ)", json!(["HOME", "LANG", "PATH", "TMPDIR"])).await;
    check(&connection, "[open('/proc/' + n).read() for n in ('keys', 'timer_list') if read('/proc/' + n) is None and open('/proc/' + n).read()]", json!([])).await;
    check(
        &connection,
        "os.path.exists('/proc/kcore') and open('/proc/kcore', 'rb').read(1) != b''",
        json!(false),
    )
    .await;
}

/// `/tmp` and `/dev/shm`, and neither the machine's settings nor its runtime.
pub async fn only_its_own_places_can_be_written(stage: &impl Stage) {
    let (_sandbox, connection) = run(stage, PROBE).await;
    for path in [
        "/x",
        "/etc/passwd",
        "/opt/impuls/python/shim.py",
        "/usr/lib/python3.11/os.py",
        "/dev/x",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sysrq-trigger",
    ] {
        let answer =
            ask(&connection, &format!("write('{path}') in ('EROFS', 'EACCES', 'EPERM', 'ENOENT')")).await;
        assert_eq!(answer, Ok(json!(true)), "{path}");
    }
    for path in ["/tmp/x", "/dev/shm/x", "/dev/null"] {
        check(&connection, &format!("write('{path}')"), json!(null)).await;
    }
    check(&connection, "write('/dev/stdout', '') in (None, 'ENXIO', 'EACCES')", json!(true)).await;
}

/// Neither by the code itself nor by what it starts.
pub async fn code_cannot_be_changed(stage: &impl Stage) {
    let (_sandbox, connection) = run(stage, PROBE).await;
    check(&connection, "write('/var/task/index.py') in ('EROFS', 'EACCES')", json!(true)).await;
    check(&connection, "write('/var/task/new.py') in ('EROFS', 'EACCES')", json!(true)).await;
    let flags = "os.statvfs('/var/task').f_flag & (os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV)";
    check(&connection, flags, json!(7)).await;
}

/// It sees its own, and cannot end what watches over it.
pub async fn other_processes_are_out_of_reach(stage: &impl Stage) {
    let (_sandbox, connection) = run(stage, PROBE).await;
    check(&connection, "len([name for name in os.listdir('/proc') if name.isdigit()]) <= 3", json!(true))
        .await;
    check(&connection, "str(os.getpid()) in os.listdir('/proc') and os.getpid() < 20", json!(true)).await;
    let fine = "syscall(62, 1, 9) if os.getpid() != 1 else 'EPERM'";
    let answer = ask(&connection, fine).await;
    assert!(answer == Ok(json!("EPERM")) || answer == Ok(json!(0)), "{answer:?}");
    check(&connection, "40 + 2", json!(42)).await;
}

/// Whatever the reason the kernel gives.
pub async fn deep_calls_into_the_kernel_are_refused(stage: &impl Stage) {
    let (_sandbox, connection) = run(stage, PROBE).await;
    let calls = [
        ("mount", 165),
        ("umount2", 166),
        ("pivot_root", 155),
        ("chroot", 161),
        ("unshare", 272),
        ("setns", 308),
        ("ptrace", 101),
        ("keyctl", 250),
        ("add_key", 248),
        ("request_key", 249),
        ("bpf", 321),
        ("userfaultfd", 323),
        ("perf_event_open", 298),
        ("process_vm_readv", 310),
        ("process_vm_writev", 311),
        ("kexec_load", 246),
        ("init_module", 175),
        ("finit_module", 313),
        ("reboot", 169),
        ("swapon", 167),
        ("quotactl", 179),
        ("acct", 163),
        ("open_by_handle_at", 304),
        ("open_tree", 428),
        ("move_mount", 429),
        ("fsopen", 430),
        ("mount_setattr", 442),
        ("pidfd_getfd", 438),
        ("syslog", 103),
        ("io_uring_setup", 425),
        ("sethostname", 170),
        ("settimeofday", 164),
        ("iopl", 172),
        ("vhangup", 153),
        ("clone3", 435),
    ];
    for (name, number) in calls {
        let answer = ask(&connection, &format!("syscall({number}, 0, 0, 0, 0)")).await;
        assert!(answer == Ok(json!("EPERM")) || answer == Ok(json!("ENOSYS")), "{name}: {answer:?}");
    }
    // fchmodat2, and what no kernel has yet: libraries take an older call only for what does not exist.
    for number in [452, 479] {
        check(&connection, &format!("syscall({number}, -1, 0, 0, 0)"), json!("ENOSYS")).await;
    }
    // clone with CLONE_NEWUSER, ioctl TIOCSTI, personality ADDR_NO_RANDOMIZE.
    for call in ["56, 0x10000011, 0, 0, 0, 0", "16, 0, 0x5412, 0", "135, 0x40000"] {
        check(&connection, &format!("syscall({call})"), json!("EPERM")).await;
    }
}

/// Neither the world, nor the machine's own servers, nor the families that reach deeper.
pub async fn without_a_network_nothing_is_reached(stage: &impl Stage) {
    let host = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = host.local_addr().expect("it has an address").port();
    let (_sandbox, connection) = run(stage, PROBE).await;
    for family in ["AF_NETLINK", "AF_PACKET", "AF_VSOCK"] {
        let made = format!("refusal(lambda: socket.socket(socket.{family}, socket.SOCK_RAW)) is None");
        check(&connection, &made, json!(false)).await;
    }
    check(&connection, "refusal(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))", json!("EPERM"))
        .await;
    for address in ["169.254.169.254", "10.0.0.1", "192.0.2.1"] {
        let reached = format!("refusal(lambda: socket.create_connection(('{address}', 80), 1))");
        check(&connection, &reached, json!("ENETUNREACH")).await;
    }
    let own = format!("refusal(lambda: socket.create_connection(('127.0.0.1', {port}), 1))");
    check(&connection, &own, json!("ECONNREFUSED")).await;
    check(&connection, "socket.create_server(('127.0.0.1', 0)) is not None", json!(true)).await;
    check(&connection, "open('/proc/net/dev').read().count(':')", json!(1)).await;
}

/// The walls are not in the way of what programs normally do.
pub async fn programs_run_well(stage: &impl Stage) {
    let (_sandbox, connection) = run(stage, PROBE).await;
    check(&connection, "subprocess.run([os.readlink('/proc/self/exe'), '-I', '-S', '-c', 'print(40 + 2)'], capture_output=True, text=True).stdout", json!("42\n")).await;
    check(
        &connection,
        "(lambda t: (t.start(), t.join(), t.is_alive()))(threading.Thread(target=print))[2]",
        json!(false),
    )
    .await;
    check(&connection, "__import__('tempfile').TemporaryFile().write(b'abc')", json!(3)).await;
    check(
        &connection,
        "(lambda m: m.get_context('fork').Pool(2).map(abs, [-1, -2]))(__import__('multiprocessing'))",
        json!([1, 2]),
    )
    .await;
    check(&connection, "__import__('asyncio').run(__import__('asyncio').sleep(0, 5))", json!(5)).await;
    check(&connection, "__import__('pwd').getpwuid(os.getuid()).pw_name", json!("sandbox")).await;
    check(&connection, "socket.getaddrinfo('localhost', 80)[0][4][1]", json!(80)).await;
}

//! A sandbox from inside: what code that looks around and pushes at every wall finds.

use std::collections::HashSet;

use impuls_e2e::host::processes_with;
use impuls_e2e::launch::SECRET;
use impuls_e2e::probe::Probe;
use impuls_e2e::{Server, Value, json, unique};

#[tokio::test]
async fn the_root_holds_no_folder_of_the_host() {
    let server = Server::shared().await;
    let allowed =
        ["bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "sbin", "tmp", "usr", "var"];
    let data = server.data().scratch().to_string_lossy().into_owned();
    for probe in [Probe::node(&server, &json!({})).await] {
        let root = probe.run("return require('fs').readdirSync('/');").await;
        for entry in root.as_array().unwrap() {
            assert!(allowed.contains(&entry.as_str().unwrap()), "{root}");
        }
        let code = format!("return ['/home', '/root', '/work', '/mnt', '/boot', '/srv', '/run', '/sys', '/var/lib/impuls', '/etc/shadow',
            '/etc/ssh', '/var/log', '/usr/bin/sh', '/bin/sh', '/usr/bin/mount', '{data}'].filter((path) => require('fs').existsSync(path));");
        assert_eq!(probe.run(&code).await, json!([]));
    }
    let probe = Probe::python(&server, &json!({})).await;
    let root = probe.run("import os\nresult = os.listdir('/')").await;
    for entry in root.as_array().unwrap() {
        assert!(allowed.contains(&entry.as_str().unwrap()), "{root}");
    }
}

#[tokio::test]
async fn only_tmp_and_shared_memory_can_be_written() {
    let server = Server::shared().await;
    let probe = Probe::python(&server, &json!({})).await;
    let code = "
import os
result = []
for top in ['/', '/var', '/etc', '/usr', '/opt', '/var/task', '/dev', '/proc']:
    folders = [top] if top in ('/', '/proc') else [folder for folder, _, _ in os.walk(top)]
    for folder in folders:
        if folder.startswith('/dev/shm'):
            continue
        try:
            path = os.path.join(folder, 'written-by-e2e')
            open(path, 'w').close()
            result.append(path)
        except OSError:
            pass
";
    assert_eq!(probe.run(code).await, json!([]));
    let code = "
for path in ['/tmp/a', '/dev/shm/a']:
    open(path, 'w').write('x')
result = 'written'
";
    assert_eq!(probe.run(code).await, "written");
    let code = "
import os
result = []
for line in open('/proc/self/mountinfo'):
    fields = line.split()
    if 'ro' not in fields[5].split(',') and not fields[4].startswith(('/proc', '/dev', '/tmp')):
        result.append(line)
    if 'nosuid' not in fields[5].split(',') and fields[4] != '/':
        result.append(line)
";
    assert_eq!(probe.run(code).await, json!([]));
}

#[tokio::test]
async fn sandboxes_share_no_files() {
    let server = Server::shared().await;
    let (a, b) = (Probe::node(&server, &json!({})).await, Probe::node(&server, &json!({})).await);
    let write = "const fs = require('fs'); fs.writeFileSync('/tmp/mine', 'x'); fs.writeFileSync('/dev/shm/mine', 'x'); return 'written';";
    assert_eq!(a.run(write).await, "written");
    let look = "const fs = require('fs'); return [...fs.readdirSync('/tmp'), ...fs.readdirSync('/dev/shm')];";
    assert_eq!(b.run(look).await, json!([]));
    assert_eq!(a.run(look).await, json!(["mine", "mine"]));
}

#[tokio::test]
async fn the_process_has_no_privileges() {
    let server = Server::shared().await;
    let node = "return Object.fromEntries(require('fs').readFileSync('/proc/self/status', 'utf8').trim().split('\\n')
        .map((line) => line.split(':')).map(([name, value]) => [name, value.trim()]));";
    let python =
        "result = dict((part.strip() for part in line.split(':', 1)) for line in open('/proc/self/status'))";
    let statuses = [
        Probe::node(&server, &json!({})).await.run(node).await,
        Probe::python(&server, &json!({})).await.run(python).await,
    ];
    for status in statuses {
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set}");
        }
        assert_eq!((&status["NoNewPrivs"], &status["Seccomp"]), (&json!("1"), &json!("2")));
        let ids = format!("{} {}", status["Uid"].as_str().unwrap(), status["Gid"].as_str().unwrap());
        assert!(ids.split_whitespace().all(|id| id != "0"), "{ids}");
        assert_eq!(status["Groups"], "", "{status}");
    }
}

#[tokio::test]
#[ignore = "needs root"]
async fn every_sandbox_has_a_host_user_of_its_own() {
    let server = Server::shared().await;
    let mut users = HashSet::new();
    for _ in 0..3 {
        let mark = unique("user");
        let probe = Probe::node(&server, &json!({})).await;
        probe.run(&format!("process.title = '{mark}';")).await;
        let [process] = processes_with(&mark)[..] else { unreachable!("one process") };
        let user = process.uid().unwrap();
        assert!(user > 65_534, "{user}");
        assert!(users.insert(user), "{user} twice");
    }
}

#[tokio::test]
async fn other_processes_cannot_be_seen() {
    let server = Server::shared().await;
    let node = "return require('fs').readdirSync('/proc').filter((name) => /^\\d+$/.test(name)).map(Number);";
    let python = "import os\nresult = [int(name) for name in os.listdir('/proc') if name.isdigit()]";
    let seen = [
        Probe::node(&server, &json!({})).await.run(node).await,
        Probe::python(&server, &json!({})).await.run(python).await,
    ];
    for pids in seen {
        let pids = pids.as_array().unwrap();
        assert!(pids.len() <= 2 && pids.iter().all(|pid| pid.as_u64().unwrap() < 20), "{pids:?}");
    }
}

#[tokio::test]
async fn process_1_gives_nothing_away() {
    let server = Server::shared().await;
    let probe = Probe::python(&server, &json!({})).await;
    let code = "
import os
result = []
for name in ['environ', 'mem', 'maps', 'auxv', 'stack', 'syscall', 'exe', 'cwd', 'root', 'fd']:
    path = '/proc/1/' + name
    try:
        if name == 'fd':
            found = os.listdir(path)
        elif name in ('exe', 'cwd', 'root'):
            found = os.readlink(path)
        else:
            found = open(path, 'rb').read(4096)
        if found:
            result.append([name, str(found)])
    except OSError:
        pass
try:
    os.kill(1, 9)
    result.append('killed')
except OSError:
    pass
";
    let found = probe.run(code).await;
    assert!(found == json!([]) || found == json!(["killed"]), "{found}");
    assert_eq!(probe.run("result = 'alive'").await, "alive");
}

#[tokio::test]
async fn nothing_of_the_server_is_visible() {
    let server = Server::shared().await;
    let probe = Probe::python(&server, &json!({})).await;
    let code = "
import os
texts = []
for folder, _, files in os.walk('/proc/self'):
    if folder.count('/') > 3 or folder.endswith('/fd'):
        continue
    for name in files:
        if name in ('mem', 'pagemap', 'clear_refs'):
            continue
        if name in ('mountinfo', 'mountstats', 'mounts'):
            continue  # the kernel names the source of a bind mount there; nothing can be reached by that name
        try:
            texts.append(open(os.path.join(folder, name), 'rb').read(1 << 20))
        except OSError:
            pass
for fd in os.listdir('/proc/self/fd'):
    try:
        texts.append(os.readlink('/proc/self/fd/' + fd).encode())
    except OSError:
        pass
everything = b'\\n'.join(texts)
result = [secret for secret in event['secrets'] if secret.encode() in everything]
";
    let secrets = json!([
        SECRET.0,
        SECRET.1,
        server.data().scratch().to_string_lossy(),
        server.pid().to_string() + ":"
    ]);
    let found = server.call(&probe.name, &json!({"code": code, "secrets": secrets})).await;
    assert_eq!(found, json!([]));
}

#[tokio::test]
async fn only_a_few_descriptors_are_open() {
    let server = Server::shared().await;
    let python = "
import os, stat
result = []
for fd in os.listdir('/proc/self/fd'):
    try:
        result.append([int(fd), os.readlink('/proc/self/fd/' + fd)])
    except OSError:
        pass
";
    let node = "const fs = require('fs'); return fs.readdirSync('/proc/self/fd').flatMap((fd) => {
        try { return [[Number(fd), fs.readlinkSync('/proc/self/fd/' + fd)]]; } catch { return []; } });";
    let listed = [
        Probe::python(&server, &json!({})).await.run(python).await,
        Probe::node(&server, &json!({})).await.run(node).await,
    ];
    for descriptors in listed {
        for descriptor in descriptors.as_array().unwrap() {
            let target = descriptor[1].as_str().unwrap();
            let known = [
                "/dev/null",
                "/dev/urandom",
                "/proc/",
                "pipe:",
                "socket:",
                "anon_inode:",
                "/dev/shm",
                "/opt/impuls",
            ];
            assert!(known.iter().any(|known| target.starts_with(known)), "{descriptor}: {descriptors}");
        }
        assert!(descriptors.as_array().unwrap().len() < 40, "{descriptors}");
        assert_eq!(descriptors[0][1], "/dev/null", "{descriptors}");
    }
}

#[tokio::test]
async fn without_a_network_there_is_none() {
    let server = Server::shared().await;
    let probe = Probe::node(&server, &json!({"network": "off"})).await;
    let code = "const net = require('net');
        const connect = (host, port) => new Promise((done) => {
            const socket = net.connect({ host, port, timeout: 3000 });
            socket.on('connect', () => done('connected')).on('timeout', () => done('timeout')).on('error', (error) => done(error.code)); });
        return [await connect('127.0.0.1', event.port), await connect('::1', event.port), await connect('1.1.1.1', 80),
            await connect('169.254.169.254', 80), await connect('10.0.0.1', 80), await connect('2606:4700:4700::1111', 80)];";
    let event = json!({"code": code, "port": server.address().port()});
    let results = server.call(&probe.name, &event).await;
    for result in results.as_array().unwrap() {
        let result = result.as_str().unwrap();
        let refusals = ["ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT", "EPERM", "EACCES"];
        assert!(refusals.contains(&result), "{results}");
    }
    let interfaces = probe
        .run("try { return Object.keys(require('os').networkInterfaces()); } catch { return []; }")
        .await;
    assert!(interfaces.as_array().unwrap().iter().all(|name| name == "lo"), "{interfaces}");
    let lookup =
        "return require('dns').promises.lookup('example.com').then(() => 'found', (error) => error.code);";
    assert_ne!(probe.run(lookup).await, "found");
}

#[tokio::test]
async fn strange_sockets_are_denied() {
    let server = Server::shared().await;
    let probe = Probe::python(&server, &json!({})).await;
    let code = "
import socket
result = []
kinds = {'packet': (17, 3, 0), 'netlink': (16, 3, 0), 'netlink netfilter': (16, 3, 12), 'vsock': (40, 1, 0),
         'raw': (2, 3, 1), 'raw 6': (10, 3, 58), 'alg': (38, 5, 0), 'bluetooth': (31, 3, 1), 'can': (29, 3, 1), 'xdp': (44, 3, 0)}
for name, (family, kind, protocol) in kinds.items():
    try:
        socket.socket(family, kind, protocol).close()
        result.append(name)
    except OSError:
        pass
";
    assert_eq!(probe.run(code).await, json!([]));
}

/// System calls of x86-64 and their arguments; none may succeed.
const DENIED: &str = "
import ctypes, errno, platform
libc = ctypes.CDLL(None, use_errno=True)
calls = {
    'mount': (165, b'none', b'/tmp', b'tmpfs', 0, None), 'umount2': (166, b'/tmp', 2), 'pivot_root': (155, b'/tmp', b'/tmp'),
    'chroot': (161, b'/tmp'), 'unshare user': (272, 0x10000000), 'unshare mount': (272, 0x00020000), 'setns': (308, 0, 0),
    'clone user': (56, 0x10000000 | 17, 0, 0, 0, 0), 'clone3': (435, 0, 0), 'ptrace traceme': (101, 0, 0, 0, 0),
    'ptrace attach': (101, 16, 1, 0, 0), 'process_vm_readv': (310, 1, 0, 0, 0, 0, 0), 'process_vm_writev': (311, 1, 0, 0, 0, 0, 0),
    'bpf': (321, 0, 0, 0), 'io_uring_setup': (425, 8, 0), 'userfaultfd': (323, 0), 'perf_event_open': (298, 0, 0, -1, -1, 0),
    'keyctl': (250, 0, -3, 0), 'add_key': (248, b'user', b'x', b'y', 1, -3), 'request_key': (249, b'user', b'x', 0, 0),
    'init_module': (175, 0, 0, 0), 'kexec_load': (246, 0, 0, 0, 0), 'reboot': (169, 0xfee1dead, 672274793, 0x89abcdef, 0),
    'sethostname': (170, b'x', 1), 'settimeofday': (164, 0, 0), 'swapon': (167, b'/tmp/x', 0), 'acct': (163, 0),
    'syslog': (103, 3, 0, 0), 'open_by_handle_at': (304, 0, 0, 0), 'name_to_handle_at': (303, -100, b'/', 0, 0, 0),
    'mknod device': (133, b'/tmp/null', 0o020666, 0x103), 'fsopen': (430, b'tmpfs', 0), 'move_mount': (429, -1, b'', -1, b'', 0),
    'open_tree': (428, -100, b'/', 1), 'setuid': (105, 0), 'setgid': (106, 0), 'setgroups': (116, 0, 0), 'personality': (135, 0x0040000),
    'quotactl': (179, 0, 0, 0, 0), 'fanotify_init': (300, 0, 0), 'iopl': (172, 3), 'lookup_dcookie': (212, 0, 0, 0),
    'vhangup': (153,), 'nfsservctl': (180, 0, 0, 0), 'pidfd_getfd': (438, 0, 0, 0), 'modify_ldt': (154, 0, 0, 0),
    'userns clone newnet': (272, 0x40000000), 'kcmp': (312, 1, 1, 0, 0, 0), 'adjtimex': (159, 0), 'ioperm': (173, 0, 1, 1),
}
result = {}
if platform.machine() == 'x86_64':
    for name, (number, *arguments) in calls.items():
        ctypes.set_errno(0)
        value = libc.syscall(number, *[a if isinstance(a, bytes) or a is None else ctypes.c_long(a) for a in arguments])
        if value == 0 and name.startswith('clone'):
            import os
            os._exit(0)
        result[name] = 'done' if value >= 0 else errno.errorcode.get(ctypes.get_errno(), '?')
";

#[tokio::test]
async fn dangerous_system_calls_are_denied_and_never_kill() {
    let server = Server::shared().await;
    let probe = Probe::python(&server, &json!({})).await;
    let results = probe.run(DENIED).await;
    for (name, result) in results.as_object().unwrap() {
        let denied = matches!(result.as_str(), Some("EPERM" | "ENOSYS" | "EACCES" | "EINVAL"));
        assert!(denied, "{name}: {result}");
    }
    for certain in [
        "mount",
        "unshare user",
        "unshare mount",
        "ptrace attach",
        "bpf",
        "io_uring_setup",
        "keyctl",
        "setns",
        "chroot",
    ] {
        let result = &results[certain];
        assert!(result.is_null() || result == "EPERM" || result == "ENOSYS", "{certain}: {result}");
    }
    assert_eq!(probe.run("result = 'alive'").await, "alive");
}

#[tokio::test]
async fn the_kernels_switches_cannot_be_turned() {
    let server = Server::shared().await;
    let probe = Probe::python(&server, &json!({})).await;
    let code = "
result = []
paths = ['/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname', '/proc/sys/vm/overcommit_memory', '/proc/sysrq-trigger',
         '/proc/self/oom_score_adj', '/proc/self/uid_map', '/proc/self/setgroups', '/proc/self/attr/current', '/proc/irq/0/smp_affinity']
for path in paths:
    try:
        with open(path, 'r+b', buffering=0) as file:
            file.write(b'-1000' if 'oom' in path else b'0')
        result.append(path)
    except OSError:
        pass
for path in ['/proc/kcore', '/proc/kallsyms', '/proc/keys', '/proc/timer_list', '/dev/mem', '/dev/kmsg', '/dev/sda', '/dev/fuse', '/dev/kvm']:
    try:
        if open(path, 'rb').read(1):
            result.append(path)
    except OSError:
        pass
";
    assert_eq!(probe.run(code).await, json!([]));
}

#[tokio::test]
async fn the_devices_are_few() {
    let server = Server::shared().await;
    let probe = Probe::node(&server, &json!({})).await;
    let devices = probe.run("return require('fs').readdirSync('/dev');").await;
    let allowed = [
        "null", "zero", "full", "random", "urandom", "fd", "stdin", "stdout", "stderr", "shm", "tty", "pts",
        "ptmx",
    ];
    for device in devices.as_array().unwrap() {
        assert!(allowed.contains(&device.as_str().unwrap()), "{devices}");
    }
    let code = "const fs = require('fs'); fs.writeFileSync('/dev/null', 'x'); return fs.readFileSync('/dev/null').length;";
    assert_eq!(probe.run(code).await, 0);
}

#[tokio::test]
async fn the_host_has_another_name() {
    let server = Server::shared().await;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let probe = Probe::node(&server, &json!({})).await;
    assert_ne!(probe.run("return require('os').hostname();").await, host.trim());
}

#[tokio::test]
async fn the_accounts_of_the_host_are_unknown() {
    let server = Server::shared().await;
    let probe = Probe::python(&server, &json!({})).await;
    let code = "
import os
result = {'files': sorted(os.listdir('/etc')), 'passwd': open('/etc/passwd').read() if os.path.exists('/etc/passwd') else ''}
";
    let found = probe.run(code).await;
    for absent in ["shadow", "sudoers", "ssh", "fstab", "machine-id", "crontab"] {
        assert!(!found["files"].as_array().unwrap().contains(&json!(absent)), "{found}");
    }
    assert!(found["passwd"].as_str().unwrap().lines().count() <= 4, "{found}");
}

#[tokio::test]
async fn ipc_objects_are_private() {
    let server = Server::shared().await;
    let code = "
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
result = libc.shmget(0x1e2e, 4096, event['flags'])
";
    let (a, b) = (Probe::python(&server, &json!({})).await, Probe::python(&server, &json!({})).await);
    server.call(&a.name, &json!({"code": code, "flags": 0o1666})).await;
    assert_eq!(server.call(&b.name, &json!({"code": code, "flags": 0})).await, -1);
}

#[tokio::test]
async fn abstract_sockets_of_another_sandbox_cannot_be_reached() {
    let server = Server::shared().await;
    let (a, b) = (Probe::python(&server, &json!({})).await, Probe::python(&server, &json!({})).await);
    let listen = "
import builtins, socket
builtins.kept = socket.socket(socket.AF_UNIX)
builtins.kept.bind('\\0e2e')
builtins.kept.listen()
result = 'listens'
";
    let connect = "
import socket
try:
    socket.socket(socket.AF_UNIX).connect('\\0e2e')
    result = 'connected'
except OSError:
    result = 'refused'
";
    assert_eq!(a.run(listen).await, "listens");
    assert_eq!(b.run(connect).await, "refused");
}

#[tokio::test]
async fn code_of_another_version_is_never_in_the_same_sandbox() {
    let server = Server::shared().await;
    let name = server.node("globalThis.left = 'here'; require('fs').writeFileSync('/tmp/left', 'x'); exports.handler = () => 1;").await;
    server.call(&name, &Value::Null).await;
    let code = "exports.handler = () => [globalThis.left ?? null, require('fs').readdirSync('/tmp')];";
    server.update(&name, &json!({"code": code})).await;
    assert_eq!(server.call(&name, &Value::Null).await, json!([null, []]));
}

"""A warmed interpreter that forks the process of a sandbox, for Impuls' process driver.

The spawner starts it in the runtime's root and asks over the socket at descriptor 3. What it is asked for
is made by one `clone3`: born in the sandbox's cgroup and pid namespace, as a child of the spawner, which
so learns how it ends. The child enters the sandbox's other namespaces, gives up every right in the order
that `init/runtime.rs` of crates/sandbox-process has for executed runtimes, and serves as the shim.

Only code of ours and of the standard library runs before that. Every step that the kernel refuses is
reported by name; a sandbox never starts with a step left out.
"""

import ctypes
import errno
import gc
import json
import os
import sys
from _socket import AF_UNIX, CMSG_LEN, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET, socket

CONTROL_FD = 3
LISTEN_FD = 3
STATUS_FD = 4
MAX_MESSAGE = 64 * 1024
MAX_DESCRIPTORS = 16

# linux/sched.h
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
CLONE_PARENT, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID = 0x8000, 0x200000, 0x1000000
CLONE_INTO_CGROUP = 0x200000000
ENTERED = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
# linux/prctl.h
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 22, 24, 38
PR_GET_TID_ADDRESS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 40, 47, 4
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522
# System calls that have the same number on every processor (asm-generic/unistd.h), and those that do not.
SYS_CLONE3, SYS_CLOSE_RANGE, SYS_LANDLOCK_RESTRICT_SELF = 435, 436, 446
X86 = os.uname().machine == "x86_64"
SYS_CAPSET = 126 if X86 else 91
SYS_SET_ROBUST_LIST, SYS_GET_ROBUST_LIST = (273, 274) if X86 else (99, 100)

# These keep the interpreter's lock, so the thread that forks is the one that goes on in the child.
libc = ctypes.PyDLL(None, use_errno=True)
python = ctypes.pythonapi
for name in ("PyOS_BeforeFork", "PyOS_AfterFork_Parent", "PyOS_AfterFork_Child"):
    getattr(python, name).restype = None
libc.syscall.restype = ctypes.c_long


class Refused(Exception):
    """The kernel refused a step."""

    def __init__(self, step, number):
        super().__init__(step, number)
        self.step = step
        self.number = number


class CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls",
            "set_tid", "set_tid_size", "cgroup",
        )
    ]  # fmt: skip


class Limit(ctypes.Structure):
    _fields_ = [("current", ctypes.c_uint64), ("maximum", ctypes.c_uint64)]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def check(step, result):
    if result < 0:
        raise Refused(step, ctypes.get_errno())
    return result


def prctl(step, operation, argument=0):
    number = ctypes.c_ulong
    check(step, libc.prctl(operation, number(argument), number(0), number(0), number(0)))


class Zygote:
    def __init__(self, shim, setup):
        self.shim = shim
        self.guest = setup["guest_id"]
        self.status = None
        self.limits = [(number, Limit(value, value)) for number, value in setup["limits"]]
        self.programs = []
        for text in setup["filters"]:
            code = bytes.fromhex(text)
            buffer = ctypes.create_string_buffer(code, len(code))
            program = Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
            self.programs.append((program, buffer))
        # What glibc's fork would do for a thread's own record; `clone3` leaves it to the caller.
        self.tid = ctypes.c_void_p()
        if libc.prctl(PR_GET_TID_ADDRESS, ctypes.byref(self.tid), 0, 0, 0) < 0:
            self.tid = ctypes.c_void_p(0)
        self.robust, self.robust_length = ctypes.c_void_p(), ctypes.c_size_t()
        libc.syscall(SYS_GET_ROBUST_LIST, 0, ctypes.byref(self.robust), ctypes.byref(self.robust_length))

    def fork(self, order, fds):
        """Makes the process; returns its pid here and 0 there."""
        init = fds[0]
        arguments = CloneArgs(flags=CLONE_PARENT)
        if self.tid.value:
            arguments.flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID
            arguments.child_tid = self.tid.value
        if order["cgroup"]:
            arguments.flags |= CLONE_INTO_CGROUP
            arguments.cgroup = fds[5 + order["rules"]]
        # Where children go, not this process. It stays so until the next order: the way back would take
        # rights over the machine's own namespace, which an ordinary user has not.
        check("enter pid namespace", libc.setns(init, CLONE_NEWPID))
        python.PyOS_BeforeFork()
        pid = libc.syscall(SYS_CLONE3, ctypes.byref(arguments), ctypes.c_size_t(ctypes.sizeof(arguments)))
        if pid == 0:
            python.PyOS_AfterFork_Child()
            return 0
        number = ctypes.get_errno()
        python.PyOS_AfterFork_Parent()
        if pid < 0:
            raise Refused("clone", number)
        return pid

    def become(self, order, fds):
        """Turns the child into the sandbox's process."""
        init, listener, stdout, stderr, self.status = fds[:5]
        if self.robust.value:
            libc.syscall(SYS_SET_ROBUST_LIST, self.robust, self.robust_length)
        for tasks in fds[5 + order["rules"] + order["cgroup"] :]:
            check("join cgroups", libc.write(tasks, b"0", ctypes.c_size_t(1)))
        check("enter namespaces", libc.setns(init, ENTERED))
        os.setsid()
        os.setresgid(self.guest, self.guest, self.guest)
        os.setresuid(self.guest, self.guest, self.guest)
        self.limit()
        self.drop_capabilities()
        prctl("set no_new_privs", PR_SET_NO_NEW_PRIVS, 1)
        if order["rules"]:
            check("apply Landlock", libc.syscall(SYS_LANDLOCK_RESTRICT_SELF, fds[5], 0))
        os.umask(0o022)
        os.chdir("/")
        null = os.open("/dev/null", os.O_RDONLY)
        for fd, number in ((null, 0), (stdout, 1), (stderr, 2)):
            os.dup2(fd, number)
        # Nothing below but these two is needed any more, whatever their numbers are now.
        high = os.dup(self.status), os.dup(listener)
        os.dup2(high[1], LISTEN_FD)
        os.dup2(high[0], STATUS_FD, inheritable=False)
        self.status = STATUS_FD
        check("close descriptors", libc.syscall(SYS_CLOSE_RANGE, STATUS_FD + 1, 0x7FFFFFFF, 0))
        # Of no use to others, who have no rights over this user; without it /proc/self is closed to itself.
        prctl("make dumpable", PR_SET_DUMPABLE, 1)
        for program, _ in self.programs:
            result = libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(program), 0, 0)
            check("apply system call filter", result)

    def limit(self):
        before = Limit()
        for number, limit in self.limits:
            check("read limits", libc.getrlimit(number, ctypes.byref(before)))
            value = min(limit.maximum, before.maximum)
            check("set limits", libc.setrlimit(number, ctypes.byref(Limit(value, value))))

    def drop_capabilities(self):
        for capability in range(64):
            if libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
                if ctypes.get_errno() == errno.EINVAL:
                    break
                raise Refused("drop bounding set", ctypes.get_errno())
        prctl("drop ambient capabilities", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        none = (ctypes.c_uint32 * 6)()
        check("drop capabilities", libc.syscall(SYS_CAPSET, header, none))

    def serve(self, order, fds):
        """The life of the child. Never returns."""
        try:
            try:
                self.become(order, fds)
            except Refused as refused:
                report(self.status, refused.step, refused.number)
                os._exit(1)
            except Exception as error:
                report(self.status, repr(error), getattr(error, "errno", None) or errno.EIO)
                os._exit(1)
            os.write(STATUS_FD, b"R")
            os.close(STATUS_FD)
            shim = self.shim
            del self, order, fds
            shim.serve(LISTEN_FD)
        finally:
            os._exit(1)


def report(status, step, number):
    os.write(status, b"F" + number.to_bytes(4, "little") + step.encode())


def receive(control):
    """One message and its descriptors; the end of the spawner is the end of the zygote."""
    data, ancillary, _, _ = control.recvmsg(MAX_MESSAGE, CMSG_LEN(4 * MAX_DESCRIPTORS))
    if not data:
        os._exit(0)
    fds = []
    for level, kind, content in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            fds.extend(int.from_bytes(content[i : i + 4], sys.byteorder) for i in range(0, len(content), 4))
    return json.loads(data), fds


def main():
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import shim

    del sys.path[0]
    control = socket(AF_UNIX, SOCK_SEQPACKET, 0, CONTROL_FD)
    setup, _ = receive(control)
    shim.prepare(True)
    zygote = Zygote(shim, setup)
    gc.collect()
    gc.freeze()
    control.send(b"{}")
    while True:
        order, fds = receive(control)
        try:
            pid = zygote.fork(order, fds)
        except Refused as refused:
            answer = {"key": order["key"], "step": refused.step, "errno": refused.number}
        else:
            if pid == 0:
                control.detach()
                zygote.serve(order, fds)
            answer = {"key": order["key"], "pid": pid}
        for fd in fds:
            os.close(fd)
        control.send(json.dumps(answer).encode())


if __name__ == "__main__":
    main()

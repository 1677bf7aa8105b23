"""A small host for the tests: starts the real shim with a listening socket at descriptor 3 and
speaks the guest protocol with it."""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

SHIM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "shim.py")
INIT, INVOKE, CANCEL = 1, 2, 3
READY, INIT_OK, INIT_ERR, RESULT, ERROR, LOG = 64, 65, 66, 67, 68, 69
LEVELS = ("stdout", "stderr", "debug", "info", "warn", "error", "cut")
TIMEOUT = 20.0


def frame(kind, call_id, payload=b""):
    return struct.pack("<IBI", len(payload) + 5, kind, call_id) + payload


def invoke_frame(call_id, event=None, raw=None, request_id=bytes(16), deadline_ms=None):
    deadline_ms = int(time.time() * 1000) + 30_000 if deadline_ms is None else deadline_ms
    body = raw if raw is not None else json.dumps(event).encode()
    return frame(INVOKE, call_id, request_id + struct.pack("<Q", deadline_ms) + body)


class Reply:
    def __init__(self, kind, call_id, body, logs):
        self.kind = kind
        self.id = call_id
        self.text = body.decode()
        self.json = json.loads(self.text)
        self.logs = logs


class Connection:
    """One connection to the shim; sorts its frames into replies and log lines."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(path)
        self.data = bytearray()
        self.kinds = []
        self.logs = {}
        self.replies = {}
        self.next_id = 1

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """One more frame; None when the shim has closed the connection."""
        while len(self.data) < 4 or len(self.data) < 4 + struct.unpack_from("<I", self.data)[0]:
            try:
                more = self.socket.recv(1 << 20)
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            self.data += more
        length, kind, call_id = struct.unpack_from("<IBI", self.data)
        body = bytes(self.data[9 : 4 + length])
        del self.data[: 4 + length]
        self.kinds.append(kind)
        if kind == LOG:
            level = LEVELS[body[0]]
            text = struct.unpack("<Q", body[1:])[0] if level == "cut" else body[1:].decode()
            self.logs.setdefault(call_id, []).append((level, text))
        else:
            self.replies[call_id] = Reply(kind, call_id, body, self.logs.get(call_id, []))
        return kind

    def reply(self, call_id):
        while call_id not in self.replies:
            if self.receive() is None:
                raise AssertionError("the shim closed the connection; it sent %s" % self.kinds)
        return self.replies.pop(call_id)

    def invoke(self, event=None, **options):
        call_id = self.next_id
        self.next_id += 1
        self.send(invoke_frame(call_id, event, **options))
        return self.reply(call_id)

    def until_closed(self):
        while self.receive() is not None:
            pass

    def outside(self, count):
        while len(self.logs.get(0, [])) < count:
            self.receive()
        return self.logs[0]


class Sandbox:
    """A shim process, its code folder, and one connection to it (`main`)."""

    def __init__(self, files, warm=False, command=None):
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="shim-"))
        self.code_dir = os.path.join(self.folder, "task")
        os.mkdir(self.code_dir)
        for name, text in files.items():
            path = os.path.join(self.code_dir, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(text if isinstance(text, bytes) else text.encode())
        self.path = os.path.join(self.folder, "guest.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(16)

        def at_three():
            os.dup2(listener.fileno(), 3)
            os.set_inheritable(3, True)

        self.process = subprocess.Popen(
            command or [sys.executable, "-I", SHIM] + (["--warm"] if warm else []),
            cwd="/",
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "TMPDIR": "/tmp"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=at_three,
            pass_fds=(3,),
        )
        listener.close()
        self.connections = []
        self.main = self.connect()

    def connect(self):
        connection = Connection(self.path)
        self.connections.append(connection)
        self.ready = connection.reply(0)
        return connection

    def init_frame(self, **settings):
        init = {
            "function_name": "hello",
            "function_version": "3",
            "function_id": "0190aaaa-bbbb-7ccc-8ddd-eeeeffff0000",
            "handler": "index.handler",
            "contract": "module",
            "memory_mb": 256,
            "concurrency": 1,
            "environment": {},
            "code_dir": self.code_dir,
            "check": False,
        }
        init.update(settings)
        return frame(INIT, 0, json.dumps(init).encode())

    def init(self, **settings):
        self.main.send(self.init_frame(**settings))
        return self.main.reply(0)

    def wait(self):
        """The exit code and what the process wrote to its real descriptors."""
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, (out + err).decode()

    def close(self):
        for connection in self.connections:
            connection.socket.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class ShimTest(unittest.TestCase):
    def sandbox(self, source, warm=False, command=None):
        sandbox = Sandbox(source if isinstance(source, dict) else {"index.py": source}, warm, command)
        self.addCleanup(sandbox.close)
        return sandbox

    def load(self, source, warm=False, **settings):
        """A sandbox whose code is loaded; its connection."""
        sandbox = self.sandbox(source, warm)
        reply = sandbox.init(**settings)
        self.assertEqual(reply.kind, INIT_OK, reply.text)
        sandbox.main.sandbox = sandbox
        return sandbox.main

    def init_error(self, source, **settings):
        reply = self.sandbox(source).init(**settings)
        self.assertEqual(reply.kind, INIT_ERR)
        return reply.json

"""Connections, frames, invocations and replies, and the two loops that drive them.

With one slot the handler runs on the main thread between two reads. With more, a coroutine
function runs as tasks of one event loop on the main thread, any other in a pool of threads.
Descriptors stay blocking: they are read only when readable, and a host that does not read its
replies would have to be waited for anyway. Captured output is in output.py, loading in load.py.
"""

import _socket
import os
import sys
from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner
from _thread import allocate_lock
from select import poll
from struct import Struct
from time import monotonic, time

# User code may patch modules: what is used after it was loaded is bound here.
_read = os.read
_write = os.write
_close = os.close
_exit = os._exit
_POLLIN = 1

INIT, INVOKE, CANCEL, CONTEXT = 1, 2, 3, 4
READY, INIT_OK, INIT_ERR, RESULT, ERROR, LOG = 64, 65, 66, 67, 68, 69
MAX_FRAME = 8 << 20
MAX_RESULT = 6 << 20
READ_SIZE = 64 << 10
LARGE_READ_SIZE = 1 << 20
# A sandbox killed in the middle of a loop cannot send what it holds back, so the first lines of
# an invocation are written through; later ones are gathered up to this size or age.
EAGER_LINES = 256
LOG_DELAY = 0.005
LOG_BATCH = 16 << 10

_head = Struct("<IBI")
_pack_head = _head.pack
_unpack_head = _head.unpack_from
_unpack_call = Struct("<16sQ").unpack_from
_unpack_length = Struct("<I").unpack_from
_pack_log = Struct("<IBIB").pack


class _Scanning:
    """What `_json.make_scanner` wants to know; importing `json` would cost 7 ms of start-up."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo = {}

    @staticmethod
    def parse_constant(name):
        raise ValueError(name + " is not JSON")


_scan = make_scanner(_Scanning)


def _refuse(value):
    raise TypeError("Object of type " + type(value).__name__ + " is not JSON serializable")


def _encoder(strings=encode_basestring):
    return make_encoder({}, _refuse, strings, None, ":", ",", False, False, False)


def parse_json(data):
    """The value of UTF-8 encoded JSON text; ValueError or RecursionError otherwise."""
    text = str(data, "utf-8")
    try:
        value, end = _scan(text, 0)
    except (StopIteration, SystemError):
        end = None  # the scanner alone knows neither space before the value nor good messages
    if end == len(text):
        return value
    from json import JSONDecoder

    return JSONDecoder(parse_constant=_Scanning.parse_constant).decode(text)


class Context:
    """The handler's second argument. INIT makes a subclass with the function's own values."""

    def __init__(self, request_id, deadline_ms):
        self._request_id = request_id
        self._deadline_ms = deadline_ms

    @property
    def aws_request_id(self):
        i = self._request_id.hex()
        return "%s-%s-%s-%s-%s" % (i[:8], i[8:12], i[12:16], i[16:20], i[20:])

    def get_remaining_time_in_millis(self):
        return max(0, self._deadline_ms - int(time() * 1000))


class Invocation:
    """One call from INVOKE until its reply; also the scope in which its log lines are counted."""

    __slots__ = ("connection", "id", "done", "kept", "dropped", "lines", "partial")

    def __init__(self, connection, call_id):
        self.connection = connection
        self.id = call_id
        self.done = False
        self.kept = 0  # bytes of log text sent
        self.dropped = 0  # bytes of log text beyond the limit
        self.lines = 0
        self.partial = None  # output without a newline yet; see output.py


class Connection:
    """One accepted connection: its half-read frame and its unsent replies."""

    def __init__(self, server, fd):
        self.server = server
        self.fd = fd
        self.open = True
        self.lock = allocate_lock()  # user threads print while others reply
        self.out = bytearray()
        self.flushed = 0.0
        self.partial = bytearray()
        self.need = 0
        self.batching = False  # the event loop flushes once for all replies of a turn

    def readable(self):
        try:
            missing = self.need - len(self.partial)
            data = _read(self.fd, READ_SIZE if missing <= READ_SIZE else min(missing, LARGE_READ_SIZE))
        except InterruptedError:
            return
        except OSError:
            data = b""
        if data:
            self.feed(data)
        else:
            self.shut()

    def feed(self, data):
        if self.partial:
            self.partial += data
            if len(self.partial) < self.need:
                return
            data = bytes(self.partial)
            self.partial = bytearray()
        at, size = 0, len(data)
        while size - at >= 9:
            length, kind, call_id = _unpack_head(data, at)
            if not 5 <= length <= MAX_FRAME:
                return self.shut()
            end = at + 4 + length
            if end > size:
                break
            if kind == INVOKE and length >= 29:
                self.server.invoke(self, call_id, data, at + 9, end)
            elif kind == INIT:
                self.server.init(self, data[at + 9 : end])
            elif kind != CANCEL and kind != CONTEXT:
                return self.shut()  # out of step: nothing more from here can be trusted
            at = end
        if at < size:
            self.keep(data[at:])

    def keep(self, rest):
        self.partial += rest
        self.need = 9
        if len(rest) >= 4:
            length = _unpack_length(rest)[0]
            if not 5 <= length <= MAX_FRAME:
                return self.shut()
            self.need = 4 + length

    def send(self, kind, call_id, body):
        head = _pack_head(len(body) + 5, kind, call_id)
        with self.lock:
            if self.batching or self.out:
                self.out += head
                self.out += body
                if not self.batching:
                    self._flush()
                elif len(self.out) > LARGE_READ_SIZE:
                    self._flush()
                else:
                    self.server.flush_later(self)
            else:
                self._write_all(head + body)

    def log(self, scope, level, body):
        with self.lock:
            self.out += _pack_log(len(body) + 6, LOG, scope.id, level)
            self.out += body
            scope.lines += 1
            if (
                scope.lines <= EAGER_LINES
                or len(self.out) > LOG_BATCH
                or monotonic() - self.flushed > LOG_DELAY
            ):
                self._flush()

    def flush(self):
        with self.lock:
            self._flush()

    def _flush(self):
        if self.out:
            out, self.out = self.out, bytearray()
            self.flushed = monotonic()
            self._write_all(out)

    def _write_all(self, data):
        try:
            written = _write(self.fd, data)
            if written < len(data):
                rest = memoryview(data)[written:]
                while rest:
                    rest = rest[_write(self.fd, rest) :]
        except OSError:
            pass  # the host is gone; reading says so

    def shut(self):
        if self.open:
            self.open = False
            self.flush()
            self.server.closed(self)
            _close(self.fd)


class Server:
    """The sandbox's state: at most one function is ever loaded into it."""

    def __init__(self, listen_fd):
        self.connections = {}
        self.in_flight = set()
        self.phase = "empty"  # empty, ready, failed
        self.handler = None
        self.takes_context = True
        self.context_class = Context
        self.current = None  # the invocation, when there is one at a time
        self.variable = None  # the context variable that holds it otherwise
        self.init_connection = None
        self.output = None
        self.encode = _encoder()
        self.loop = None  # made for the first coroutine
        self.pool = None
        self.tasks = None
        self.poll = None
        self.listener = None
        if listen_fd is not None:
            os.set_inheritable(listen_fd, False)
            self.listener = _socket.socket(fileno=listen_fd)
            self.listener.setblocking(False)

    # The loops

    def run(self):
        """Never returns."""
        try:
            self._poll()
        except SystemExit as error:
            self.exit(error)
        except BaseException as error:  # a defect of ours: say so where the host can read it
            sys.__stderr__.write("impuls shim: %s\n" % part("load").describe(error))
            sys.__stderr__.flush()
        _exit(70)

    def _poll(self):
        self.poll = poll()
        listen_fd = self.listener.fileno()
        self.poll.register(listen_fd, _POLLIN)
        connections = self.connections
        wait = self.poll.poll
        while self.tasks is None:
            for fd, _ in wait():
                if fd == listen_fd:
                    self.accept()
                else:
                    connection = connections.get(fd)
                    if connection is not None:
                        connection.readable()
        self.tasks.run(listen_fd)

    def accept(self):
        try:
            fd = self.listener._accept()[0]
        except OSError:
            return
        os.set_blocking(fd, True)
        connection = Connection(self, fd)
        self.connections[fd] = connection
        if self.tasks is not None:
            self.tasks.watch(connection)
        else:
            self.poll.register(fd, _POLLIN)
        version = "%d.%d.%d" % sys.version_info[:3]
        connection.send(READY, 0, b'{"runtime":"python","version":"%s"}' % version.encode())

    def closed(self, connection):
        self.connections.pop(connection.fd, None)
        if self.tasks is not None:
            self.tasks.forget(connection)
        elif self.poll is not None:
            self.poll.unregister(connection.fd)
        if not self.connections:
            _exit(0)  # the host is gone

    def flush_later(self, connection):
        self.tasks.flush_later(connection)

    # INIT

    def init(self, connection, data):
        if self.phase != "empty":
            return connection.shut()
        self.init_connection = connection
        settings = parse_json(data)
        concurrency = settings.get("concurrency") or 1
        self.output = part("output").Output(self)
        self.output.attach()
        if concurrency > 1:
            from contextvars import ContextVar

            self.variable = ContextVar("invocation", default=None)
        load = part("load")
        try:
            handler = load.load(settings)
            takes_context, is_coroutine = load.signature(handler)
        except SystemExit:
            raise
        except BaseException as error:
            self.phase = "failed"
            self.output.finish_outside()
            body = self.encode_text(load.explain(error, settings["code_dir"]))
            return connection.send(INIT_ERR, 0, body)
        self.handler = handler
        self.takes_context = takes_context
        self.context_class = load.context_class(Context, settings)
        if concurrency > 1:
            slots = part("slots")
            if is_coroutine:
                self.tasks = slots.Tasks(self)
            else:
                self.pool = slots.Pool(self, concurrency)
        self.phase = "ready"
        self.output.finish_outside()
        connection.send(INIT_OK, 0, b"{}")

    # INVOKE

    def invoke(self, connection, call_id, data, at, end):
        if self.phase != "ready":
            return None if self.phase == "failed" else connection.shut()
        invocation = Invocation(connection, call_id)
        request_id, deadline_ms = _unpack_call(data, at)
        try:
            event = parse_json(data[at + 24 : end]) if end - at > 24 else None
        except (ValueError, RecursionError) as error:
            return self.fail(invocation, "BadEvent", "BadEvent", "the event is not JSON: %s" % error)
        context = self.context_class(request_id, deadline_ms)
        if self.variable is None:
            self.current = invocation
            self.call(invocation, event, context)
        elif self.pool is not None:
            self.pool.submit(invocation, event, context)
        else:
            self.tasks.start(invocation, event, context)

    def call(self, invocation, event, context):
        """Runs the handler to its end on this thread."""
        self.in_flight.add(invocation)
        try:
            value = self.handler(event, context) if self.takes_context else self.handler(event)
            if hasattr(value, "__await__"):
                value = part("slots").run_to_end(self, value)
        except SystemExit:
            raise
        except BaseException as error:
            return self.reject(invocation, error)
        self.resolve(invocation, value)

    def resolve(self, invocation, value):
        try:
            body = "".join(self.encode(value, 0)).encode("utf-8")
        except BaseException as error:
            body = self.encode_again(invocation, value, error)
            if body is None:
                return
        if len(body) > MAX_RESULT:
            what = "has %d bytes as JSON; at most %d bytes are allowed" % (len(body), MAX_RESULT)
            return self.bad_response(invocation, value, what)
        if invocation.partial is not None or invocation.dropped:
            self.output.finish(invocation)
        self.leave(invocation)
        invocation.connection.send(RESULT, invocation.id, body)

    def encode_again(self, invocation, value, error):
        """Lone surrogates are fine as escapes; anything else is the function's mistake."""
        self.encode = _encoder()  # the old one remembers what it was in the middle of
        if isinstance(error, UnicodeEncodeError):
            return "".join(_encoder(encode_basestring_ascii)(value, 0)).encode("ascii")
        self.bad_response(invocation, value, "cannot be JSON: %s" % part("load").text_of(error))
        return None

    def bad_response(self, invocation, value, what):
        message = "the returned value (%s) %s" % (type(value).__name__, what)
        self.fail(invocation, "BadResponse", "BadResponse", message)

    def reject(self, invocation, error):
        self.fail(invocation, "FunctionError", **part("load").describe(error))

    def fail(self, invocation, kind, type, message, stack=None):
        if invocation.done:
            return
        if self.output is not None:
            self.output.finish(invocation)
        self.leave(invocation)
        failure = {"kind": kind, "type": type, "message": message}
        if stack:
            failure["stack"] = stack
        invocation.connection.send(ERROR, invocation.id, self.encode_text(failure))

    def encode_text(self, value):
        return "".join(_encoder(encode_basestring_ascii)(value, 0)).encode("ascii")

    def leave(self, invocation):
        """After this, whatever the invocation left running logs outside of it."""
        invocation.done = True
        self.in_flight.discard(invocation)
        if self.current is invocation:
            self.current = None

    def scope(self):
        """The invocation that running code belongs to, or None."""
        found = self.current if self.variable is None else self.variable.get()
        return None if found is None or found.done else found

    def outside_connection(self):
        """Where lines go that belong to no invocation."""
        if self.init_connection is not None and self.init_connection.open:
            return self.init_connection
        for connection in self.connections.values():
            return connection
        return None

    def exit(self, error):
        """Ends the process as `sys.exit` would, its output first."""
        code = error.code
        if code is None:
            code = 0
        elif not isinstance(code, int):
            sys.stderr.write("%s\n" % (code,))
            code = 1
        if self.output is not None:
            self.output.finish_all()
        try:
            import atexit

            atexit._run_exitfuncs()
        finally:
            if self.output is not None:
                self.output.finish_all()
            for connection in list(self.connections.values()):
                connection.flush()
            _exit(code & 0xFF)

"""Makes LOG frames of what user code writes to `sys.stdout` and `sys.stderr`.

A line belongs to the invocation whose code wrote it, else to none (id 0). Descriptors 1 and 2
stay untouched, so child processes write to the host's pipes.
"""

import codecs
import io
import sys
from _thread import RLock
from time import monotonic

STDOUT, STDERR, CUT = 0, 1, 6
LIMIT = 1 << 20  # bytes of text per invocation, a newline counted for each line
OUTSIDE_WINDOW = 1.0  # seconds for which the same limit holds outside of invocations


class Outside:
    """The scope of what is printed outside of any invocation. Its limit starts anew each window."""

    def __init__(self):
        self.id = 0
        self.connection = None
        self.kept = self.dropped = self.lines = 0
        self.partial = None
        self.since = 0.0


class Partial:
    """The last line of each stream, until its newline comes."""

    __slots__ = ("text", "decoder")

    def __init__(self):
        self.text = ["", ""]
        self.decoder = [None, None]


class Output:
    """The process's captured output, sent to the server's connections."""

    def __init__(self, server):
        self.server = server
        self.outside = Outside()
        self.lock = RLock()  # threads of one invocation share its counters

    def attach(self):
        sys.stdout = LogWriter(self, STDOUT)
        sys.stderr = LogWriter(self, STDERR)

    def write(self, level, text):
        """Takes text that need not end in a newline; the rest of the line waits for it."""
        scope = self.server.scope() or self.outside
        with self.lock:
            partial = scope.partial
            if partial is None:
                partial = scope.partial = Partial()
            if "\n" in text:
                lines, text = text.rsplit("\n", 1)
                if partial.text[level]:
                    lines = partial.text[level] + lines
                    partial.text[level] = ""
                self.emit(scope, level, lines)
            if text:
                held = partial.text[level] + text
                if len(held) > LIMIT:
                    # Longer than can be kept: the limit cuts the line, and counts what follows.
                    self.emit(scope, level, held)
                    held = ""
                partial.text[level] = held

    def write_bytes(self, level, data):
        scope = self.server.scope() or self.outside
        with self.lock:
            if scope.partial is None:
                scope.partial = Partial()
            decoder = scope.partial.decoder[level]
            if decoder is None:
                decoder = codecs.getincrementaldecoder("utf-8")("replace")
                scope.partial.decoder[level] = decoder
            text = decoder.decode(data)
            if text:
                self.write(level, text)

    def emit(self, scope, level, text):
        """Sends whole lines, without their last newline, as far as the limit allows."""
        body = text.encode("utf-8", "backslashreplace")
        if scope is self.outside and not self.enter_outside():
            return
        room = LIMIT - scope.kept - 1
        if len(body) > room:
            total = len(body)
            if room <= 0:
                scope.dropped += total + 1
                return
            while room > 0 and body[room] & 0xC0 == 0x80:  # whole characters
                room -= 1
            body = body[:room]
            scope.kept = LIMIT
            scope.dropped += total - room
        else:
            scope.kept += len(body) + 1
        scope.connection.log(scope, level, body)

    def enter_outside(self):
        outside = self.outside
        outside.connection = self.server.outside_connection()
        if outside.connection is None:
            return False
        now = monotonic()
        if now - outside.since >= OUTSIDE_WINDOW:
            self.report_cut(outside)
            outside.since = now
            outside.kept = outside.lines = 0
        return True

    def report_cut(self, scope):
        if scope.dropped and scope.connection is not None:
            count = scope.dropped
            scope.dropped = 0
            scope.connection.log(scope, CUT, count.to_bytes(8, "little"))

    def finish(self, scope):
        """Ends a scope's output: lines without a newline, then the count of what was dropped."""
        with self.lock:
            partial = scope.partial
            if partial is not None:
                scope.partial = None
                for level in (STDOUT, STDERR):
                    text = partial.text[level]
                    if partial.decoder[level] is not None:
                        text += partial.decoder[level].decode(b"", True)
                    if text:
                        self.emit(scope, level, text)
            self.report_cut(scope)

    def finish_outside(self):
        self.finish(self.outside)

    def finish_all(self):
        for invocation in list(self.server.in_flight):
            self.finish(invocation)
        self.finish_outside()


class LogWriter(io.TextIOBase):
    """What `sys.stdout` and `sys.stderr` are: text streams that cannot be closed or detached."""

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    line_buffering = True
    write_through = False
    mode = "w"

    def __init__(self, output, level):
        self._output_write = output.write
        self._level = level
        self.name = "<stdout>" if level == STDOUT else "<stderr>"
        self.buffer = ByteWriter(output, level)

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not " + type(text).__name__)
        if text:
            self._output_write(self._level, text)
        return len(text)

    def writable(self):
        return True

    def isatty(self):
        return False

    def fileno(self):
        return self._level + 1

    def flush(self):
        pass

    def reconfigure(self, **_):
        pass

    def detach(self):
        return self.buffer

    def close(self):
        pass


class ByteWriter(io.BufferedIOBase):
    """The `buffer` of a LogWriter."""

    mode = "wb"

    def __init__(self, output, level):
        self._output = output
        self._level = level
        self.name = "<stdout>" if level == STDOUT else "<stderr>"

    @property
    def raw(self):
        return self

    def write(self, data):
        with memoryview(data) as view:
            self._output.write_bytes(self._level, bytes(view))
            return view.nbytes

    def writable(self):
        return True

    def isatty(self):
        return False

    def fileno(self):
        return self._level + 1

    def flush(self):
        pass

    def close(self):
        pass

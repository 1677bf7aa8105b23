"""Frames and connections."""

import threading
import time
import unittest

from host import CANCEL, INIT_OK, INVOKE, READY, ShimTest, frame, invoke_frame

ECHO = "def handler(event): return event\nasync def coroutine(event): return event\n"
MODES = (("index.handler", 1), ("index.coroutine", 1), ("index.handler", 8), ("index.coroutine", 8))


class Protocol(ShimTest):
    def test_1000_calls_may_be_outstanding_answered_as_they_finish(self):
        source = "import asyncio\nasync def handler(event):\n    await asyncio.sleep(0.3 if event == 0 else 0.01)\n    return event"
        main = self.load(source, concurrency=1000)
        main.send(b"".join(invoke_frame(n + 1, n) for n in range(1000)))
        for n in reversed(range(1000)):
            self.assertEqual(main.reply(n + 1).json, n)
        self.assertGreater(len(main.kinds), 1000)

    def test_threads_run_at_once(self):
        source = "import threading\nbarrier = threading.Barrier(16)\ndef handler(event):\n    barrier.wait(10)\n    return event"
        main = self.load(source, concurrency=16)
        main.send(b"".join(invoke_frame(n + 1, n) for n in range(16)))
        self.assertEqual([main.reply(n + 1).json for n in range(16)], list(range(16)))

    def test_frames_may_be_split_at_every_byte(self):
        for handler, concurrency in MODES:
            main = self.load(ECHO, handler=handler, concurrency=concurrency)
            for byte in b"".join(invoke_frame(n, {"n": n}) for n in (1, 2, 3)):
                main.send(bytes((byte,)))
                time.sleep(0.0002)
            self.assertEqual([main.reply(n).json["n"] for n in (1, 2, 3)], [1, 2, 3])

    def test_frames_may_come_many_at_once_with_a_part_of_the_next(self):
        for handler, concurrency in MODES:
            main = self.load(ECHO, handler=handler, concurrency=concurrency)
            data = b"".join(invoke_frame(n, "x" * (n % 500)) for n in range(1, 2001))
            sender = threading.Thread(target=lambda: [main.send(data[i : i + 65_537]) for i in range(0, len(data), 65_537)])
            sender.start()
            for n in range(1, 2001):
                self.assertEqual(len(main.reply(n).json), n % 500)
            sender.join()

    def test_calls_may_follow_init_without_waiting_for_its_answer(self):
        for handler, concurrency in MODES:
            sandbox = self.sandbox(ECHO)
            sandbox.main.send(sandbox.init_frame(handler=handler, concurrency=concurrency) + invoke_frame(1, "a") + invoke_frame(2, "b"))
            self.assertEqual(sandbox.main.reply(0).kind, INIT_OK)
            self.assertEqual((sandbox.main.reply(1).json, sandbox.main.reply(2).json), ("a", "b"))

    def test_every_connection_has_its_own_ids_and_replies_return_on_it(self):
        for handler, concurrency in MODES:
            main = self.load("import builtins\ndef handler(event):\n    print(event)\n    return event\nasync def coroutine(event): return handler(event)", handler=handler, concurrency=concurrency)
            other = main.sandbox.connect()
            self.assertEqual(main.sandbox.ready.kind, READY)
            main.send(invoke_frame(1, "one"))
            other.send(invoke_frame(1, "two"))
            one, two = main.reply(1), other.reply(1)
            self.assertEqual((one.json, one.logs, two.json, two.logs), ("one", [("stdout", "one")], "two", [("stdout", "two")]))
            other.socket.close()
            main.next_id = 5
            self.assertEqual(main.invoke("three").json, "three")

    def test_a_cancelled_call_may_end_and_an_unknown_id_is_ignored(self):
        main = self.load(ECHO)
        main.send(frame(CANCEL, 12345) + invoke_frame(1, 1) + frame(CANCEL, 1))
        self.assertEqual(main.reply(1).json, 1)

    def test_a_frame_of_unknown_kind_or_impossible_length_closes_the_connection(self):
        head = lambda length: length.to_bytes(4, "little") + bytes((INVOKE, 0, 0, 0, 0))  # noqa: E731
        for handler, concurrency in MODES:
            for bad in (frame(99, 1), frame(INVOKE, 1, b"short"), head(4), head(0), head(8 * 1024 * 1024 + 1), head(4)[:4]):
                main = self.load(ECHO, handler=handler, concurrency=concurrency)
                other = main.sandbox.connect()
                other.send(bad)
                other.until_closed()
                self.assertEqual(main.invoke("still here").json, "still here")

    def test_a_second_init_closes_the_connection(self):
        main = self.load(ECHO)
        other = main.sandbox.connect()
        other.send(main.sandbox.init_frame())
        other.until_closed()

    def test_the_shim_ends_when_the_host_has_left(self):
        for handler, concurrency in MODES:
            main = self.load(ECHO, handler=handler, concurrency=concurrency)
            other = main.sandbox.connect()
            main.socket.close()
            other.send(invoke_frame(1, 1))
            self.assertEqual(other.reply(1).json, 1)
            other.socket.close()
            self.assertEqual(main.sandbox.wait(), (0, ""))

    def test_a_warmed_shim_behaves_the_same(self):
        for handler, concurrency in MODES:
            main = self.load("print('top')\n" + ECHO, True, handler=handler, concurrency=concurrency)
            self.assertEqual(main.invoke({"a": 1}).json, {"a": 1})
            self.assertEqual(main.logs[0], [("stdout", "top")])


if __name__ == "__main__":
    unittest.main()

"""LOG frames: levels, whose line it is, partial lines, and the limit."""

import unittest

from host import RESULT, ShimTest, invoke_frame

LIMIT = 1024 * 1024


class Logs(ShimTest):
    def logs_of(self, body, event=None, **settings):
        reply = self.load("import sys, os, logging, warnings\ndef handler(event):\n    " + body, **settings).invoke(event)
        self.assertEqual(reply.kind, RESULT, reply.text)
        return reply.logs

    def test_print_logging_and_warnings_are_lines(self):
        logs = self.logs_of(
            "print('out', 5, {'a': [1]}); print('err', file=sys.stderr); print(); "
            "logging.warning('careful'); warnings.warn('old'); print('no newline', end='')"
        )
        self.assertEqual(logs[:4], [("stdout", "out 5 {'a': [1]}"), ("stderr", "err"), ("stdout", ""), ("stderr", "WARNING:root:careful")])
        self.assertIn("UserWarning: old", logs[4][1])
        self.assertEqual(logs[-1], ("stdout", "no newline"))

    def test_the_streams_behave_like_text_streams(self):
        logs = self.logs_of(
            "sys.stdout.buffer.write('é'.encode()[:1]); sys.stdout.buffer.write('é'.encode()[1:] + b'\\xff\\n'); sys.stdout.flush(); "
            "sys.stdout.writelines(['a', 'b\\n']); sys.stdout.reconfigure(encoding='utf-8'); sys.stdout.close(); sys.stderr.write('\\ud800\\n'); "
            "print(sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.fileno(), sys.stderr.fileno(), sys.stdout.writable(), sys.stdout.closed)"
        )
        self.assertEqual(logs, [("stdout", "é\ufffd"), ("stdout", "ab"), ("stderr", "\\ud800"), ("stdout", "False utf-8 1 2 True False")])

    def test_a_wrapper_around_the_buffer_works(self):
        self.assertEqual(self.logs_of("import io; w = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8'); print('x', file=w); w.flush()"), [("stdout", "x")])

    def test_lines_precede_the_reply_in_order(self):
        reply = self.load("def handler(event):\n    for i in range(event): print(i)\n    return 'value'").invoke(2000)
        self.assertEqual(reply.json, "value")
        self.assertEqual([line for _, text in reply.logs for line in text.split("\n")], [str(i) for i in range(2000)])

    def test_lines_of_the_top_level_belong_to_no_call(self):
        main = self.load("print('top')\nprint('partial', end='')\ndef handler(event): print('in')")
        self.assertEqual(main.logs[0], [("stdout", "top"), ("stdout", "partial")])
        self.assertEqual(main.invoke().logs, [("stdout", "in")])

    def test_lines_printed_after_the_reply_belong_to_no_call(self):
        source = "import threading, time\ndef late():\n    time.sleep(0.05)\n    print('late')\ndef handler(event): threading.Thread(target=late).start()"
        for concurrency in (1, 2):
            main = self.load(source, concurrency=concurrency)
            self.assertEqual(main.invoke().logs, [])
            self.assertEqual(main.outside(1), [("stdout", "late")])

    def test_lines_before_an_endless_loop_are_not_lost(self):
        main = self.load("def handler(event):\n    print('start')\n    while True: pass")
        main.send(invoke_frame(5))
        while 5 not in main.logs:
            main.receive()
        self.assertEqual(main.logs[5], [("stdout", "start")])

    def check_interleaved(self, source, handler):
        main = self.load(source, concurrency=32, handler="index." + handler)
        for n in range(32):
            main.send(invoke_frame(n + 1, n))
        for n in range(32):
            reply = main.reply(n + 1)
            self.assertEqual(reply.json, n)
            self.assertEqual(sorted(reply.logs), sorted(("stdout", "%s %d" % (word, n)) for word in ("start", "part rest", "thread", "pool", "own", "open")))

    def test_lines_of_coroutines_at_once_stay_apart(self):
        source = """
import asyncio, threading, concurrent.futures, contextvars
own = concurrent.futures.ThreadPoolExecutor(2)
async def handler(n):
    print('start', n)
    print('part', end=' ')
    await asyncio.sleep(n % 5 / 1000)
    print('rest', n)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, print, 'pool', n)
    await loop.run_in_executor(own, print, 'own', n)
    thread = threading.Thread(target=print, args=('thread', n))
    thread.start()
    thread.join()
    await asyncio.sleep(0)
    print('open', n, end='')
    return n
"""
        self.check_interleaved(source, "handler")

    def test_lines_of_threads_at_once_stay_apart(self):
        source = """
import threading, time, concurrent.futures
own = concurrent.futures.ThreadPoolExecutor(2)
def handler(n):
    print('start', n)
    print('part', end=' ')
    time.sleep(n % 5 / 1000)
    print('rest', n)
    own.submit(print, 'own', n).result()
    own.submit(print, 'pool', n).result()
    thread = threading.Thread(target=print, args=('thread', n))
    thread.start()
    thread.join()
    print('open', n, end='')
    return n
"""
        self.check_interleaved(source, "handler")

    def test_a_line_of_5_mb_is_cut_at_the_limit_and_the_rest_counted(self):
        for body in ("print('x' * event)", "print('x' * event, end='')", "[print('x' * (event // 5), end='') for _ in range(5)]", "sys.stdout.buffer.write(b'x' * event)"):
            logs = self.logs_of(body, 5_000_000)
            self.assertEqual([level for level, _ in logs], ["stdout", "cut"])
            self.assertEqual(len(logs[0][1]), LIMIT - 1)
            self.assertTrue(abs(logs[1][1] - (5_000_000 - LIMIT)) < 10, logs[1])

    def test_a_cut_line_ends_in_a_whole_character(self):
        text = self.logs_of("print('a' + '€' * 1_000_000)")[0][1]
        self.assertRegex(text, "^a€+$")
        self.assertGreater(len(text.encode()), LIMIT - 5)

    def test_100_mb_of_output_neither_stall_nor_grow_the_process(self):
        body = "line = 'z' * 999; [print(line) for _ in range(100_000)]; import resource; return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
        main = self.load("def handler(event):\n    " + body)
        reply = main.invoke()
        self.assertLess(reply.json, 100_000)
        kept = sum(len(text) + 1 for level, text in reply.logs if level == "stdout")
        self.assertTrue(LIMIT - 2000 < kept <= LIMIT)
        self.assertEqual(reply.logs[-1], ("cut", 100_000_000 - kept))

    def test_the_limit_is_per_call(self):
        main = self.load("def handler(event): print('x' * event)")
        self.assertEqual(len(main.invoke(2 * LIMIT).logs), 2)
        self.assertEqual(main.invoke(2).logs, [("stdout", "xx")])


if __name__ == "__main__":
    unittest.main()

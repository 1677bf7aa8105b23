"""INVOKE to RESULT or ERROR: handler forms, contexts, values and failures."""

import time
import unittest

from host import ERROR, RESULT, ShimTest, invoke_frame

LIMIT = 6 * 1024 * 1024


class Invoke(ShimTest):
    def failure(self, source, event=None, **settings):
        reply = self.load(source, **settings).invoke(event)
        self.assertEqual(reply.kind, ERROR, reply.text)
        return reply.json

    def test_every_form_of_handler_answers(self):
        source = """
import asyncio, functools
def both(event, context): return [event, context.function_name]
def one(event): return event
def default(event, context=None): return [event, context is not None]
def star(*args): return len(args)
async def coroutine(event, context):
    await asyncio.sleep(0.001)
    return event
async def single(event): return event
class Callable:
    def __call__(self, event, context): return [event, context.function_name]
    def method(self, event): return event
    async def later(self, event, context): return event
instance = Callable()
method = instance.method
later = instance.later
partial = functools.partial(both)
def decorate(function):
    @functools.wraps(function)
    def wrapper(*args): return function(*args)
    return wrapper
@decorate
def decorated(event, context): return [event, context.function_name]
@decorate
async def hidden(event, context):
    await asyncio.sleep(0)
    return event
"""
        both = [1, "hello"]
        expected = {
            "both": both, "one": 1, "default": [1, True], "star": 2, "coroutine": 1, "single": 1, "instance": both,
            "method": 1, "later": 1, "partial": both, "decorated": both, "hidden": 1,
        }  # fmt: skip
        for concurrency in (1, 3):
            for name, value in expected.items():
                with self.subTest(name=name, concurrency=concurrency):
                    main = self.load(source, handler="index." + name, concurrency=concurrency)
                    reply = main.invoke(1)
                    self.assertEqual((reply.kind, reply.json), (RESULT, value))

    def test_events_of_every_kind_arrive(self):
        main = self.load("def handler(event): return event")
        for value in (True, False, None, 0, -1.5, 1e300, 10**30, "", "text", [], {}, {"a": [True, False, None, {"b": "é€😀"}]}):
            self.assertEqual(main.invoke(value).json, value)
        self.assertEqual(main.invoke(raw=b"").text, "null")
        self.assertEqual(main.invoke(raw=b' {"a" : [1, 2.5e3, "\\u00e9"]} \n').text, '{"a":[1,2500.0,"é"]}')

    def test_the_context_has_the_members_that_functions_expect(self):
        source = """
def handler(event, context):
    context.extra = 1
    names = ("function_name", "function_version", "memory_limit_in_mb", "aws_request_id", "invoked_function_arn", "log_group_name")
    return {**{n: getattr(context, n) for n in names}, "stream": context.log_stream_name, "left": context.get_remaining_time_in_millis()}
"""
        members = self.load(source).invoke(
            request_id=bytes.fromhex("0190f3a2b1c47d5e8f00112233445566"), deadline_ms=int(time.time() * 1000) + 5000
        ).json
        self.assertTrue(3000 < members.pop("left") <= 5000)
        self.assertRegex(members.pop("stream"), r"^\d{4}/\d\d/\d\d/\[3\]0190aaaabbbb7ccc8dddeeeeffff0000$")
        self.assertEqual(
            members,
            {
                "function_name": "hello",
                "function_version": "3",
                "memory_limit_in_mb": "256",
                "aws_request_id": "0190f3a2-b1c4-7d5e-8f00-112233445566",
                "invoked_function_arn": "arn:aws:lambda:local:000000000000:function:hello:3",
                "log_group_name": "/impuls/hello",
            },
        )

    def test_an_event_that_is_not_json_is_a_bad_event(self):
        main = self.load("def handler(event): return 1")
        for raw in (b"{nope", b"  ", b'"\xff"', b"1 2", b"NaN", b'{"a":}', b"[" * 200_000, b"True"):
            reply = main.invoke(raw=raw)
            self.assertEqual((reply.kind, reply.json["kind"]), (ERROR, "BadEvent"))
            self.assertTrue(reply.json["message"].startswith("the event is not JSON: "), raw[:20])
        self.assertEqual(main.invoke().json, 1)

    def test_a_raised_exception_has_type_message_and_a_stack_without_our_frames(self):
        source = """
class PaymentError(Exception): pass
def handler(event):
    try:
        {}['x']
    except KeyError as error:
        raise PaymentError('no money') from error
async def coroutine(event):
    handler(event)
"""
        for handler in ("index.handler", "index.coroutine"):
            for concurrency in (1, 2):
                error = self.failure(source, handler=handler, concurrency=concurrency)
                self.assertEqual((error["kind"], error["type"], error["message"]), ("FunctionError", "PaymentError", "no money"))
                self.assertIn('index.py", line 7, in handler', error["stack"])
                self.assertIn("KeyError: 'x'", error["stack"])
                self.assertNotIn("shims", error["stack"])

    def test_whatever_is_raised_is_described(self):
        source = """
import asyncio
class Hostile(Exception):
    def __str__(self): raise RuntimeError('no')
class Base(BaseException): pass
def recurse(): return recurse()
def handler(event):
    if event == 'recursion': recurse()
    raise {'hostile': Hostile(), 'base': Base('b'), 'keyboard': KeyboardInterrupt(), 'cancelled': asyncio.CancelledError(),
           'stop': StopIteration(1), 'generator': GeneratorExit(), 'surrogate': ValueError('\\ud800')}[event]
async def coroutine(event): handler(event)
"""
        types = {
            "hostile": "Hostile", "base": "Base", "keyboard": "KeyboardInterrupt", "cancelled": "CancelledError",
            "recursion": "RecursionError", "surrogate": "ValueError", "generator": "GeneratorExit",
        }  # fmt: skip
        for handler in ("index.handler", "index.coroutine"):
            for concurrency in (1, 2):
                main = self.load(source, handler=handler, concurrency=concurrency)
                for event, name in types.items():
                    reply = main.invoke(event)
                    self.assertEqual((reply.json["kind"], reply.json["type"]), ("FunctionError", name))
        self.assertEqual(self.load(source).invoke("stop").json["type"], "StopIteration")

    def test_a_value_that_cannot_be_json_is_a_bad_response_that_names_its_type(self):
        source = """
import dataclasses, datetime
@dataclasses.dataclass
class Point:
    x: int
circular = []
circular.append(circular)
values = {'nan': float('nan'), 'infinity': [float('inf')], 'set': {1}, 'datetime': {'a': datetime.datetime.now()}, 'point': Point(1),
          'bytes': b'x', 'key': {(1, 2): 3}, 'circular': circular, 'huge': 10 ** 5000}
def handler(event): return values[event]
"""
        main = self.load(source)
        for event, pattern in (
            ("nan", r"^the returned value \(float\) cannot be JSON: Out of range float"),
            ("infinity", r"^the returned value \(list\) cannot be JSON: Out of range float"),
            ("set", r"^the returned value \(set\) cannot be JSON: Object of type set is not JSON serializable"),
            ("datetime", r"Object of type datetime is not JSON serializable"),
            ("point", r"^the returned value \(Point\) .*Object of type Point is not JSON serializable"),
            ("bytes", r"Object of type bytes"),
            ("key", r"keys must be str"),
            ("circular", r"Circular reference"),
        ):
            reply = main.invoke(event)
            self.assertEqual((reply.kind, reply.json["kind"]), (ERROR, "BadResponse"))
            self.assertRegex(reply.json["message"], pattern)
        self.assertIn(main.invoke("huge").kind, (ERROR, RESULT))
        self.assertEqual(main.invoke("set").json["kind"], "BadResponse")

    def test_good_values_still_pass_after_a_bad_one(self):
        main = self.load("keep = []\ndef handler(event):\n    return keep if event else [keep, {1}]\n")
        for _ in range(3):
            self.assertEqual(main.invoke(False).json["kind"], "BadResponse")
            self.assertEqual(main.invoke(True).json, [])

    def test_a_response_of_6_mib_passes_and_one_byte_more_does_not(self):
        main = self.load("def handler(event): return event[1] * event[0]")
        self.assertEqual(len(main.invoke([LIMIT - 2, "x"]).text), LIMIT)
        error = main.invoke([LIMIT - 1, "x"]).json
        self.assertEqual(error["kind"], "BadResponse")
        self.assertEqual(error["message"], "the returned value (str) has 6291457 bytes as JSON; at most 6291456 bytes are allowed")
        self.assertEqual(main.invoke([LIMIT // 2, "é"]).json["kind"], "BadResponse")
        self.assertEqual(main.invoke([LIMIT // 2 - 1, "é"]).kind, RESULT)

    def test_an_event_of_6_mib_arrives_whole(self):
        event = "y" * (LIMIT - 2)
        for concurrency in (1, 2):
            main = self.load("def handler(event): return [len(event), event == 'y' * len(event)]", concurrency=concurrency)
            self.assertEqual(main.invoke(event).json, [LIMIT - 2, True])

    def test_lone_surrogates_survive(self):
        self.assertEqual(self.load("def handler(event): return event").invoke("\ud800x").text, '"\\ud800x"')

    def test_tasks_left_over_by_a_call_go_on_during_the_next(self):
        source = """
import asyncio
seen = []
async def later():
    await asyncio.sleep(0.01)
    seen.append(1)
async def handler(event):
    if event: asyncio.ensure_future(later())
    else: await asyncio.sleep(0.05)
    return seen
"""
        main = self.load(source)
        self.assertEqual(main.invoke(True).json, [])
        self.assertEqual(main.invoke(False).json, [1])

    def test_sys_exit_in_the_handler_ends_the_process_after_its_logs(self):
        source = "import sys, asyncio, atexit\natexit.register(print, 'bye')\ndef handler(event):\n    print('leaving', end='')\n    sys.exit(5)\n"
        source += "async def coroutine(event):\n    await asyncio.sleep(0)\n    handler(event)\n"
        for handler in ("index.handler", "index.coroutine"):
            for concurrency in (1, 2):
                main = self.load(source, handler=handler, concurrency=concurrency)
                main.send(invoke_frame(9))
                main.until_closed()
                self.assertEqual(main.sandbox.wait(), (5, ""))
                self.assertEqual(main.logs[9][0], ("stdout", "leaving"))
                self.assertIn(("stdout", "bye"), main.logs[9] + main.logs.get(0, []))

    def test_user_code_that_patches_modules_does_not_break_replies(self):
        source = """
import json, os, time, sys, builtins
json.loads = json.dumps = os.read = os.write = time.time = time.monotonic = None
def handler(event, context): return [event, context.aws_request_id]
"""
        main = self.load(source)
        for event in (1, 2):
            self.assertEqual(main.invoke(event).json[0], event)


if __name__ == "__main__":
    unittest.main()

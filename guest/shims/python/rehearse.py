"""Runs sample calls over a connection that leads nowhere, on the very path of real calls.

What they load and create is then there when the first real call comes, or shared by all children
of a zygote. Nothing of the sample itself stays behind.
"""

import gc
import os
import sys

# What functions import most; loading them again is free.
POPULAR = (
    "asyncio base64 collections concurrent.futures contextlib dataclasses datetime enum functools hashlib inspect "
    "io itertools json logging math operator pathlib random re string threading time traceback typing "
    "urllib.parse uuid"
).split()
CALLS = 4


def rehearse():
    """Leaves the interpreter as it was, but for loaded standard modules."""
    for name in POPULAR:
        __import__(name)
    kept = os.getcwd(), list(sys.path), list(sys.argv), sys.stdout, sys.stderr
    modules = set(sys.modules)
    try:
        for handler in ("warm.handler", "warm.coroutine", "warm.failing"):
            run_sample(handler)
    finally:
        os.chdir(kept[0])
        sys.path[:], sys.argv[:] = kept[1], kept[2]
        sys.stdout, sys.stderr = kept[3], kept[4]
        for name in set(sys.modules) - modules:
            if name == "warm":
                del sys.modules[name]
        sys.path_importer_cache.pop(os.path.dirname(os.path.abspath(__file__)), None)
    gc.collect()
    gc.freeze()  # so that a child's collector leaves the shared pages alone


def run_sample(handler):
    module = part("server")  # noqa: F821  (bound by shim.py)
    server = module.Server(None)
    connection = module.Connection(server, -1)
    connection._write_all = lambda data: None
    init = {
        "function_name": "sample",
        "function_version": "1",
        "function_id": "00000000-0000-0000-0000-000000000000",
        "handler": handler,
        "contract": "module",
        "memory_mb": 128,
        "concurrency": 1,
        "environment": {},
        "code_dir": os.path.dirname(os.path.abspath(__file__)),
        "check": False,
    }
    batch = [frame(module.INIT, 0, server.encode_text(init))]
    event = b'{"count": 1, "name": "sample", "list": [1, 2.5, true, null]}'
    for call_id in range(1, CALLS + 1):
        batch.append(frame(module.INVOKE, call_id, bytes(24) + event))
    connection.feed(b"".join(batch))
    sys.modules.pop("warm", None)
    if server.loop is not None:
        import asyncio

        server.loop.close()
        asyncio.set_event_loop(None)


def frame(kind, call_id, payload):
    return (len(payload) + 5).to_bytes(4, "little") + bytes((kind,)) + call_id.to_bytes(4, "little") + payload

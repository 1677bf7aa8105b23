"""Coroutines, and several invocations at once: event-loop tasks, or a pool of threads.

A context variable names the invocation that code belongs to; the patches at the end carry it into
the threads that user code starts.
"""

import asyncio
import threading
from _queue import SimpleQueue
from contextvars import copy_context

_current_thread = threading.current_thread
_main_thread = threading.main_thread


def run_to_end(server, awaitable):
    """Runs an awaitable on this thread. The main thread's loop lives on, with the tasks in it."""
    if server.pool is not None:
        return asyncio.run(_await(awaitable))
    if server.loop is None:
        server.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(server.loop)
    return server.loop.run_until_complete(awaitable)


async def _await(awaitable):
    return await awaitable


class Tasks:
    """Runs a coroutine function's invocations as tasks of one loop on the main thread."""

    def __init__(self, server):
        self.server = server
        self.loop = server.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        carry_context_into_threads()
        self.unflushed = []
        self.running = set()
        self.eager = hasattr(asyncio, "eager_task_factory")  # Python 3.12
        for connection in server.connections.values():
            self.watch(connection)

    def run(self, listen_fd):
        self.loop.add_reader(listen_fd, self.server.accept)
        self.loop.run_forever()

    def watch(self, connection):
        connection.batching = True
        self.loop.add_reader(connection.fd, connection.readable)

    def forget(self, connection):
        self.loop.remove_reader(connection.fd)

    def start(self, invocation, event, context):
        copy_context().run(self._start, invocation, event, context)

    def _start(self, invocation, event, context):
        self.server.variable.set(invocation)
        self.server.in_flight.add(invocation)
        coroutine = self._call(invocation, event, context)
        if self.eager and self.loop.is_running():
            task = asyncio.Task(coroutine, loop=self.loop, eager_start=True)
        else:
            task = self.loop.create_task(coroutine)
        if not task.done():
            self.running.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(self.running.discard)

    async def _call(self, invocation, event, context):
        server = self.server
        try:
            value = await (server.handler(event, context) if server.takes_context else server.handler(event))
        except SystemExit:
            raise
        except BaseException as error:
            return server.reject(invocation, error)
        server.resolve(invocation, value)

    def flush_later(self, connection):
        if _current_thread() is not _main_thread():
            self.loop.call_soon_threadsafe(connection.flush)
        elif not self.unflushed:
            self.unflushed.append(connection)
            self.loop.call_soon(self._flush)
        elif connection not in self.unflushed:
            self.unflushed.append(connection)

    def _flush(self):
        connections, self.unflushed = self.unflushed, []
        for connection in connections:
            connection.flush()


class Pool:
    """Runs any other function's invocations in threads, started when first needed."""

    def __init__(self, server, size):
        self.server = server
        self.size = size
        self.queue = SimpleQueue()
        self.idle = 0
        self.started = 0
        carry_context_into_threads()

    def submit(self, invocation, event, context):
        self.queue.put((copy_context(), invocation, event, context))
        if self.queue.qsize() > self.idle and self.started < self.size:
            self.started += 1
            _start_thread(threading.Thread(target=self._work, daemon=True))

    def _work(self):
        get = self.queue.get
        while True:
            self.idle += 1
            context, *call = get()
            self.idle -= 1
            try:
                context.run(self._call, *call)
            except SystemExit as error:
                self.server.exit(error)

    def _call(self, invocation, event, context):
        self.server.variable.set(invocation)
        self.server.call(invocation, event, context)


_start_thread = threading.Thread.start


def carry_context_into_threads():
    """Lets threads, and what is handed to thread pools, log for the invocation they come from."""
    from concurrent.futures import ThreadPoolExecutor

    submit = ThreadPoolExecutor.submit

    def submit_in_context(self, function, /, *args, **kwargs):
        return submit(self, copy_context().run, function, *args, **kwargs)

    def start_in_context(self):
        context, run = copy_context(), self.run
        self.run = lambda: context.run(run)
        _start_thread(self)

    ThreadPoolExecutor.submit = submit_in_context
    threading.Thread.start = start_in_context

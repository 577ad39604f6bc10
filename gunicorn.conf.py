"""gunicorn's defaults for Glimpse; the command line and GUNICORN_CMD_ARGS win over them."""

import gc
import json
import mmap
import os
import select
import shutil
import socket
import struct
import tempfile
import threading
import time
from array import array
from collections import deque
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.workers import gthread

PATIENCE = 10  # ms that a connection is left to a worker that holds fewer
SILENCE = 10  # seconds after which a client that stops sending is given up
METRICS = "PROMETHEUS_MULTIPROC_DIR"  # where the workers' metrics meet


class Log(Logger):  # type: ignore[misc]
    """gunicorn's log, with each answered request as a line of JSON."""

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        """Writes the line; `ms` is the time from the request's head to the answer's end."""
        if not self.access_log_enabled:
            return
        headers = {name.lower(): value for name, value in resp.headers}
        line = {
            "time": self.now(),
            "request_id": headers.get("x-request-id"),
            "client": environ.get("REMOTE_ADDR"),
            "method": environ.get("REQUEST_METHOD"),
            "path": environ.get("RAW_URI"),
            "status": int(str(resp.status).split(None, 1)[0]),
            "bytes": getattr(resp, "sent", None),
            "ms": round(request_time.total_seconds() * 1000, 1),
            "agent": environ.get("HTTP_USER_AGENT"),
        }
        self.access_log.info("%s", json.dumps(line))


class Threads(Executor):
    """Up to `most` threads, of which the last to have rested works next.

    What it needs lies in the processor's caches still; the standard library's pool has all its
    threads take turns, however few have work.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._resting: list[threading.Lock] = []
        self._waiting: deque[Any] = deque()
        self._own = threading.Lock()

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        """Has a thread call the function; who finds none resting or new waits."""
        future: Future[Any] = Future()
        with self._own:
            self._waiting.append((future, function, arguments, named))
            if self._resting:
                self._resting.pop().release()
            elif self._count < self._most:
                try:
                    threading.Thread(target=self._work, daemon=True).start()
                    self._count += 1
                except RuntimeError:  # the system gives no more threads
                    if not self._count:
                        raise
        return future

    def _work(self) -> None:
        called = threading.Lock()
        called.acquire()
        while True:
            with self._own:
                call = self._waiting.popleft() if self._waiting else None
                if call is None:
                    self._resting.append(called)
            if call is None:
                called.acquire()
                continue
            future, function, arguments, named = call
            try:
                future.set_result(function(*arguments, **named))
            except BaseException as error:
                future.set_exception(error)
            del call, future, function, arguments, named  # a resting thread holds nothing


MOST_WORKERS = 512
NOBODY = 0xFFFFFFFF  # in `HELD`, of a worker that takes no connections
# The connections that each worker holds: memory that all of them share.
HELD = memoryview(mmap.mmap(-1, 4 * MOST_WORKERS)).cast("I")
HELD[:] = memoryview(array("I", [NOBODY] * MOST_WORKERS))


class Worker(gthread.ThreadWorker):  # type: ignore[misc]
    """gunicorn's threaded worker, with two differences.

    A new connection goes to the worker that holds the fewest, since the work of each has one core;
    gunicorn leaves it to whichever wakes first, and six of eight clients may wait for one worker.
    A worker that is to end answers who is waiting before it stops listening.
    """

    place: int | None = None  # in HELD
    _held = 0

    @property
    def nr_conns(self) -> int:
        """How many connections the worker holds."""
        return self._held

    @nr_conns.setter
    def nr_conns(self, held: int) -> None:
        self._held = held
        if self.place is not None:
            HELD[self.place] = max(held, 0) if self.alive else NOBODY

    def get_thread_pool(self) -> Threads:
        """The threads that answer."""
        return Threads(self.cfg.threads)

    def accept(self, listener: Any) -> None:
        """Takes a connection, unless a worker that holds fewer does so at once."""
        patience = PATIENCE
        still = select.poll()
        still.register(listener, select.POLLIN)
        # Among many connections one more or less makes no difference.
        while patience and self._held - self._held // 8 > min(HELD):
            time.sleep(0.001)
            patience -= 1
            if not still.poll(0):
                return  # it is taken
        super().accept(listener)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Takes, when the worker is to end, the connections that the system already holds."""
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        self.nr_conns = self._held  # no one leaves a connection to this worker any more
        for listener in self.sockets:
            if listener.sock is None:
                continue  # told to end twice
            listener.setblocking(False)
            held = -1
            while held < self.nr_conns:
                held = self.nr_conns
                super().accept(listener)
            listener.close()


# A new connection that says nothing is left to the poller after this, seconds; not 5, for a thread.
gthread.DEFAULT_WORKER_DATA_TIMEOUT = 0.1

bind = os.environ.get("GLIMPSE_BIND", "127.0.0.1:8000")
workers = min(os.cpu_count() or 1, 4)
threads = 128  # a slow client holds a thread, not the worker
preload_app = True  # models are loaded once, and shared
timeout = 60
graceful_timeout = 30
keepalive = 5
control_socket_disable = True  # it would lie in the home folder, one for all servers
logger_class = Log
worker_class = Worker
accesslog = "-"
# In memory: a heartbeat on a slow disk makes a worker look dead, and metrics on a full one kill it.
memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
worker_tmp_dir = memory

if METRICS not in os.environ:
    with suppress(OSError):  # without a place to write each worker tells its own metrics alone
        os.environ[METRICS] = tempfile.mkdtemp(prefix="glimpse-metrics-", dir=memory)


def when_ready(server: Any) -> None:
    """Has the system give up silent clients: connections take this over from their listener."""
    for listener in server.LISTENERS:
        silence = struct.pack("ll", SILENCE, 0)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, silence)


def pre_fork(server: Any, worker: Any) -> None:
    """Gives the worker its place in HELD.

    What is loaded is left out of garbage collection, so that workers go on sharing it.
    """
    # Those from before a reload may be of another version of this file.
    taken = {getattr(each, "place", None) for each in server.WORKERS.values()}
    worker.place = min(set(range(MOST_WORKERS)) - taken)
    gc.freeze()


def post_worker_init(worker: Any) -> None:
    """Has others leave connections to the worker, now that it takes them."""
    worker.nr_conns = 0


def child_exit(server: Any, worker: Any) -> None:
    """Takes a worker that has ended out of HELD and of the gauges of those that live."""
    if (place := getattr(worker, "place", None)) is not None:
        HELD[place] = NOBODY
    from prometheus_client import multiprocess  # noqa: PLC0415  # it reads METRICS when imported

    if METRICS in os.environ:
        multiprocess.mark_process_dead(worker.pid)


def on_exit(server: Any) -> None:
    """Removes the metrics' folder."""
    if "glimpse-metrics-" in os.environ.get(METRICS, ""):
        shutil.rmtree(os.environ[METRICS], ignore_errors=True)

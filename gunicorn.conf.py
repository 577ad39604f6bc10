"""gunicorn's defaults for Glimpse; the command line and GUNICORN_CMD_ARGS win over them."""

import gc
import json
import os
import shutil
import socket
import struct
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.workers import gthread

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


class Worker(gthread.ThreadWorker):  # type: ignore[misc]
    """gunicorn's threaded worker, which answers who is waiting before it stops listening."""

    def set_accept_enabled(self, enabled: bool) -> None:
        """Takes, when the worker is to end, the connections that the system already holds."""
        super().set_accept_enabled(enabled)
        if self.alive:
            return
        for listener in self.sockets:
            listener.setblocking(False)
            held = -1
            while held < self.nr_conns:
                held = self.nr_conns
                self.accept(listener)
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
    """Leaves what is loaded out of garbage collection, so that workers go on sharing it."""
    gc.freeze()


def child_exit(server: Any, worker: Any) -> None:
    """Takes a worker that has ended out of the gauges of those that live."""
    from prometheus_client import multiprocess  # noqa: PLC0415  # it reads METRICS when imported

    if METRICS in os.environ:
        multiprocess.mark_process_dead(worker.pid)


def on_exit(server: Any) -> None:
    """Removes the metrics' folder."""
    if "glimpse-metrics-" in os.environ.get(METRICS, ""):
        shutil.rmtree(os.environ[METRICS], ignore_errors=True)

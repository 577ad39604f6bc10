"""gunicorn's settings for Glimpse; its command line and GUNICORN_CMD_ARGS override them."""

import atexit
import json
import os
import socket
import struct
import tempfile
import time
from shutil import disk_usage, rmtree
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.workers import gthread

METRICS = "PROMETHEUS_MULTIPROC_DIR"  # the folder that the workers' metrics share
MEMORY, ENOUGH = "/dev/shm", 16 * 1024 * 1024  # bytes; disks delay heartbeats, full ones kill
SILENCE = struct.pack("ll", 10, 0)  # seconds after which a silent client is dropped
LINE = {"time": "t", "client": "h", "method": "m", "path": "{raw_uri}e", "bytes": "B", "agent": "a"}


class JsonLog(Logger):  # type: ignore[misc]
    """gunicorn's log, with each request as a line of JSON."""

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        """Writes the line; `ms` is the time from the request's head to the end of the answer."""
        atoms = self.atoms(resp, req, environ, request_time)
        line = {name: atoms.get(atom) for name, atom in LINE.items()}
        line |= {"status": int(atoms["s"]), "ms": atoms["D"] / 1000}
        line["request_id"] = atoms.get("{x-request-id}o")
        self.access_log.info("%s", json.dumps(line))


class Worker(gthread.ThreadWorker):  # type: ignore[misc]
    """gunicorn's threaded worker, with two changes; docs/performance.md measures both."""

    def accept(self, listener: Any) -> None:
        """Accepts a connection, after a worker that holds none had a millisecond to do so."""
        time.sleep(0.001 if self.nr_conns and self.alive else 0)
        super().accept(listener)

    def set_accept_enabled(self, enabled: bool) -> None:
        """On shutdown, accepts the queued connections, then closes the listeners."""
        super().set_accept_enabled(enabled)
        for listener in () if enabled or self.alive else self.sockets:
            held = -1
            while listener.sock is not None and held < self.nr_conns:
                held = self.nr_conns
                self.accept(listener)
            listener.close()


bind = os.environ.get("GLIMPSE_BIND", "127.0.0.1:8000")
workers = min(os.cpu_count() or 1, 4)
threads = 128  # a slow client holds a thread, not the worker
gthread.DEFAULT_WORKER_DATA_TIMEOUT = 0.1  # seconds that a new, silent connection holds a thread
preload_app = True  # models are loaded once, and shared
timeout = 60
keepalive = 5
control_socket_disable = True  # it would be in the home folder, one for all servers
logger_class, worker_class = JsonLog, Worker
accesslog = "-"
worker_tmp_dir = MEMORY if os.access(MEMORY, os.W_OK) and disk_usage(MEMORY).free > ENOUGH else None


def nworkers_changed(server: Any, new: int, old: int | None) -> None:
    """Creates the metrics' folder: no other hook runs before the app is preloaded."""
    if old is None and METRICS not in os.environ:
        folder, owner = tempfile.mkdtemp(prefix="glimpse-metrics-", dir=worker_tmp_dir), os.getpid()
        os.environ[METRICS] = folder
        atexit.register(lambda: rmtree(folder) if os.getpid() == owner else None)  # no worker


def when_ready(server: Any) -> None:
    """Makes the system drop silent clients: connections inherit this from their listener."""
    for listener in server.LISTENERS:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, SILENCE)

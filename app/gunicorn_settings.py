"""gunicorn's settings for Glimpse; its command line and GUNICORN_CMD_ARGS override them."""

import json
import os
import resource
from shutil import disk_usage
from typing import Any

from gunicorn.glogging import Logger

from app.shared_values import create_folder
from app.worker import Worker

MEMORY, ENOUGH = "/dev/shm", 16 * 1024 * 1024  # bytes; disks delay heartbeats
OWN_FILES = 32  # that a worker has open beside its connections
LINE = {"time": "t", "client": "h", "method": "m", "path": "{raw_uri}e", "bytes": "B", "agent": "a"}


class JsonLog(Logger):  # type: ignore[misc]
    """gunicorn's log, with each request as a line of JSON."""

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        """Writes the line; `ms` is the time from a request that is all there to its answer."""
        atoms = self.atoms(resp, req, environ, request_time)
        line = {name: atoms.get(atom) for name, atom in LINE.items()}
        line |= {"status": int(atoms["s"]), "ms": atoms["D"] / 1000}
        line["request_id"] = atoms.get("{x-request-id}o")
        self.access_log.info("%s", json.dumps(line))


bind = os.environ.get("GLIMPSE_BIND", "127.0.0.1:8000")
workers = min(os.cpu_count() or 1, 4)
threads = 128
worker_connections = min(1000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OWN_FILES)
preload_app = True  # models are loaded once, and shared
timeout = 60
keepalive = 5
sendfile = False  # it would block, and the connections never do
control_socket_disable = True  # it would be in the home folder, one for all servers
logger_class, worker_class = JsonLog, Worker
accesslog = "-"
forwarder_headers = ""  # from any client of this machine, they would move the routes
worker_tmp_dir = MEMORY if os.access(MEMORY, os.W_OK) and disk_usage(MEMORY).free > ENOUGH else None


def nworkers_changed(server: Any, new: int, old: int | None) -> None:
    """Creates the metrics' folder: no other hook runs before the app is preloaded."""
    if old is None:
        create_folder(worker_tmp_dir)

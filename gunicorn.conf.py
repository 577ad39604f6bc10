"""gunicorn's defaults for Glimpse; the command line and GUNICORN_CMD_ARGS win over them."""

import os
import socket
import struct
from typing import Any

SILENCE = 10  # seconds after which a client that stops sending is given up

bind = os.environ.get("GLIMPSE_BIND", "127.0.0.1:8000")
workers = min(os.cpu_count() or 1, 4)
threads = 8  # a slow client holds a thread, not the worker
preload_app = True  # models are loaded once, and shared
timeout = 60
graceful_timeout = 30
control_socket_disable = True  # it would lie in the home folder, one for all servers


def when_ready(server: Any) -> None:
    """Has the system give up silent clients: connections take this over from their listener."""
    for listener in server.LISTENERS:
        silence = struct.pack("ll", SILENCE, 0)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, silence)

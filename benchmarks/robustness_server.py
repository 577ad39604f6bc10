"""For robustness.py: the real server process, clients that load it, and what it costs in memory."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

TOP = Path(__file__).resolve().parent.parent
START_SECONDS = 300.0  # for imports on a busy machine
STOP_SECONDS = 120.0  # gunicorn's graceful_timeout, and the end of an interpreter
PNG = {"Content-Type": "image/png"}

NO_ANSWER = (OSError, http.client.HTTPException)  # what a client raises where none comes

PASSED, FAILED, SKIPPED = "pass", "**FAIL**", "skipped"


@dataclass(frozen=True)
class Outcome:
    """A row of the report: what was done to the app, what happened, and whether that will do."""

    section: str
    fault: str
    happened: str
    state: str


def judged(section: str, fault: str, happened: str, *, good: bool) -> Outcome:
    """The row of a fault that was tried."""
    return Outcome(section, fault, happened, PASSED if good else FAILED)


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """gunicorn over the app, in a session of its own; a context in which it runs.

    `arguments` are gunicorn's; `environment` is added to this process's own, whose GLIMPSE_
    variables are left out; `prefix` is a command that runs another, such as setpriv.
    """

    def __init__(
        self,
        log: Path,
        *,
        config: Path = TOP / "gunicorn.conf.py",
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        folder: Path = TOP,
    ) -> None:
        self.port = free_port()
        self.log = log
        clean = {key: value for key, value in os.environ.items() if not key.startswith("GLIMPSE_")}
        clean.pop("PROMETHEUS_MULTIPROC_DIR", None)
        own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TOP), "PYTHONDONTWRITEBYTECODE": "1"}
        address = {"GLIMPSE_BIND": f"127.0.0.1:{self.port}"}
        self._environment = {**clean, **own, **address, **(environment or {})}
        self._command = [*prefix, sys.executable, "-m", "gunicorn", "-c", str(config)]
        self._command += [*arguments, "wsgi:app"]
        self._folder = folder
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Server:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(*NO_ANSWER):
                if ask(self.port, "GET", "/healthz", timeout=5)[0] == 200:
                    break
            if self.process.poll() is not None:
                raise ServerError(f"gunicorn ended with {self.process.returncode}: {self.tail()}")
            if time.monotonic() > deadline:
                raise ServerError(f"gunicorn did not answer in {START_SECONDS:.0f} s")
            time.sleep(0.1)
        before: list[int] = []
        while before != self.workers():  # gunicorn starts them one after the other
            before = self.workers()
            time.sleep(2)

    def end(self) -> int:
        """Ends the server, gently first; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # the session's own group
        return self.process.wait()

    def tail(self) -> str:
        """The last line of the log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "(nothing in the log)"

    @property
    def master(self) -> int:
        """The process id of gunicorn's master."""
        return self.process.pid

    def workers(self) -> list[int]:
        """The process ids of gunicorn's workers."""
        return children(self.process.pid)


@dataclass(frozen=True)
class Bench:
    """What faults are tried with: a folder for files, gunicorn's configuration, a digit's PNG."""

    folder: Path
    config: Path
    picture: bytes

    def server(self, **options: Any) -> Server:
        """A server of this configuration; `options` are those of `Server`."""
        return Server(self.folder / "server.log", config=self.config, **options)


class ServerError(RuntimeError):
    """The server did not come up; the message says why."""


def children(pid: int) -> list[int]:
    """The process ids of a process's children."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return sorted(found)


def pss(pid: int) -> float:
    """The memory of a process in MiB, what it shares being shared out (Linux's PSS)."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def tree_pss(pid: int) -> float:
    """The memory of a process and all that descend from it, in MiB."""
    return pss(pid) + sum(tree_pss(child) for child in children(pid))


def sockets(pid: int) -> int:
    """How many connected sockets a process holds."""
    connected = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] != "0A":  # listening
            connected.add(f"socket:[{fields[9]}]")
    held = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            held += str(link.readlink()) in connected
    return held


def descriptors(pid: int) -> int:
    """How many files and sockets a process holds open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout: float = 60,
) -> tuple[int, bytes]:
    """Status and body of an answer; raises OSError or HTTPException where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def ask_json(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a GET."""
    status, body = ask(port, "GET", path)
    answer: dict[str, Any] = json.loads(body)
    return status, answer


def request_bytes(content: bytes, *, keep: bool) -> bytes:
    """A whole request for a prediction as it goes over the wire."""
    head = (
        "POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        f"Content-Length: {len(content)}\r\n" + ("" if keep else "Connection: close\r\n") + "\r\n"
    )
    return head.encode() + content


@dataclass(frozen=True)
class Attempt:
    """One request of a client: when it was sent whole, how long it took, and how it ended.

    `error` is empty where a whole answer came, and `status` then its status. `is_first` is
    whether it was its connection's first; `has_begun` whether a part of an answer came.
    """

    sent: float
    seconds: float
    status: int
    error: str
    is_first: bool
    has_begun: bool = False


class Load:
    """Clients that send one request after the other; a context in which they run.

    Every other client keeps its connection. All pause for `pause` seconds between two requests.
    """

    def __init__(self, port: int, content: bytes, clients: int = 12, pause: float = 0.01) -> None:
        self.attempts: list[Attempt] = []
        self._port, self._content, self._pause = port, content, pause
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(index % 2 == 0,), daemon=True)
            for index in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)

    def warm(self, answers: int = 5, seconds: float = 60) -> None:
        """Waits until there are so many more answers for each client on average, or `seconds`."""
        enough = len(self.attempts) + answers * len(self._threads)
        deadline = time.monotonic() + seconds
        while len(self.attempts) < enough and time.monotonic() < deadline:
            time.sleep(0.05)

    def _client(self, keep: bool) -> None:
        message = request_bytes(self._content, keep=keep)
        connection: socket.socket | None = None
        while not self._stop.is_set():
            attempt, connection = _attempt(self._port, connection, message)
            self.attempts.append(attempt)
            # Where nobody listens the next try need not come at once.
            self._stop.wait(0.1 if attempt.error == "refused" else self._pause)
        if connection is not None:
            connection.close()


def _attempt(
    port: int, connection: socket.socket | None, message: bytes
) -> tuple[Attempt, socket.socket | None]:
    """Sends a request and reads its answer; the connection is given back where it lives on."""
    started = time.monotonic()
    is_first = connection is None
    sent, begun, status, error, keep = started, False, 0, "", False
    try:
        if connection is None:
            try:
                connection = socket.create_connection(("127.0.0.1", port), timeout=60)
            except ConnectionRefusedError:
                return Attempt(started, 0.0, 0, "refused", True), None
        connection.sendall(message)
        sent = time.monotonic()
        response = http.client.HTTPResponse(connection, method="POST")
        response.begin()
        begun, status = True, response.status
        response.read()
        keep = not response.will_close
    except NO_ANSWER as failure:
        error = type(failure).__name__
    if connection is not None and not keep:
        connection.close()
        connection = None
    return Attempt(sent, time.monotonic() - started, status, error, is_first, begun), connection


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` (0..1) of `values` lie; infinity where there is none."""
    if not values:
        return float("inf")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def is_flat(values: Sequence[float]) -> tuple[bool, float, float]:
    """Whether the last third's mean is within 5 % and 10 MB of the middle third's, and both."""
    third = max(1, len(values) // 3)
    middle, last = values[-2 * third : -third] or values, values[-third:]
    before, after = sum(middle) / len(middle), sum(last) / len(last)
    return after <= before * 1.05 + 10, before, after

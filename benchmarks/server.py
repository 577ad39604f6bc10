"""What the benchmarks share: a server process, requests to it, and the memory of its processes."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
START_SECONDS = 300.0  # on a busy machine
STOP_SECONDS = 40.0  # more than gunicorn's graceful_timeout
NO_ANSWER = (OSError, http.client.HTTPException)  # what `ask` raises
PNG = {"Content-Type": "image/png"}
CALLERS = ("GLIMPSE_", "GUNICORN_", "PYTHONPATH", "WEB_CONCURRENCY", "PROMETHEUS_")


# Ends a benchmark as Ctrl-C does, with the servers that it has started.
signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


class ServerError(RuntimeError):
    """The server does not answer; the message holds the end of its log."""


def ask(
    port: int,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] = PNG,
    timeout: float = 60,
) -> tuple[int, bytes]:
    """Status and body of the answer to a POST of `body`, or to a GET; raises `NO_ANSWER`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET" if body is None else "POST", path, body, dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def is_alive(port: int) -> bool:
    """Whether Glimpse answers there; raises `NO_ANSWER`."""
    return ask(port, "/healthz", timeout=5)[0] == 200


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def gunicorn(checkout: Path, port: int, *arguments: str) -> list[str]:
    """The command that serves a checkout by its own gunicorn.conf.py."""
    command = [sys.executable, "-m", "gunicorn", "-c", str(checkout / "gunicorn.conf.py")]
    return [*command, "-b", f"127.0.0.1:{port}", *arguments, "wsgi:app"]


class Server:
    """A server in a session of its own; a context in which it answers, after `start_s` seconds.

    None of the caller's settings reach it, only `environment`. Raises `ServerError` where
    `is_ready` does not come true.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        log: Path,
        *,
        folder: Path = TOP,
        environment: Mapping[str, str] | None = None,
        is_ready: Callable[[int], bool] = is_alive,
    ) -> None:
        self.command, self.port, self.log, self.folder = command, port, log, folder
        self.is_ready = is_ready
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(CALLERS) and not name.lower().endswith("_proxy")
        }
        own = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder)}
        self.environment = {**kept, **own, **(environment or {})}
        self.start_s = 0.0

    def __enter__(self) -> Server:
        began = time.perf_counter()
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            while not self._answers():
                waited = time.perf_counter() - began
                if self.process.poll() is not None or waited > START_SECONDS:
                    said = self.log.read_text(errors="replace")[-2000:]
                    raise ServerError(f"no answer in {waited:.0f} s; its log ends:\n{said}")
                time.sleep(0.02)
        except BaseException:
            self.__exit__()
            raise
        self.start_s = time.perf_counter() - began
        return self

    def _answers(self) -> bool:
        with suppress(*NO_ANSWER):
            return self.is_ready(self.port)
        return False

    def __exit__(self, *_: object) -> None:
        all_pids = tree(self.process.pid)
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        for pid in {*all_pids, *tree(self.process.pid)}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def workers(self) -> list[int]:
        """The ids of the process's children."""
        return children(self.process.pid)

    @property
    def memory_mb(self) -> float:
        """The memory of all its processes, what they share counted once (Linux's PSS)."""
        return sum(map(pss_mb, tree(self.process.pid)))

    @property
    def processor_s(self) -> float:
        """The processor time that its processes have taken, their ended children's with it."""
        ticks = 0
        for pid in tree(self.process.pid):
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def rest(self) -> None:
        """Waits until it has answered all that clients have left behind, 10 seconds at most."""
        for _ in range(33):
            before = self.processor_s
            time.sleep(0.3)
            if self.processor_s - before < 0.02:
                break


def children(pid: int) -> list[int]:
    """The ids of a process's children; Linux only."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return sorted(found)


def tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    return [pid, *(each for child in children(pid) for each in tree(child))]


def pss_mb(pid: int) -> float:
    """The memory of a process, MB, its share of what it shares; 0 where it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` (0..1) of `values` lie; infinity where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("inf")

"""For robustness.py: faults of clients (slow, silent, vanishing, many) and schemathesis."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
import subprocess
import threading
import time
import venv
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.robustness_server import (
    NO_ANSWER,
    PNG,
    SKIPPED,
    Outcome,
    Server,
    ask,
    descriptors,
    judged,
    percentile,
    request_bytes,
)

NORMAL_TIMEOUT = 30.0  # seconds that a normal client waits for an answer
CROWD_TIMEOUT = 600.0  # and one of a thousand, on a machine of any speed
SLOW_HEAD = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\n"
SLOW_BODY = SLOW_HEAD + b"Content-Type: image/png\r\nContent-Length: 100000\r\n\r\n"
HEADERS = b"X-Slow: 1\r\n"  # said again and again

# Checks of schemathesis that say nothing of this API, and why.
LEFT_OUT = {
    "positive_data_acceptance": "no schema can say which base64 is a picture",
}

# Statuses that say that a request is not right; schemathesis itself leaves out 413.
REJECTED = ("400", "401", "404", "405", "413", "415", "422", "429")


class Crowd:
    """Many clients of one behaviour, on a thread of their own; a context in which they live."""

    def __init__(self, count: int, client: Callable[[], Awaitable[None]]) -> None:
        self._count, self._client = count, client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: list[asyncio.Task[None]] = []

    def __enter__(self) -> Crowd:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    async def _start(self) -> None:
        self._tasks = [asyncio.ensure_future(self._client()) for _ in range(self._count)]

    async def _finish(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._finish()
        await asyncio.sleep(0.5)  # in which connections are closed

    def wait(self, seconds: float) -> None:
        """Until all are done."""
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(seconds)

    def __exit__(self, *_: object) -> None:
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._cancel(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)


def normal_client(port: int, content: bytes, seconds: float) -> tuple[list[float], int]:
    """Seconds of each answer that one client gets, and how many requests got none."""
    times, failed = [], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.monotonic()
        try:
            status, _ = ask(port, "POST", "/api/predict", content, PNG, timeout=NORMAL_TIMEOUT)
            failed += status != 200
        except NO_ANSWER:
            failed += 1
            continue
        times.append(time.monotonic() - started)
        time.sleep(0.05)
    return times, failed


def recovery(port: int, content: bytes) -> float:
    """Seconds until an answer comes, `CROWD_TIMEOUT` at most."""
    started = time.monotonic()
    while time.monotonic() < started + CROWD_TIMEOUT:
        with suppress(*NO_ANSWER):
            if ask(port, "POST", "/api/predict", content, PNG, timeout=NORMAL_TIMEOUT)[0] == 200:
                break
    return time.monotonic() - started


def told(times: list[float], failed: int) -> str:
    """A normal client's answers in words."""
    if not times:
        return f"no answer to {failed} requests in {NORMAL_TIMEOUT:.0f} s each"
    middle, worst = (1000 * percentile(times, part) for part in (0.5, 0.99))
    return f"p50 {middle:.0f} ms, p99 {worst:.0f} ms, {len(times)} answers, {failed} failed"


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


def slow(port: int, head: bytes, drip: bytes, ends: list[float]) -> Callable[[], Awaitable[None]]:
    """A client that sends `head` and then `drip` at a byte a second; `ends` gets its seconds."""

    async def client() -> None:
        reader, writer = await _connect(port)
        started = time.monotonic()
        try:
            writer.write(head)
            at = 0
            while not reader.at_eof():
                writer.write(drip[at % len(drip) : at % len(drip) + 1])
                await writer.drain()
                at += 1
                with suppress(asyncio.TimeoutError):
                    if not await asyncio.wait_for(reader.read(4096), 1):
                        break
            ends.append(time.monotonic() - started)
        except OSError:
            ends.append(time.monotonic() - started)
        finally:
            writer.close()

    return client


def silent(port: int) -> Callable[[], Awaitable[None]]:
    """A client that connects and says nothing, again and again."""

    async def client() -> None:
        while True:
            try:
                reader, writer = await _connect(port)
            except OSError:
                await asyncio.sleep(1)
                continue
            try:
                await reader.read(1)
            except OSError:
                continue
            finally:
                writer.close()

    return client


def one_request(
    port: int, content: bytes, idle: float, answers: list[str], times: list[float]
) -> Callable[[], Awaitable[None]]:
    """A client that connects, waits `idle` seconds and then makes one request."""
    message = request_bytes(content, keep=False)

    async def client() -> None:
        writer = None
        try:
            reader, writer = await _connect(port)
            await asyncio.sleep(idle)
            started = time.monotonic()
            writer.write(message)
            await writer.drain()
            answer = await asyncio.wait_for(reader.read(-1), CROWD_TIMEOUT)
            times.append(time.monotonic() - started)
            answers.append(answer[9:12].decode() or "closed without an answer")
        except (OSError, asyncio.TimeoutError) as error:
            answers.append(type(error).__name__)
        finally:
            if writer is not None:
                writer.close()

    return client


def slow_clients(
    server: Server, content: bytes, *, seconds: float, most_delay: float
) -> list[Outcome]:
    """A normal client's answers beside slow and silent ones."""
    port, name = server.port, "slow clients"
    plain = normal_client(port, content, seconds)
    rows = [judged(name, "a normal client alone", told(*plain), good=plain[1] == 0)]
    ends: list[float] = []
    crowds = {
        "100 connections that send a head at a byte a second": (
            100,
            slow(port, SLOW_HEAD, HEADERS, ends),
        ),
        "100 connections that send a body at a byte a second": (
            100,
            slow(port, SLOW_BODY, b"\0", ends),
        ),
        "100 silent connections": (100, silent(port)),
        "1,000 silent connections": (1000, silent(port)),
    }
    for fault, (count, client) in crowds.items():
        ends.clear()
        with Crowd(count, client):
            time.sleep(2)
            times, failed = normal_client(port, content, seconds)
            closed = f"; {len(ends)} of the slow ones were closed" if "send" in fault else ""
        back = recovery(port, content)
        again = f"; the next answer {back:.1f} s after they left"
        good = not failed and percentile(times, 0.99) <= most_delay and back < NORMAL_TIMEOUT
        aside = f" (a normal client's p99 is to be {most_delay:g} s at most)"
        rows.append(judged(name, fault + aside, told(times, failed) + closed + again, good=good))
    rows += [_many(server, content, idle) for idle in (0.0, 3.0)]
    rows += _gone(server, content)
    return rows


def _many(server: Server, content: bytes, idle: float) -> Outcome:
    answers: list[str] = []
    times: list[float] = []
    client = one_request(server.port, content, idle, answers, times)
    with Crowd(1000, client) as crowd, suppress(TimeoutError):
        crowd.wait(CROWD_TIMEOUT + 60)
    counts = Counter(answers)
    shown = ", ".join(f"{answer}: {count}" for answer, count in counts.most_common())
    fault = f"1,000 connections at once, {idle:g} s idle, and then a request on each"
    slowest = f"; the slowest answer after {max(times, default=float('inf')):.1f} s"
    return judged("slow clients", fault, shown + slowest, good=counts["200"] == 1000)


def _gone(server: Server, content: bytes, count: int = 200) -> list[Outcome]:
    """Clients that end in the middle of what they send."""
    whole = request_bytes(content, keep=True)
    head_end = whole.index(b"\r\n\r\n") + 4
    cuts = {"head": head_end // 2, "body": (head_end + len(whole)) // 2}
    rows = []
    recovery(server.port, content)
    before, workers = [descriptors(pid) for pid in server.workers()], server.workers()
    for place, cut in cuts.items():
        for how in ("shuts its write side", "closes", "resets"):
            ends: Counter[str] = Counter()
            for _ in range(count):
                ends[_cut_short(server.port, whole[:cut], how)] += 1
            times, failed = normal_client(server.port, content, 2)
            shown = ", ".join(f"{end}: {number}" for end, number in ends.most_common())
            fault = f"{count} clients, one after the other, each {how} midway in the {place}"
            happened = f"{shown}; after it {told(times, failed)}"
            good = not failed and server.workers() == workers and "nothing in 15 s" not in ends
            rows.append(judged("slow clients", fault, happened, good=good))
    time.sleep(12)  # what is silent is given up after 10 s
    after = [descriptors(pid) for pid in server.workers()]
    rows.append(
        judged(
            "slow clients",
            "open files of each worker before and after those clients",
            f"{before} and {after}",
            good=all(new <= old + 10 for old, new in zip(before, after, strict=False)),
        )
    )
    return rows


def _cut_short(port: int, part: bytes, how: str) -> str:
    """Sends a part of a request and goes; in words what the server then said."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        connection.sendall(part)
        if how == "resets":
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if how != "shuts its write side":
            return "gone"
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(65536)
        except TimeoutError:
            return "nothing in 15 s"
        except OSError as error:
            return type(error).__name__
    return answer[9:12].decode() or "closed"


def schemathesis(
    server: Server, content: bytes, *, environment: Path, seed: int, examples: int, folder: Path
) -> list[Outcome]:
    """Schemathesis' positive and negative data: from the document, and from one that knows more."""
    program = environment / "bin" / "schemathesis"
    if not program.is_file():
        venv.create(environment, with_pip=True)
        install = [str(environment / "bin" / "pip"), "install", "-q", "schemathesis"]
        if subprocess.run(install, check=False).returncode:
            fault = "positive and negative data"
            return [Outcome("schemathesis", fault, "it cannot be installed here", SKIPPED)]
    settings = f"[checks]\nnegative_data_rejection.expected-statuses = {list(REJECTED)}\n"
    (folder / "schemathesis.toml").write_text(settings)
    document = json.loads(ask(server.port, "GET", "/openapi.json")[1])
    rows = []
    for aside in ("", "; the document with the models' names and a picture"):
        path = folder / "openapi.json"
        path.write_text(json.dumps(_with_more(document, server, content) if aside else document))
        command = [
            str(program),
            "--no-color",
            "run",
            str(path),
            f"--url=http://127.0.0.1:{server.port}",
            "--checks=all",
            f"--exclude-checks={','.join(LEFT_OUT)}",
            "--mode=all",
            "--continue-on-failure",
            f"--max-examples={examples}",
            f"--seed={seed}",
            "--suppress-health-check=all",
            "--generation-database=none",
            "--report=json",
            f"--report-json-path={folder / 'schemathesis.json'}",
        ]
        rows.append(_checked(server, command, folder, aside))
    return rows


def _with_more(document: dict[str, Any], server: Server, content: bytes) -> dict[str, Any]:
    """The document with what makes requests reach the models."""
    more: dict[str, Any] = json.loads(json.dumps(document))
    operation = more["paths"]["/api/predict"]["post"]
    listed = json.loads(ask(server.port, "GET", "/api/models")[1])["models"]
    models = {"type": "string", "enum": [each["name"] for each in listed]}
    for parameter in operation["parameters"]:
        if parameter["name"] == "model":
            parameter["schema"] = models
    form, text = (
        operation["requestBody"]["content"][kind]
        for kind in ("multipart/form-data", "application/json")
    )
    picture = {"type": "string", "enum": [base64.b64encode(content).decode()]}
    for schema in (form["schema"], text["schema"]):
        schema["properties"]["model"] = models
    text["schema"]["properties"]["image"] = picture
    text["schema"]["properties"]["images"]["items"] = picture
    return more


def _checked(server: Server, command: list[str], folder: Path, aside: str) -> Outcome:
    """One run of schemathesis."""
    workers, log = server.workers(), folder / "schemathesis.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        try:
            status = process.wait(3600)
        finally:
            process.kill()
            process.wait()
    said = json.loads((folder / "schemathesis.json").read_text())
    counts, same = said["test_cases"], server.workers() == workers
    happened = (
        f"{counts['generated']} requests to {said['operations']['tested']} operations, "
        f"{counts['unique_failures']} kinds of failures, {counts['errored']} errors, workers "
        f"{'the same' if same else 'REPLACED'}, {said['running_time']:.0f} s"
    )
    left_out = "; ".join(f"without {check}: {reason}" for check, reason in LEFT_OUT.items())
    fault = f"schemathesis {said['schemathesis_version']}, all checks ({left_out}){aside}"
    return judged("schemathesis", fault, happened, good=status == 0 and same)

"""What damaged pictures, attackers, signals and hours of both do to a running server.

    python benchmarks/robustness.py [mutants attacks slow signals soak] [--checkout DIR]
        [--out FILE]

Serves the checkout by gunicorn as it is shipped (Linux only) and prints a Markdown table. While a
fault lasts, an honest client sends a digit and another asks for /healthz, each twice a second; the
table has their times and the most memory that a worker took. Exits with 1 where an answer was none
or a 5xx other than 503, an honest request failed, a worker was lost or a `BAR` was not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import random
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.server import (
    NO_ANSWER,
    PNG,
    TOP,
    Server,
    ask,
    free_ports,
    gunicorn,
    percentile,
    pss_mb,
)

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF", "TIFF", "ICO", "PPM")
MODES = ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16")
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)
BLOCKS = (1, 2, 4, 16, 64, 256, 1024)
JSON = {"Content-Type": "application/json"}
BYTES = {"Content-Type": "application/octet-stream"}
PACE = 0.5  # seconds from one honest request to the next
BAR = 1.5, 1.0, 1000.0  # s of a digit (p99), s of /healthz (the slowest), MB of a worker
DIGIT = (TOP / "docs" / "seven.png").read_bytes()
PHOTO = TOP / "tests" / "photos" / "family.jpg"


@dataclass(frozen=True)
class Row:
    """A row of the report: what was done, what happened, and whether that will do."""

    fault: str
    happened: str
    is_good: bool


@contextmanager
def serving(options: argparse.Namespace, *before: str) -> Iterator[Server]:
    """A new server of the checkout, all its workers up; `before` goes before its command."""
    (port,) = free_ports(1)
    checkout = options.checkout.resolve()
    with tempfile.TemporaryDirectory(prefix="glimpse-") as folder:
        log = Path(folder) / "log"
        with Server([*before, *gunicorn(checkout, port)], port, log, folder=checkout) as server:
            time.sleep(2)  # gunicorn starts its workers one after the other
            yield server


# --- mutants ----------------------------------------------------------------------------------


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def sources() -> list[bytes]:
    """A digit and a photo in every format and mode that Pillow writes, and requests in JSON."""
    digit = Image.open(io.BytesIO(DIGIT)).convert("RGB").resize((96, 96))
    photo = Image.open(PHOTO).convert("RGB").reduce(3)
    turned = Image.Exif()
    turned[0x0112] = 6
    frames = {"save_all": True, "append_images": [digit.rotate(90)]}
    found = [encoded(photo, "JPEG"), encoded(photo, "JPEG", progressive=True, exif=turned)]
    for kind in FORMATS:
        for mode in MODES:
            with suppress(OSError, ValueError, KeyError):  # the format has no such mode
                found.append(encoded(digit.convert("L").convert(mode), kind))
    found += [encoded(digit, kind, **frames) for kind in ("PNG", "WEBP", "GIF", "TIFF")]
    for body in ({"image": ""}, {"images": ["", ""], "model": "digits"}):
        text = json.dumps(body).replace('""', json.dumps(base64.b64encode(DIGIT).decode()))
        found.append(text.encode())
    return found


def damaged(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """The file with one fault, mostly in its head: bytes changed, lost, repeated or another's."""
    start = chance.randrange(min(len(content), 100) if chance.random() < 0.5 else len(content))
    end = start + chance.choice(BLOCKS)
    form = chance.choice(("<H", ">H", "<I", ">I"))
    size = chance.choice(EDGES) % 2 ** (8 * struct.calcsize(form))
    choices = (
        content[:start] + bytes([chance.randrange(256)]) + content[start + 1 :],
        content[:start] + struct.pack(form, size) + content[start + struct.calcsize(form) :],
        content[:start],
        content[:start] + content[end:],
        content[:end] + content[start:end] * chance.choice((1, 10, 200)) + content[end:],
        content[:start] + other[chance.randrange(len(other)) :],
        other[:end] + content[end:],
    )
    return chance.choice(choices) or b"\0"


def with_checksums(content: bytes) -> bytes:
    """A PNG whose checksums are right again, so that its faults are looked at."""
    new, at = bytearray(content), 8
    while new[:4] == b"\x89PNG" and at + 12 <= len(new):
        end = at + 8 + struct.unpack_from(">I", new, at)[0]
        if end + 4 <= len(new):
            struct.pack_into(">I", new, end, zlib.crc32(new[at + 4 : end]))
        at = end + 4
    return bytes(new)


def mutant(seed: int, index: int, pictures: list[bytes]) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers of the `index`-th request, always the same one."""
    chance = random.Random(f"{seed} {index}")
    body = source = chance.choice(pictures)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        body = damaged(body, chance.choice(pictures), chance)
    if chance.random() < 0.8:
        body = with_checksums(body)
    query = chance.choice(("", "", "?model=emotions", "?model=emotions&faces=whole", "?explain=1"))
    return "/api/predict" + query, body, JSON if source[:1] == b"{" else PNG


def wrong(status: int, body: bytes) -> str:
    """What is wrong with an answer; empty where nothing is."""
    try:
        answer = json.loads(body)
        if status == 200:
            for result in answer["results"]:
                for one in result.get("faces", result.get("subjects", [])):
                    total = sum(each["score"] for each in one["predictions"])
                    if abs(total - 1) > 1e-3:
                        return f"scores whose sum is {total}"
        elif not 400 <= status < 500 or answer["status"] != status or not answer["detail"]:
            return f"status {status}: {body[:200]!r}"
    except (ValueError, KeyError, TypeError) as error:
        return f"status {status}, {type(error).__name__} {error}: {body[:200]!r}"
    return ""


def mutants(options: argparse.Namespace) -> Iterator[Row]:
    """Damaged files, four at a time."""
    pictures = sources()

    def send(port: int, index: int) -> tuple[int, str, float]:
        path, body, headers = mutant(options.seed, index, pictures)
        began = time.monotonic()
        try:
            status, answer = ask(port, path, body, headers)
        except NO_ANSWER as error:
            return 0, f"{type(error).__name__}: {error}", time.monotonic() - began
        return status, wrong(status, answer), time.monotonic() - began

    with serving(options) as server:
        with Watch(server) as watch, ThreadPoolExecutor(4) as pool:
            found = list(pool.map(partial(send, server.port), range(options.mutants)))
        faults = [f"{index}: {fault}" for index, (_, fault, _) in enumerate(found) if fault]
        slowest = max(seconds for _, _, seconds in found)
        said = f"{in_words(Counter(status for status, _, _ in found))}; slowest {slowest:.1f} s; "
        shown = "".join(f"; mutant {each}" for each in faults[:5])
        yield watch.row(
            f"{options.mutants} mutated files, seed {options.seed}", said, shown, not faults
        )


# --- files ------------------------------------------------------------------------------------

# How much of a file Chromium shows: what is damaged or cut short loads, but makes no bitmap.
SHOWN = """async (base64) => {
  const file = new Blob([Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0))]);
  const image = new Image();
  image.src = URL.createObjectURL(file);
  const loads = await image.decode().then(() => true, () => image.naturalWidth > 0);
  const isWhole = await createImageBitmap(file).then(() => true, () => false);
  URL.revokeObjectURL(image.src);
  return isWhole ? "whole" : loads ? "in part" : "not";
}"""


def files(options: argparse.Namespace) -> Iterator[Row]:
    """Every file of a folder; what Chromium shows whole is to be read, or known for what it is."""
    from playwright.sync_api import sync_playwright

    found: dict[tuple[str, str], Counter[str]] = {}
    faults: Counter[tuple[str, str]] = Counter()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with serving(options) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        for file in sorted(each for each in options.folder.rglob("*") if each.is_file()):
            content = file.read_bytes()
            shown = page.evaluate(SHOWN, base64.b64encode(content).decode())
            status, answer = ask(server.port, "/api/predict", content, BYTES)
            is_read = status in (200, 422)
            said = "read" if is_read else json.loads(answer)["detail"].partition(". ")[0]
            kind = file.suffix.lower(), shown
            found.setdefault(kind, Counter())[said] += 1
            unknown = shown == "whole" and said.startswith("This is not")
            faults[kind] += bool(wrong(status, answer)) or unknown
    for kind, said in sorted(found.items()):
        suffix, shown = kind
        yield Row(f"{suffix}, shown {shown}", in_words(said), not faults[kind])


# --- attacks ----------------------------------------------------------------------------------


class Watch:
    """Honest clients and the memory of the workers, as long as the context lasts."""

    def __init__(self, server: Server) -> None:
        self.server, self.workers = server, server.workers
        self.times: dict[str, list[float]] = {"/api/predict": [], "/healthz": []}
        self.failed: Counter[str] = Counter()
        self.peak_mb = 0.0
        self._end = threading.Event()
        tasks = (self._weigh, *(partial(self._ask, path) for path in self.times))
        self._threads = [threading.Thread(target=each) for each in tasks]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, path: str) -> None:
        """Asks for `path` at a steady pace, whether or not the server keeps up."""
        body = DIGIT if path == "/api/predict" else None

        def once() -> None:
            began = time.monotonic()
            try:
                status, _ = ask(self.server.port, path, body)
            except NO_ANSWER as error:
                self.failed[f"{path}: {type(error).__name__}"] += 1
            else:
                self.times[path].append(time.monotonic() - began)
                if status != 200:
                    self.failed[f"{path}: {status}"] += 1

        with ThreadPoolExecutor(130) as pool:
            while not self._end.wait(PACE):
                pool.submit(once)

    def _weigh(self) -> None:
        while not self._end.wait(0.2):
            self.peak_mb = max(self.peak_mb, *map(pss_mb, self.workers))

    def row(self, fault: str, said: str, more: str = "", is_good: bool = True) -> Row:
        """The report's row, which is good where no honest request failed and the bars were kept."""
        same = self.server.workers == self.workers
        digits, alive = self.times.values()
        found = percentile(digits, 0.99), max(alive, default=float("inf")), self.peak_mb
        kept = all(value < bar for value, bar in zip(found, BAR, strict=True))
        told = f"{said}digit p50 {1000 * percentile(digits, 0.5):,.0f}, p99 {1000 * found[0]:,.0f} "
        told += f"ms of {len(digits)}; /healthz at most {1000 * found[1]:,.0f} ms; "
        told += f"a worker at most {self.peak_mb:,.0f} MB"
        told += f"; FAILED: {in_words(self.failed)}" if self.failed else ""
        told += "" if same else "; WORKERS LOST"
        return Row(fault, told + more, is_good and same and kept and not self.failed)


Client = Callable[[int, "Counter[str]"], Awaitable[None]]


def request(path: str, body: bytes, headers: dict[str, str] = PNG) -> bytes:
    """A whole request as it goes over the wire."""
    kind = headers["Content-Type"]
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}"
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def send(message: bytes, drip: bytes, share: float, port: int, said: Counter[str]) -> None:
    """Sends a share of a message, then `drip` a byte a second, and notes the answer's status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(message[: int(len(message) * share)])  # it goes out while the answer is read
        while drip and not reader.at_eof():
            writer.write(drip[:1])
            drip = drip[1:] + drip[:1]
            await writer.drain()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(reader.read(4096), 1)
        if share == 1:
            said[(await reader.read())[9:12].decode() or "closed"] += 1
        elif not message:
            await reader.read()
    finally:
        writer.close()


def crowd(count: int, client: Client, port: int, seconds: float) -> Counter[str]:
    """So many clients, each again and again; how their requests ended.

    In a process of its own, so that it does not slow the honest clients down itself.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_crowd, count, client, port, seconds).result()


def _crowd(count: int, client: Client, port: int, seconds: float) -> Counter[str]:
    return asyncio.run(_many(count, client, port, seconds))


async def _many(count: int, client: Client, port: int, seconds: float) -> Counter[str]:
    said: Counter[str] = Counter()

    async def again() -> None:
        while True:
            try:
                await client(port, said)
            except OSError as error:
                said[type(error).__name__] += 1
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(again()) for _ in range(count)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return said


def infer(values: list[Any], count: int = 1024) -> bytes:
    """A request of the Open Inference Protocol for `count` faces."""
    tensor = {"name": "pictures", "shape": [count, 1, 48, 48], "datatype": "UINT8", "data": values}
    return request("/v2/models/emotions/infer", json.dumps({"inputs": [tensor]}).encode(), JSON)


def changed(content: bytes, count: int) -> list[bytes]:
    """So many files that differ only after the picture's end."""
    return [content + number.to_bytes(2, "big") for number in range(count)]


def as_json(pictures: list[bytes]) -> bytes:
    """A request for all of the pictures."""
    images = [base64.b64encode(picture).decode() for picture in pictures]
    return request("/api/predict", json.dumps({"images": images}).encode(), JSON)


def as_form(content: bytes) -> bytes:
    """A form that holds a file."""
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    return request("/api/predict", part + content + b"\r\n--x--\r\n", kind)


def attacks(options: argparse.Namespace) -> Iterator[Row]:
    """Crowds of bad clients, each kind against a new server."""
    large = Image.open(io.BytesIO(DIGIT)).convert("L").resize((4400, 4400))
    bomb = encoded(Image.new("1", (20000, 20000)), "PNG")
    digit, faces = request("/api/predict", DIGIT), 1024 * 48 * 48
    flat = Image.new("RGB", (7071, 7071), "white")
    webps = [
        encoded(flat.resize((size, size)), "WEBP", lossless=True, method=0, quality=0)
        for size in (7071, 5000)
    ]
    escaped = "".join(f"%{sign:02X}" for sign in base64.b64encode(bytes(4_000_000)))
    url = json.dumps({"image": f"data:image/png;base64,{escaped[:16_700_000]}"}).encode()
    bmp = encoded(Image.effect_noise((2236, 2236), 90).convert("RGB"), "BMP")
    slow_head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\n"
    slow_body = slow_head + b"Content-Type: image/png\r\nContent-Length: 100000\r\n\r\n"
    kinds: dict[str, tuple[int, bytes, bytes, float]] = {
        "nobody else": (0, b"", b"", 1),
        "100 that send a head at a byte a second": (100, slow_head, b"X-Slow: 1\r\n", 1),
        "100 that send a body at a byte a second": (100, slow_body, b"\0", 1),
        "1,000 silent": (1000, b"", b"", 0),
        "100 that leave midway": (100, digit, b"", 0.5),
        "64 that send digits": (64, digit, b"", 1),
        "8 that send 100 digits in a request": (8, as_json(changed(DIGIT, 100)), b"", 1),
        "8 that send 19 megapixels": (8, request("/api/predict", encoded(large, "PNG")), b"", 1),
        "8 that send 400 megapixels in 50 kB": (8, request("/api/predict", bomb), b"", 1),
        "8 that send 17 MB": (8, request("/api/predict", bytes(17_000_000)), b"", 1),
        "8 that send a photo with explain": (
            8,
            request("/api/predict?model=emotions&explain=1", PHOTO.read_bytes()),
            b"",
            1,
        ),
        "8 that send 1,024 faces to /v2": (8, infer([128] * faces), b"", 1),
        "8 that send texts among the numbers to /v2, 7 MB": (
            8,
            infer([0] * (faces - 1) + ["x" * 60_000]),
            b"",
            1,
        ),
        "8 that send empty lists among the numbers to /v2, 10 MB": (
            8,
            infer([0, []] * (faces // 2)),
            b"",
            1,
        ),
        "4 that send a WebP of 50 megapixels 100 times": (4, as_json([webps[0]] * 100), b"", 1),
        "4 that send 100 different WebPs of 25 megapixels": (
            4,
            as_json(changed(webps[1], 100)),
            b"",
            1,
        ),
        "64 that send a percent-encoded data: URL of 16 MB": (
            64,
            request("/api/predict", url, JSON),
            b"",
            1,
        ),
        "40 that send a form of 15 MB": (40, as_form(bmp), b"", 1),
    }
    for name, (count, message, drip, share) in kinds.items():
        if options.only not in name:
            continue
        client = partial(send, message, drip, share)
        with serving(options) as server:
            with Watch(server) as watch:
                said = crowd(count, client, server.port, options.seconds)
            good = not any(end.startswith("5") and end != "503" for end in said)
            yield watch.row(name, f"{in_words(said)}; " if said else "", "", good)


# --- slow clients -----------------------------------------------------------------------------


class Visitor(threading.Thread):
    """An honest client that asks for one thing, again and again; how long each answer took."""

    def __init__(self, port: int, every_s: float, path: str, body: bytes | None = None) -> None:
        super().__init__(daemon=True)
        self.port, self.every_s, self.path, self.body = port, every_s, path, body
        self.times: list[float] = []
        self.failed = 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Asks until `ended` is set."""
        while not self.ended.wait(self.every_s):
            began, status = time.monotonic(), 0
            with suppress(*NO_ANSWER):
                status, _ = ask(self.port, self.path, self.body, timeout=SLOW_SECONDS)
            self.failed += status != 200
            self.times.append(time.monotonic() - began)


async def hold(port: int, message: bytes, drip: bytes, until: float) -> None:
    """Sends a message, then a byte of `drip` each 8 seconds, and reads no answer; again if closed.

    Only so many bytes fit into what is not read that a large answer waits on the server's side.
    """
    while time.monotonic() < until:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            with suppress(OSError, asyncio.TimeoutError):
                loop = asyncio.get_running_loop()
                await asyncio.wait_for(loop.sock_connect(connection, ("127.0.0.1", port)), 5)
                await asyncio.wait_for(loop.sock_sendall(connection, message), 5)
                while drip and time.monotonic() < until:
                    await asyncio.sleep(8)
                    await asyncio.wait_for(loop.sock_sendall(connection, drip[:1]), 1)
                await asyncio.sleep(max(0, until - time.monotonic()))
        await asyncio.sleep(0.5)


SLOW_SECONDS = 30.0  # after which a visitor gives up
HEAD = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\n"
ANSWERED = b"GET /api/models HTTP/1.1\r\nHost: localhost\r\n"  # 19 KB in half a millisecond


def slow(options: argparse.Namespace) -> Iterator[Row]:
    """Clients that take their time, each kind against a new server."""
    body = HEAD + b"Content-Type: image/png\r\nContent-Length: %d\r\n\r\n"
    kinds: dict[str, tuple[int, bytes, bytes, int]] = {
        "nobody else": (0, b"", b"", 0),
        "300 that send a byte of the head each 8 s": (300, HEAD, b"X", 0),
        "300 that send a byte of the body each 8 s": (300, body % 100_000, b"\0", 0),
        "300 that send a byte of 100 MB each 8 s": (300, body % 100_000_000, b"\0", 0),
        "300 that ask 500 times and read nothing": (
            300,
            (ANSWERED + b"\r\n") * 500,
            b"",
            0,
        ),
        "300 that do not close what is closed": (
            300,
            ANSWERED + b"Connection: close\r\n\r\n",
            b"",
            0,
        ),
        "200 silent, 64 open files": (200, b"", b"", 64),
    }
    for name, (count, message, drip, files) in kinds.items():
        with serving(
            options, *(["prlimit", f"--nofile={files}:{files}"] if files else [])
        ) as server:
            until = time.monotonic() + options.seconds

            async def crowd_of(
                count: int = count,
                arguments: tuple[Any, ...] = (server.port, message, drip, until),
            ) -> None:
                await asyncio.gather(*(hold(*arguments) for _ in range(count)))

            workers = server.workers
            attack = threading.Thread(target=asyncio.run, args=(crowd_of(),), daemon=True)
            attack.start()
            time.sleep(3)
            health = Visitor(server.port, 0.25, "/healthz")
            digit = Visitor(server.port, 0.5, "/api/predict", DIGIT)
            for visitor in (health, digit):
                visitor.start()
            time.sleep(max(0, until - time.monotonic()))
            for visitor in (health, digit):
                visitor.ended.set()
                visitor.join()
            attack.join()
            slowest, last = max(health.times), percentile(digit.times, 0.99)
            failed, lost = health.failed + digit.failed, server.workers != workers
            said = (
                f"/healthz at most {slowest:.2f} s of {len(health.times)}, a digit p99 {last:.2f} "
                f"s of {len(digit.times)}; {failed} without an answer"
                + ("; WORKERS LOST" if lost else "")
            )
            yield Row(name, said, not lost and not failed and slowest < 1 and last < 1.5)


# --- signals ----------------------------------------------------------------------------------


def signals(options: argparse.Namespace) -> Iterator[Row]:
    """What is lost where a worker is killed and where gunicorn is told to reload or to end."""
    for number in (signal.SIGKILL, signal.SIGHUP, signal.SIGTERM):
        ends: Counter[str] = Counter()
        stop = threading.Event()

        def load(port: int, ends: Counter[str] = ends, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                try:
                    ends[str(ask(port, "/api/predict", DIGIT)[0])] += 1
                except ConnectionRefusedError:
                    ends["refused"] += 1
                    time.sleep(0.1)
                except NO_ANSWER as error:
                    ends[f"lost ({type(error).__name__})"] += 1

        with serving(options) as server, ThreadPoolExecutor(12) as pool:
            for _ in range(12):
                pool.submit(load, server.port)
            time.sleep(options.seconds / 2)
            killed = number == signal.SIGKILL
            os.kill(server.workers[0] if killed else server.process.pid, number)
            if number == signal.SIGTERM:
                server.process.wait(60)
            else:
                time.sleep(options.seconds)
            stop.set()
        lost = sum(count for end, count in ends.items() if end not in ("200", "refused"))
        # A killed worker takes with it what it held.
        yield Row(f"{number.name}, 12 clients", in_words(ends), lost <= (12 if killed else 0))


# --- soak -------------------------------------------------------------------------------------


def soak(options: argparse.Namespace) -> Iterator[Row]:
    """Good and bad requests of four clients for minutes; memory is to stay."""
    pictures, end = sources(), time.monotonic() + 60 * options.minutes
    statuses: Counter[int] = Counter()

    def client(port: int, index: int) -> None:
        while time.monotonic() < end:
            index += 1
            with suppress(*NO_ANSWER):
                statuses[ask(port, *mutant(options.seed, index, pictures))[0]] += 1
                continue
            statuses[0] += 1

    weights: list[float] = []
    with serving(options) as server:
        with Watch(server) as watch, ThreadPoolExecutor(4) as pool:
            for number in range(4):
                pool.submit(client, server.port, 10**6 * (number + 1))
            while time.monotonic() < end:
                time.sleep(2 * options.minutes)
                weights.append(server.memory_mb)
        third = max(1, len(weights) // 3)
        parts = (weights[-2 * third : -third], weights[-third:])
        before, after = (sum(part) / third for part in parts)
        said = f"{in_words(statuses)}; middle third {before:.0f} MB, last third {after:.0f} MB; "
        good = after <= before * 1.05 + 10 and all(0 < status < 500 for status in statuses)
        yield watch.row(f"{options.minutes:g} minutes of mutated files", said, "", good)


def in_words(ends: Counter[Any]) -> str:
    return ", ".join(f"{end}: {count:,}" for end, count in ends.most_common())


SECTIONS = {
    "files": files,
    "mutants": mutants,
    "attacks": attacks,
    "slow": slow,
    "signals": signals,
    "soak": soak,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    add = parser.add_argument
    add("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; default: all but files")
    add("--folder", type=Path, metavar="DIR", help="of the pictures that files sends")
    add("--checkout", type=Path, default=TOP, metavar="DIR", help="what is served")
    add("--out", type=Path, metavar="FILE", help="for the table")
    add("--seed", type=int, default=1)
    add("--mutants", type=int, default=5000)
    add("--seconds", type=float, default=20, help="that an attack lasts")
    add("--only", default="", help="attacks whose names hold this text")
    add("--minutes", type=float, default=10, help="that the soak lasts")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"there is no section {unknown.pop()}; known are {', '.join(SECTIONS)}")
    sections = options.sections or [name for name in SECTIONS if name != "files"]
    if "files" in sections and not (options.folder and options.folder.is_dir()):
        parser.error("files needs --folder, a folder of pictures")
    lines, is_good = ["| fault | what happened | |", "| --- | --- | --- |"], True
    print("\n".join(lines))
    for name in sections:
        for row in SECTIONS[name](options):
            is_good &= row.is_good
            cells = row.fault, row.happened, "pass" if row.is_good else "**FAIL**"
            lines.append(f"| {' | '.join(each.replace('|', '/') for each in cells)} |")
            print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())

"""For robustness.py: faults of processes, checkpoints and disks, and the soak."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.robustness_clients import CROWD_TIMEOUT, Crowd, one_request
from benchmarks.robustness_mutations import case, drawn, encoded, face_model
from benchmarks.robustness_server import (
    NO_ANSWER,
    PNG,
    SKIPPED,
    STOP_SECONDS,
    TOP,
    Attempt,
    Bench,
    Load,
    Outcome,
    Server,
    ServerError,
    ask,
    ask_json,
    is_flat,
    judged,
    request_bytes,
    sockets,
    tree_pss,
)

BACK = 30.0  # seconds after which a new worker is to be there
STALE = "closed between requests"
NOBODY = 65534


# --- signals ----------------------------------------------------------------------------------


def tally(attempts: list[Attempt]) -> Counter[str]:
    """How requests ended: answered, refused, closed between requests, or lost."""
    ends: Counter[str] = Counter()
    for each in attempts:
        if not each.error:
            ends["answered" if each.status == 200 else f"status {each.status}"] += 1
        elif each.error == "refused":
            ends["refused"] += 1
        elif not each.is_first and not each.has_begun:
            ends[STALE] += 1
        else:
            ends[f"lost ({each.error}{' midway' if each.has_begun else ''})"] += 1
    return ends


def in_words(ends: Counter[str]) -> str:
    """The tally as a list."""
    return ", ".join(f"{count} {end}" for end, count in ends.most_common())


def failures(ends: Counter[str], *admitted: str) -> int:
    """How many requests ended otherwise than answered or as `admitted`."""
    return sum(count for end, count in ends.items() if end not in ("answered", *admitted))


def killed_worker(bench: Bench) -> Outcome:
    """`kill -9` of a worker under load."""
    with bench.server() as server, Load(server.port, bench.picture) as load:
        load.warm()
        before = server.workers()
        victim = before[0]
        os.kill(victim, signal.SIGSTOP)  # so that what it holds can be counted
        time.sleep(0.05)
        held = sockets(victim)
        moment = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        while len(server.workers()) < len(before) or victim in server.workers():
            if time.monotonic() - moment > BACK:
                break
            time.sleep(0.02)
        replaced = time.monotonic() - moment
        load.warm()
        attempts = list(load.attempts)
    ends = tally(attempts)
    failed = failures(ends)
    ended = [each.sent + each.seconds for each in attempts if not each.error]
    meanwhile = sum(moment < end < moment + max(1, replaced) for end in ended)
    happened = (
        f"{in_words(ends)}; the worker held {held} connections; a new one after {replaced:.2f} s; "
        f"{meanwhile} answers until then, or in the first second"
    )
    good = failed <= held and replaced < BACK and meanwhile > 0
    fault = "kill -9 of a worker under load: only what it held may fail"
    return judged("signals", fault, happened, good=good)


def terminated(bench: Bench) -> list[Outcome]:
    """SIGTERM under load."""
    with bench.server() as server, Load(server.port, bench.picture) as load:
        load.warm()
        moment = time.monotonic()
        os.kill(server.master, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(STOP_SECONDS)
        took, status = time.monotonic() - moment, server.process.returncode
        time.sleep(0.5)
    early = tally([each for each in load.attempts if each.sent <= moment])
    late = tally([each for each in load.attempts if each.sent > moment])
    return [
        judged(
            "signals",
            "SIGTERM under load: requests sent before it",
            f"{in_words(early)}; the server ended after {took:.1f} s with {status}",
            good=not failures(early) and status == 0,
        ),
        judged(
            "signals",
            "SIGTERM under load: requests sent after it, until connections are refused",
            in_words(late),
            good=not failures(late, "refused"),
        ),
    ]


def reloaded(bench: Bench, times: int = 3) -> Outcome:
    """SIGHUP under load."""
    with bench.server() as server:
        with Load(server.port, bench.picture) as load:
            for _ in range(times):
                load.warm()
                before = server.workers()
                os.kill(server.master, signal.SIGHUP)
                deadline = time.monotonic() + STOP_SECONDS
                while set(before) & set(server.workers()) and time.monotonic() < deadline:
                    time.sleep(0.1)
            load.warm()
            left = set(before) & set(server.workers())
        ends = tally(load.attempts)
    fault = f"SIGHUP under load, {times} times: no request is lost"
    happened = f"{in_words(ends)}; {len(left)} old workers left"
    return judged("signals", fault, happened, good=not failures(ends) and not left)


def recycled(bench: Bench, seconds: float = 20) -> Outcome:
    """Workers that end after 50 requests each."""
    with bench.server(arguments=["--max-requests", "50"]) as server:
        first = server.workers()
        with Load(server.port, bench.picture) as load:
            time.sleep(seconds)
        ends = tally(load.attempts)
        other = not set(first) & set(server.workers())
    fault = "--max-requests 50 under load: nothing lost but connections closed between requests"
    seconds_each = [each.seconds for each in load.attempts if not each.error]
    slowest = f"; the slowest answer after {max(seconds_each, default=0):.1f} s"
    return judged(
        "signals", fault, in_words(ends) + slowest, good=not failures(ends, STALE) and other
    )


def fresh_workers(bench: Bench, rounds: int) -> Outcome:
    """Workers whose first requests come all at once."""
    answers: list[str] = []
    with bench.server() as server:
        count = len(server.workers())
        for _ in range(rounds):
            old = server.workers()
            for worker in old:
                os.kill(worker, signal.SIGKILL)
            while set(old) & set(server.workers()):
                time.sleep(0.01)
            # They wait in the listener's queue until there are workers again.
            client = one_request(server.port, bench.picture, 0, answers, [])
            with Crowd(16 * count, client) as crowd:
                crowd.wait(CROWD_TIMEOUT)
    ends = Counter(answers)
    fault = f"all workers killed and {16 * count} requests at once for the new ones, {rounds} times"
    shown = ", ".join(f"{end}: {number}" for end, number in ends.most_common())
    return judged("signals", fault, shown, good=set(ends) <= {"200"})


# --- checkpoints ------------------------------------------------------------------------------


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _own_hash(path: Path) -> None:
    """Noise, with a card that vouches for it."""
    path.write_bytes(random.Random(1).randbytes(100_000))
    card = json.loads((path.parent / "card.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    card["onnx_sha256" if path.name == "model.onnx" else "sha256"] = digest
    (path.parent / "card.json").write_text(json.dumps(card))


def _swap(path: Path) -> None:
    shutil.copy(path.parent.parent / "digits" / path.name, path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _half_card(path: Path) -> None:
    _cut(path.parent / "card.json")


def _no_card(path: Path) -> None:
    (path.parent / "card.json").unlink()


# What is done to a model's file, and a word that the reason must hold.
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "one bit flipped": (_flip, "SHA-256"),
    "cut in half": (_cut, "SHA-256"),
    "empty": (_empty, "SHA-256"),
    "another model's": (_swap, "SHA-256"),
    "missing": (Path.unlink, "no readable"),
    "a folder": (_folder, "no readable"),
    "noise, and a card with its hash": (_own_hash, "of ours"),
    "the card missing": (_no_card, "no readable card.json"),
    "the card cut in half": (_half_card, "not JSON"),
}
VICTIM = "digits-baseline"
ENGINES = {"torch": "model.pt", "onnx": "model.onnx"}


def _store(folder: Path) -> Path:
    """A copy of the shipped store: cards and networks."""
    import model_store

    for source in model_store.folders():
        target = folder / source.name
        target.mkdir(parents=True)
        for name in ("card.json", *ENGINES.values()):
            if (source / name).is_file():
                shutil.copy(source / name, target / name)
    return folder


def _loads(store: str, engine: str, pipe: Any) -> None:
    """A process: the SHA-256 of everything that the app gives torch or onnxruntime to load."""
    import onnxruntime
    import torch

    digests: list[str] = []
    jit: Any = torch.jit
    jit_load, session = jit.load, onnxruntime.InferenceSession

    def record(content: Any) -> None:
        whole = content.getvalue() if isinstance(content, io.BytesIO) else content
        digests.append(hashlib.sha256(whole).hexdigest())

    def load(content: Any, *arguments: Any, **options: Any) -> Any:
        record(content)
        return jit_load(content, *arguments, **options)

    def begin(content: Any, *arguments: Any, **options: Any) -> Any:
        record(content)
        return session(content, *arguments, **options)

    jit.load, onnxruntime.InferenceSession = load, begin
    from app import create_app

    create_app({"MODEL_STORE": store, "ENGINE": engine})
    pipe.send(digests)


def loaded(store: Path, engine: str) -> list[str]:
    """The SHA-256 of everything that is loaded of a store."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_loads, args=(str(store), engine, sender), daemon=True)
    process.start()
    sender.close()
    try:
        digests: list[str] = receiver.recv()
    except EOFError:
        return ["the app did not start"]
    finally:
        process.join(60)
        process.kill()
    return digests


def checkpoints(bench: Bench) -> Iterator[Outcome]:
    """Each fault of a checkpoint, in a store of its own, before the real server."""
    for engine, file in ENGINES.items():
        for fault, (spoil, word) in FAULTS.items():
            store = _store(bench.folder / "store")
            try:
                spoil(store / VICTIM / file)
                good, happened = _without_victim(bench, store, engine, word)
            except ServerError as error:
                good, happened = False, f"the server did not start: {error}"
            finally:
                shutil.rmtree(store)
            title = f"engine {engine}, {VICTIM}: {file} {fault}"
            yield judged("checkpoints", title, happened, good=good)
    yield _default_model(bench)


def _without_victim(bench: Bench, store: Path, engine: str, word: str) -> tuple[bool, str]:
    """Whether the others of the store serve, and one is out for a reason that holds `word`."""
    vouched = set()
    for folder in store.iterdir():
        with suppress(OSError, ValueError):
            card = json.loads((folder / "card.json").read_text())
            vouched |= {card["sha256"], card["onnx_sha256"]}
    environment = {"GLIMPSE_MODEL_STORE": str(store), "GLIMPSE_ENGINE": engine}
    with bench.server(environment=environment) as server:
        status, ready = ask_json(server.port, "/readyz")
        _, cards = ask_json(server.port, "/api/models")
        served, _ = ask(server.port, "POST", "/api/predict", bench.picture, PNG)
        path = f"/api/predict?model={VICTIM}"
        refused, why = ask(server.port, "POST", path, bench.picture, PNG)
    strangers = [digest for digest in loaded(store, engine) if digest not in vouched]
    out = {each["name"]: each["reason"] for each in cards["unavailable"]}
    reason = out.get(VICTIM, "")
    good = (
        (status, served, refused) == (200, 200, 503)
        and list(out) == [VICTIM]
        and ready["unavailable"] == out
        and word in reason
        and reason in json.loads(why)["detail"]
        and not strangers
    )
    happened = f"/readyz {status}, digits {served}, {VICTIM} {refused}: {reason[:150]}"
    return good, f"{happened}; {len(strangers)} files loaded that no card vouches for"


def _default_model(bench: Bench) -> Outcome:
    """The model that requests name by default is out; the others serve."""
    store = _store(bench.folder / "store")
    try:
        _flip(store / "digits" / "model.pt")
        environment = {"GLIMPSE_MODEL_STORE": str(store), "GLIMPSE_ENGINE": "torch"}
        with bench.server(environment=environment) as server:
            ready, told = ask_json(server.port, "/readyz")
            alive, _ = ask(server.port, "GET", "/healthz")
            plain, _ = ask(server.port, "POST", "/api/predict", bench.picture, PNG)
            path = f"/api/predict?model={VICTIM}"
            other, _ = ask(server.port, "POST", path, bench.picture, PNG)
    finally:
        shutil.rmtree(store)
    happened = f"/readyz {ready}, /healthz {alive}, digits {plain}, {VICTIM} {other}"
    happened += f"; out: {', '.join(told['unavailable'])}"
    good = (ready, alive, plain, other) == (503, 200, 503, 200)
    title = "engine torch, digits, the default: model.pt one bit flipped"
    return judged("checkpoints", title, happened, good=good)


# --- disks ------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str = "4m") -> Iterator[Path]:
    """A file system of few bytes at `folder`, which only root can make."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> None:
    """Leaves no byte free."""
    with suppress(OSError), (folder / "filler").open("ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def multipart(content: bytes) -> tuple[bytes, dict[str, str]]:
    """A form with the picture, and its headers."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    return head + content + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def _serves(server: Server, content: bytes) -> tuple[bool, str]:
    """Whether small and large pictures in each form are answered, and the statuses."""
    large = content + bytes(2_000_000)  # a PNG with a tail, which is read
    said: dict[str, Any] = {}
    sent = {
        "raw": (content, PNG),
        "raw, 2 MB": (large, PNG),
        "form": multipart(content),
        "form, 2 MB": multipart(large),
    }
    for name, (body, headers) in sent.items():
        try:
            said[name] = ask(server.port, "POST", "/api/predict", body, headers)[0]
        except NO_ANSWER as error:
            said[name] = type(error).__name__
    for path in ("/readyz", "/metrics"):
        try:
            said[path] = ask(server.port, "GET", path)[0]
        except NO_ANSWER as error:
            said[path] = type(error).__name__
    shown = ", ".join(f"{name} {status}" for name, status in said.items())
    return all(status == 200 for status in said.values()), shown


def _replaced(server: Server) -> bool:
    """Kills a worker; whether a new one starts in the same straits, and stays."""
    before = server.workers()
    os.kill(before[0], signal.SIGKILL)
    deadline = time.monotonic() + BACK
    while len(server.workers()) < len(before) or before[0] in server.workers():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    now = server.workers()
    time.sleep(3)
    return now == server.workers()


def disks(bench: Bench) -> Iterator[Outcome]:
    """A full disk and a read-only one."""
    if os.geteuid() != 0:
        for fault in ("a full disk", "a read-only file system"):
            yield Outcome("disks", fault, "only root can make one", SKIPPED)
        return
    for when in ("from the start", "after the start"):
        try:
            with small_disk(bench.folder / "disk") as disk:
                yield _full(bench, disk, when)
        except subprocess.CalledProcessError as error:
            yield Outcome("disks", f"disk full {when}", str(error), SKIPPED)
    yield _read_only(bench)
    yield _unprivileged(bench)


def _tried(bench: Bench, fault: str, filled: Path | None = None, **options: Any) -> Outcome:
    """Starts the server, asks it, kills a worker and asks again; fills the disk `filled` first."""
    try:
        with bench.server(**options) as server:
            if filled is not None:
                fill(filled)
            good, shown = _serves(server, bench.picture)
            others = server.workers()[1:]
            is_new = _replaced(server)
            good_again, again = _serves(server, bench.picture)
            is_stable = set(others) <= set(server.workers())
    except (*NO_ANSWER, ServerError) as error:
        return judged("disks", fault, f"{type(error).__name__}: {error}", good=False)
    shown += f"; a killed worker was {'' if is_new else 'NOT '}replaced, then "
    shown += ("the same" if again == shown.partition(";")[0] else again) + (
        "" if is_stable else "; other workers died"
    )
    return judged("disks", fault, shown, good=good and good_again and is_new and is_stable)


def _full(bench: Bench, disk: Path, when: str) -> Outcome:
    """TMPDIR, working folder and logs on a full disk."""
    logs = ["--access-logfile", str(disk / "access.log"), "--error-logfile", str(disk / "log")]
    if when == "from the start":
        fill(disk)
    fault = f"disk full {when}: TMPDIR, working folder and log files on it"
    environment = {"TMPDIR": str(disk)}
    return _tried(bench, fault, disk, arguments=logs, environment=environment, folder=disk)


def _read_only(bench: Bench) -> Outcome:
    """All file systems read-only but /dev/shm, as containers have it, in a mount namespace."""
    fault = "everything read-only but /dev/shm (unshare -m, remount)"
    script = 'mount -o remount,bind,ro / && exec "$@"'
    prefix = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"]
    write = ["sh", "-c", f"touch {bench.folder}/touched"]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        return Outcome("disks", fault, "no namespace with such a root can be made", SKIPPED)
    if not subprocess.run([*prefix, *write], check=False, capture_output=True).returncode:
        return Outcome("disks", fault, "the folder for temporary files stays writable", SKIPPED)
    return _tried(bench, fault, prefix=prefix)


def _unprivileged(bench: Bench) -> Outcome:
    """A user who may write nowhere but in /dev/shm."""
    fault = "a user without rights (setpriv), TMPDIR a folder that it cannot write to"
    prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    seen = [*prefix, sys.executable, "-c", "import app"]
    if subprocess.run(seen, check=False, capture_output=True, cwd=TOP).returncode:
        return Outcome("disks", fault, "the interpreter is not readable for others", SKIPPED)
    closed = bench.folder / "closed"
    closed.mkdir(mode=0o555, exist_ok=True)
    environment = {"TMPDIR": str(closed), "HOME": "/nonexistent"}
    return _tried(bench, fault, environment=environment, prefix=prefix)


# --- soak -------------------------------------------------------------------------------------


def _bad_clients(port: int, content: bytes, chance: random.Random) -> None:
    """One that goes midway."""
    whole = request_bytes(content, keep=True)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(whole[: chance.randrange(1, len(whole))])


def _mixed(
    port: int, seed: int, model: str | None, stop: threading.Event, ends: Counter[str]
) -> None:
    """A client of good and bad requests, until `stop`."""
    chance = random.Random(seed)
    good = encoded(drawn(), "PNG")
    big = encoded(drawn(3000), "PNG", compress_level=1)
    bomb = encoded(drawn(32).resize((8000, 7000)).convert("1"), "PNG")
    index = 100_000 * seed
    while not stop.is_set():
        index += 1
        kind = chance.choices(range(9), (30, 10, 20, 5, 2, 2, 5, 5, 5))[0]
        path, body, headers = "/api/predict", good, dict(PNG)
        if kind == 1 and model is not None:
            path = f"/api/predict?model={model}"
            body = case(seed, 10 * (index % 40), faces=True).content
        elif kind == 2:
            body = case(seed, index, faces=False).content
        elif kind == 3:
            body = big
        elif kind == 4:
            body = bomb
        elif kind == 5:
            body = bytes(17_000_000)
        elif kind == 6:
            body, headers = b'{"image": "%%%"}', {"Content-Type": "application/json"}
        elif kind == 7:
            body, headers = multipart(big)
        try:
            if kind == 8:
                _bad_clients(port, good, chance)
                ends["gone midway"] += 1
                continue
            status, _ = ask(port, "POST", path, body, headers)
            ends[str(status)] += 1
        except NO_ANSWER as error:
            ends[type(error).__name__] += 1


def soak(bench: Bench, *, minutes: float, seed: int, clients: int = 4) -> Outcome:
    """Good and bad requests for `minutes`, and the memory of all processes meanwhile."""
    model = face_model()
    stop, ends, memory = threading.Event(), Counter[str](), []
    between = min(60.0, minutes * 2)  # 30 looks at least
    with bench.server() as server:
        before = server.workers()
        threads = [
            threading.Thread(
                target=_mixed, args=(server.port, seed + each, model, stop, ends), daemon=True
            )
            for each in range(clients)
        ]
        for thread in threads:
            thread.start()
        try:
            end = time.monotonic() + minutes * 60
            while time.monotonic() < end:
                time.sleep(min(between, max(0.0, end - time.monotonic())))
                memory.append(tree_pss(server.master))
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        same = server.workers() == before
    flat, middle, last = is_flat(memory)
    strange = [end for end in ends if end not in ("200", "400", "413", "415", "422", "gone midway")]
    every = max(1, len(memory) // 10)
    looks = " ".join(f"{each:.0f}" for each in memory[::every])
    happened = (
        f"{in_words(ends)}; PSS of all processes {looks} MB; middle third "
        f"{middle:.0f}, last third {last:.0f} MB; workers "
        f"{'the same' if same else 'REPLACED'}"
    )
    fault = f"{minutes:g} minutes of good and bad requests by {clients} clients, seed {seed}"
    return judged("soak", fault, happened, good=flat and same and not strange)

"""Glimpse's server beside others that serve the same TorchScript files, under the same load.

Each does the same work for a picture, Glimpse's own decoding, preprocessing and network on one
thread, in as many workers, written as the other server's documentation has it
(benchmarks/serving):

    python benchmarks/serving.py --out DIR [--torch torch==2.13.0] [--rounds 3] [--seconds 5]

Needs Linux, wrk, and for TorchServe Java 17. Makes an environment for each server, once. The
servers take turns, so that what else the machine does hits all alike; each number is the median of
the rounds, each ratio the median of the rounds' ratios. The bare limit is the same work in a loop,
a process a worker (one where there is one connection), without HTTP. wrk counts a slow answer also
for the requests that it held up, so that its percentiles are above those of the answers alone.
Writes serving.md, serving.json and serving.svg into DIR.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import html
import http.client
import json
import os
import platform
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Results = dict[str, Any]

TOP = Path(__file__).resolve().parent.parent
PEERS = TOP / "benchmarks" / "serving"
WARM_UP = 1.0  # seconds of load that are not counted
SETTLED = 0.3  # seconds in which no process runs: all workers are up, all requests answered
SETTLING = 10.0  # seconds to wait for that, for some servers are never still
STARTING = 300.0  # seconds that a server may take to its first answer
STOPPING = 15.0  # seconds that it may take to end before it is killed
OURS, LIMIT = "ours", "limit"  # what all are compared with
STOPS = (signal.SIGINT, signal.SIGTERM)
SUBREAPER = 36  # prctl(2): orphans of our children become ours


class ServerError(Exception):
    """A server that cannot be measured; the message says why."""


@dataclass(frozen=True)
class Scenario:
    """A load: whose pictures, how many connections, and how many pictures a request."""

    model: str  # digits or faces
    connections: int
    pictures: int = 1

    @property
    def title(self) -> str:
        """In words."""
        what = self.model[:-1] if self.pictures == 1 else self.model
        count = "one" if self.pictures == 1 else str(self.pictures)
        plural = "" if self.connections == 1 else "s"
        return f"{count} {what} a request, {self.connections} connection{plural}"


SCENARIOS = (
    *(Scenario(model, count) for model in ("digits", "faces") for count in (1, 8, 64)),
    Scenario("digits", 8, 64),
)
CHECKED = (Scenario("digits", 1), Scenario("faces", 1), Scenario("digits", 1, 64))
CHARTED = (Scenario("digits", 8), Scenario("faces", 8), Scenario("digits", 8, 64))


@dataclass(frozen=True)
class Request:
    """A POST."""

    path: str
    kind: str
    body: bytes


@dataclass(frozen=True)
class Bench:
    """What all servers are run with."""

    environments: Path
    scratch: Path
    workers: int
    models: dict[str, str]  # the served names of the models for digits and faces
    pictures: dict[str, bytes]
    folders: list[Path]

    def bin(self, server: Server, program: str) -> str:
        """A program of the server's environment."""
        return str(self.environments / server.environment / "bin" / program)


@dataclass(frozen=True)
class Server:
    """How a server is installed, started and asked; `key` is its name on the command line."""

    key: str
    name: str
    requirements: tuple[str, ...]
    packages: tuple[str, ...]  # whose versions are told
    command: Callable[[Bench, Server, int], list[str]]
    request: Callable[[Bench, Scenario], Request]
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> str:
        """The folder's name."""
        return "glimpse" if self.key.startswith(OURS) else self.key


def raw(path: str, content: bytes) -> Request:
    return Request(path, "image/png", content)


def form(path: str, content: bytes, names: list[str]) -> Request:
    """A form with a part, all of the same content, for each name."""
    boundary = "glimpse-benchmark"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.png"\r\n'
        "Content-Type: image/png\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name in names
    ]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return Request(path, f"multipart/form-data; boundary={boundary}", body)


def ask_raw_or_form(one: str, several: str) -> Callable[[Bench, Scenario], Request]:
    """One picture as the body for the path `one`, several as a form's files for `several`."""

    def request(bench: Bench, scenario: Scenario) -> Request:
        content, model = bench.pictures[scenario.model], bench.models[scenario.model]
        if scenario.pictures == 1:
            return raw(one.format(model=model, subject=scenario.model), content)
        return form(several.format(model=model), content, ["file"] * scenario.pictures)

    return request


def ask_litserve(bench: Bench, scenario: Scenario) -> Request:
    image = base64.b64encode(bench.pictures[scenario.model]).decode()
    body = {"model": bench.models[scenario.model], "images": [image] * scenario.pictures}
    return Request("/predict", "application/json", json.dumps(body).encode())


def ask_torchserve(bench: Bench, scenario: Scenario) -> Request:
    path = f"/predictions/{bench.models[scenario.model]}"
    if scenario.pictures == 1:
        return raw(path, bench.pictures[scenario.model])
    # Of parts with the same name it keeps one.
    names = [f"file{index}" for index in range(scenario.pictures)]
    return form(path, bench.pictures[scenario.model], names)


def run_gunicorn(bench: Bench, server: Server, port: int) -> list[str]:
    config = ["-c", str(TOP / "gunicorn.conf.py"), "--chdir", str(TOP)]
    listen = ["-b", f"127.0.0.1:{port}", "-w", str(bench.workers)]
    return [bench.bin(server, "gunicorn"), *config, *listen, "wsgi:app"]


def run_script(script: str) -> Callable[[Bench, Server, int], list[str]]:
    def command(bench: Bench, server: Server, port: int) -> list[str]:
        return [bench.bin(server, "python"), str(PEERS / script), str(port), str(bench.workers)]

    return command


def run_uvicorn(bench: Bench, server: Server, port: int) -> list[str]:
    options = ["--port", str(port), "--workers", str(bench.workers)]
    return [bench.bin(server, "uvicorn"), "peer_fastapi:app", *options]


def run_bentoml(bench: Bench, server: Server, port: int) -> list[str]:
    options = ["--host", "127.0.0.1", "--port", str(port), "--working-dir", str(PEERS)]
    return [bench.bin(server, "bentoml"), "serve", "peer_bentoml:Classifier", *options]


def run_torchserve(bench: Bench, server: Server, port: int) -> list[str]:
    if shutil.which("java") is None:
        raise ServerError("java is not installed: apt-get install openjdk-17-jre-headless")
    archives = bench.scratch / "archives"
    archives.mkdir(exist_ok=True)
    for folder in bench.folders:
        files = ["--serialized-file", str(folder / "model.pt")]
        files += ["--extra-files", str(folder / "card.json")]
        options = ["--model-name", folder.name, "--version", "1.0", "--force"]
        options += ["--handler", str(PEERS / "peer_torchserve.py"), "--export-path", str(archives)]
        run_to_end([bench.bin(server, "torch-model-archiver"), *options, *files])
    others = free_ports(5)
    addresses = zip(("inference", "management", "metrics"), (port, *others), strict=False)
    lines = [f"{name}_address=http://127.0.0.1:{number}" for name, number in addresses]
    lines += [f"grpc_inference_port={others[2]}", f"grpc_management_port={others[3]}"]
    lines += [f"initial_worker_port={others[4]}", f"default_workers_per_model={bench.workers}"]
    lines += [f"model_store={archives}", "load_models=all"]
    config = bench.scratch / "config.properties"
    config.write_text("\n".join(lines) + "\n")
    options = ["--start", "--foreground", "--disable-token-auth", "--ncs"]
    return [bench.bin(server, "torchserve"), *options, "--ts-config", str(config)]


ASK_OURS = ask_raw_or_form(
    "/api/predict?model={model}&faces=whole", "/api/predict?model={model}&faces=whole"
)
SERVERS = (
    Server(
        OURS,
        "Glimpse, gunicorn",
        ("-r", "requirements-light.txt"),
        ("torch", "gunicorn", "flask", "numpy", "pillow"),
        run_gunicorn,
        ASK_OURS,
        {"GLIMPSE_ENGINE": "torch"},
    ),
    Server(
        "ours-onnx",
        "Glimpse, gunicorn, ONNX",
        ("-r", "requirements-light.txt"),
        ("onnxruntime",),
        run_gunicorn,
        ASK_OURS,
        {"GLIMPSE_ENGINE": "onnx"},
    ),
    Server(
        "fastapi",
        "FastAPI, uvicorn",
        ("fastapi", "uvicorn[standard]", "python-multipart"),
        ("fastapi", "uvicorn"),
        run_uvicorn,
        ask_raw_or_form("/predict?model={model}", "/predict-many?model={model}"),
    ),
    Server(
        "litserve",
        "LitServe",
        ("litserve",),
        ("litserve",),
        run_script("peer_litserve.py"),
        ask_litserve,
    ),
    Server(
        "bentoml",
        "BentoML",
        ("bentoml",),
        ("bentoml",),
        run_bentoml,
        ask_raw_or_form("/{subject}", "/many"),
        {"BENTOML_DO_NOT_TRACK": "true"},
    ),
    Server(
        "ray",
        "Ray Serve",
        ("ray[serve]", "python-multipart"),
        ("ray",),
        run_script("peer_ray.py"),
        ask_raw_or_form("/?model={model}", "/?model={model}"),
        {"RAY_USAGE_STATS_ENABLED": "0"},
    ),
    Server(
        "torchserve",
        "TorchServe",
        ("torchserve==0.12.0", "torch-model-archiver", "pyyaml"),
        ("torchserve",),
        run_torchserve,
        ask_torchserve,
    ),
)
NAMES = {LIMIT: "bare limit, no HTTP"} | {server.key: server.name for server in SERVERS}


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


# Processes: all that this one has started, and what those have.


def stat(pid: int) -> tuple[str, int] | None:
    """State and parent of a process, where it still is."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[1])
    return None


def descendants() -> list[int]:
    """Those of this process, as ids in order, the dead ones reaped and left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (found := stat(int(entry.name))) is not None:
            state, parent = found
            if state in "ZX":
                if parent == os.getpid():
                    with suppress(ChildProcessError):
                        os.waitpid(int(entry.name), os.WNOHANG)
            else:
                children.setdefault(parent, []).append(int(entry.name))
    found_all, todo = [], [os.getpid()]
    while todo:
        added = children.get(todo.pop(), [])
        found_all += added
        todo += added
    return sorted(found_all)


def is_running(pid: int) -> bool:
    """Whether a thread of the process runs or would if it could."""
    states = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            states.append((task / "stat").read_text().rpartition(")")[2].split()[0])
    return any(state in "RD" for state in states)


def settle() -> None:
    """Waits until what was started has nothing to do."""
    begin = quiet = time.monotonic()
    while (now := time.monotonic()) < min(quiet + SETTLED, begin + SETTLING):
        if any(is_running(pid) for pid in descendants()):
            quiet = now
        time.sleep(0.03)


def end_all(process: subprocess.Popen[Any] | None = None) -> None:
    """Ends `process` first, that it may end its own, then whatever else has been started."""
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in STOPS}
    if process is not None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOPPING)
    for ending in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOPPING / 3
        while (left := descendants()) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, ending)
            time.sleep(0.2)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def environ(bench: Bench | None, temporary: Path | None = None) -> dict[str, str]:
    """The environment of all that is started: no settings of the caller's."""
    ours = ("GLIMPSE_", "GUNICORN_", "PYTHONPATH", "WEB_CONCURRENCY", "PROMETHEUS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    kept["OMP_NUM_THREADS"] = "1"
    if bench is None:
        return kept
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    kept["PYTHONPATH"] = f"{TOP}{os.pathsep}{PEERS}"
    kept["GLIMPSE_MODEL_STORE"] = str(bench.scratch / "store")
    kept["FACE_MODEL"] = bench.models["faces"]
    kept["WORKERS"] = str(bench.workers)
    if temporary is not None:
        kept["TMPDIR"] = kept["HOME"] = str(temporary)  # nothing is left in the caller's
    return kept


def run_to_end(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What a command says; raises `ServerError` with its last lines where it fails."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=TOP,
        env=environment or environ(None),
        start_new_session=True,
    )
    try:
        said, _ = process.communicate()
    except BaseException:
        end_all(process)
        raise
    if process.returncode:
        raise ServerError(f"{Path(command[0]).name} failed: {last_lines(said)}")
    return said


def last_lines(text: str) -> str:
    """The last line that tells of an error, or the last line at all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it said nothing"]
    errors = [line for line in lines if "error" in line.lower() or "exception" in line.lower()]
    return (errors or lines)[-1][:300]


# Environments and what is sent.


def make_environment(server: Server, folder: Path, python: str, torch: str) -> None:
    """Installs the server, and what Glimpse itself needs, where this has not been done."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    place = folder / server.environment
    wanted = [torch, "-r", "requirements-serve.txt", *server.requirements]
    asked = [(TOP / name).read_text() for name in wanted if name.endswith(".txt")]
    mark, content = place / "installed.json", json.dumps([wanted, asked])
    if mark.exists() and mark.read_text() == content:
        return
    say(f"making the environment for {server.name}")
    run_to_end([python, "-m", "venv", str(place)])
    run_to_end([str(place / "bin" / "pip"), "install", "--quiet", *wanted])
    mark.write_text(content)


def versions(bench: Bench, server: Server) -> dict[str, str]:
    names = sorted({"torch", *server.packages})
    script = (
        "import json, sys; from importlib.metadata import version; "
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    said = run_to_end([bench.bin(server, "python"), "-c", script, *names])
    found: dict[str, str] = json.loads(said.splitlines()[-1])
    return found


def lay_out(arguments: argparse.Namespace, scratch: Path) -> Bench:
    """The store with the two models, and the pictures."""
    (scratch / "store").mkdir()
    folders = []
    for folder in (TOP / "model_store" / "digits", arguments.faces):
        if not (folder / "model.pt").exists():
            sys.exit(f"{folder} holds no model.pt; name a face model's folder with --faces")
        place = scratch / "store" / folder.name
        place.symlink_to(folder.resolve())
        folders.append(place)
    python = str(arguments.environments / "glimpse" / "bin" / "python")
    run_to_end([python, str(PEERS / "limit.py"), "pictures", str(scratch)])
    pictures = {
        "digits": (scratch / "digit.png").read_bytes(),
        "faces": (scratch / "face.png").read_bytes(),
    }
    models = {"digits": "digits", "faces": arguments.faces.name}
    return Bench(arguments.environments, scratch, arguments.workers, models, pictures, folders)


# One server's turn.


def post(port: int, request: Request) -> tuple[int, bytes]:
    """Status and body of an answer; 0 where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", request.path, request.body, {"Content-Type": request.kind})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error).encode()
    finally:
        connection.close()


def labels(body: bytes) -> list[str]:
    try:
        return [result["label"] for result in json.loads(body)["results"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ServerError(f"an answer that is none of ours: {body[:100]!r}") from error


def check(body: bytes, scenario: Scenario, right: dict[str, str]) -> None:
    """Raises `ServerError` where the answer is not Glimpse's."""
    wanted = [right[scenario.model]] * scenario.pictures
    if (given := labels(body)) != wanted:
        raise ServerError(f"it answers {given[:3]} where {wanted[:3]} is right")


@contextmanager
def started(
    bench: Bench, server: Server, right: dict[str, str]
) -> Iterator[tuple[int, subprocess.Popen[Any], float]]:
    """A running server whose first answers were right: its port, process and start-up time."""
    (port,) = free_ports(1)
    temporary = bench.scratch / "t"
    temporary.mkdir()
    log = bench.scratch / "log"
    command = server.command(bench, server, port)
    environment = environ(bench, temporary) | server.variables
    begin = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=temporary,
            env=environment,
            start_new_session=True,
        )
    try:
        request = server.request(bench, CHECKED[0])
        while (answer := post(port, request))[0] != 200:
            waited = time.perf_counter() - begin
            if process.poll() is not None or waited > STARTING:
                status, body = answer
                last = last_lines(log.read_text(errors="replace"))
                raise ServerError(f"no answer in {waited:.0f} s ({status} {body[:80]!r}): {last}")
            time.sleep(0.02)
        seconds = time.perf_counter() - begin
        check(answer[1], CHECKED[0], right)
        settle()
        for scenario in CHECKED:
            status, body = post(port, server.request(bench, scenario))
            if status != 200:
                last = last_lines(log.read_text(errors="replace"))
                raise ServerError(f"{status} for {scenario.title}: {body[:100]!r}; {last}")
            check(body, scenario, right)
        yield port, process, seconds
    finally:
        end_all(process)
        shutil.rmtree(temporary, ignore_errors=True)


SCRIPT = """
local file = io.open({path}, "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = {kind}
done = function(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    'RESULT {{"requests": %d, "micros": %d, "status": %d, "socket": %d, '
      .. '"p50": %d, "p95": %d, "p99": %d}}',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
"""


def load(bench: Bench, server: Server, port: int, scenario: Scenario, seconds: float) -> Results:
    """What wrk measures of the server under the scenario's load."""
    request = server.request(bench, scenario)
    body, script = bench.scratch / "body", bench.scratch / "wrk.lua"
    body.write_bytes(request.body)
    # Lua reads a JSON text of plain letters as its own.
    script.write_text(SCRIPT.format(path=json.dumps(str(body)), kind=json.dumps(request.kind)))
    said = ""
    for length in (WARM_UP, seconds):
        options = ["-t1", f"-c{scenario.connections}", f"-d{max(1, round(length))}s"]
        url = f"http://127.0.0.1:{port}{request.path}"
        said = run_to_end(["wrk", *options, "--timeout", "30s", "-s", str(script), url])
        settle()  # wrk leaves requests behind
    found = json.loads(said.split("RESULT ")[1].splitlines()[0])
    rate = (found["requests"] - found["status"]) / (found["micros"] / 1e6)
    return {
        "requests_per_s": rate,
        "pictures_per_s": rate * scenario.pictures,
        **{name: found[name] / 1000 if rate else None for name in ("p50", "p95", "p99")},
        "errors": found["status"] + found["socket"],
    }


def memory(pid: int, *kinds: str) -> float:
    """The sum of the kinds that the kernel tells of a process, MB; 0 where it has ended."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {name: int(size.split()[0]) for name, size in (row.split(":") for row in lines)}
        return sum(sizes[kind] for kind in kinds) * 1024 / 1e6
    return 0.0


def import_seconds(bench: Bench, server: Server) -> float:
    begin = time.perf_counter()
    run_to_end([bench.bin(server, "python"), "-c", "import torch"])
    return time.perf_counter() - begin


def measure_server(bench: Bench, server: Server, right: dict[str, str], seconds: float) -> Results:
    """One round of a server."""
    results: Results = {"import_torch_s": import_seconds(bench, server), "scenarios": {}}
    with started(bench, server, right) as (port, process, start):
        results["start_s"] = start
        for scenario in SCENARIOS:
            results["scenarios"][scenario.title] = load(bench, server, port, scenario, seconds)
        results["memory_mb"] = sum(memory(pid, "Pss") for pid in descendants())
        workers = [pid for pid in descendants() if (stat(pid) or ("", 0))[1] == process.pid]
        if server.environment == "glimpse" and len(workers) > 1:
            private = memory(workers[1], "Private_Clean", "Private_Dirty")
            results["second_worker_private_mb"] = private
    return results


# The bare limit.


def hear(process: subprocess.Popen[str]) -> str:
    """The next line that a loop says."""
    assert process.stdout is not None
    if not (line := process.stdout.readline()):
        raise ServerError("the bare limit's loop has failed; its error stands above")
    return line


def loop(bench: Bench, scenario: Scenario, seconds: float) -> tuple[list[str], Results]:
    """The work in a loop, a process for each worker that the connections could keep busy."""
    python = str(bench.environments / "glimpse" / "bin" / "python")
    picture = bench.scratch / ("digit.png" if scenario.model == "digits" else "face.png")
    command = [python, str(PEERS / "limit.py"), "loop", bench.models[scenario.model]]
    command += [str(picture), str(scenario.pictures), str(seconds)]
    begin = time.perf_counter()
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ(bench),
            start_new_session=True,
        )
        for _ in range(min(scenario.connections, bench.workers))
    ]
    try:
        first = [json.loads(hear(process)) for process in processes]
        start = time.perf_counter() - begin
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        each = [json.loads(hear(process)) for process in processes]
        used = sum(memory(pid, "Pss") for pid in descendants())
    finally:
        for process in processes:
            end_all(process)
    rate = sum(len(one["each"]) / one["seconds"] for one in each)
    times = [1000 * value for one in each for value in one["each"]]
    cuts = statistics.quantiles(times if len(times) > 1 else times * 2, n=100, method="inclusive")
    found = {
        "requests_per_s": rate,
        "pictures_per_s": rate * scenario.pictures,
        "p50": cuts[49],
        "p95": cuts[94],
        "p99": cuts[98],
        "errors": 0,
    }
    return first[0], {"found": found, "start_s": start, "memory_mb": used}


def measure_limit(bench: Bench, server: Server, seconds: float) -> Results:
    """One round of the bare limit."""
    results: Results = {"import_torch_s": import_seconds(bench, server), "scenarios": {}}
    for scenario in SCENARIOS:
        _, measured = loop(bench, scenario, seconds)
        results["scenarios"][scenario.title] = measured["found"]
        if scenario.connections == 1:
            results.setdefault("start_s", measured["start_s"])
        else:
            results.setdefault("memory_mb", measured["memory_mb"])
    return results


# The report.


def median(rounds: list[Results], *path: str) -> float | None:
    """The median over the rounds of what lies at `path` in each."""
    values = []
    for one in rounds:
        value: Any = one
        for name in path:
            value = value.get(name, {})
        if isinstance(value, int | float):
            values.append(value)
    return statistics.median(values) if values else None


def ratio(report: Results, key: str, against: str, *path: str) -> float | None:
    """The median of the rounds' ratios."""
    mine, theirs = report["servers"][key]["rounds"], report["servers"].get(against)
    if theirs is None:
        return None
    by_round = {one["round"]: one for one in theirs["rounds"]}
    pairs = [
        (median([one], *path), median([by_round[one["round"]]], *path))
        for one in mine
        if one["round"] in by_round
    ]
    ratios = [value / base for value, base in pairs if value is not None and base]
    return statistics.median(ratios) if ratios else None


def summarise(report: Results) -> None:
    """Adds medians and ratios to each server's rounds."""
    for key, server in report["servers"].items():
        rounds = server["rounds"]
        names = ("start_s", "import_torch_s", "memory_mb", "second_worker_private_mb")
        medians: Results = {name: median(rounds, name) for name in names}
        for scenario in SCENARIOS:
            at = ("scenarios", scenario.title)
            numbers = ("requests_per_s", "pictures_per_s", "p50", "p95", "p99")
            values = {name: median(rounds, *at, name) for name in numbers}
            values["errors"] = sum(one["scenarios"][scenario.title]["errors"] for one in rounds)
            for against in (OURS, LIMIT):
                values[f"of_{against}"] = ratio(report, key, against, *at, "pictures_per_s")
            medians[scenario.title] = values
        server["median"] = medians


def number(value: float | None, digits: int = 1) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.{digits}f}"


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def failed(server: Results, cells: int) -> str:
    text = " ".join(str(server["error"]).split()).replace("|", "\\|")
    return row([server["name"], f"not measured: {text}", *[""] * (cells - 2)])


def markdown(report: Results) -> str:
    """The report as tables."""
    lines = [f"- {name}: {text}" for name, text in report["about"].items()]
    first = ["server", "requests/s", "pictures/s", "p50 ms", "p95 ms", "p99 ms", "errors"]
    head = [*first, "of Glimpse", "of the limit"]
    for scenario in SCENARIOS:
        title = scenario.title[0].upper() + scenario.title[1:]
        lines += ["", f"**{title}**", "", row(head), row(["---", *["---:"] * (len(head) - 1)])]
        for server in report["servers"].values():
            if not server["rounds"]:
                lines.append(failed(server, len(head)))
                continue
            at = server["median"][scenario.title]
            cells = [number(at[name]) for name in ("requests_per_s", "pictures_per_s")]
            cells += [number(at[name]) for name in ("p50", "p95", "p99")] + [str(at["errors"])]
            cells += [number(at[f"of_{against}"], 2) for against in (OURS, LIMIT)]
            lines.append(row([server["name"], *cells]))
    head = ["server", "first right answer, s", "`import torch`, s", "ratio", "memory, MB"]
    head += ["of Glimpse", "second worker's own, MB"]
    lines += ["", "**Start and memory**", "", row(head), row(["---", *["---:"] * (len(head) - 1)])]
    for key, server in report["servers"].items():
        if not server["rounds"]:
            lines.append(failed(server, len(head)))
            continue
        at = server["median"]
        longer = [one["start_s"] / one["import_torch_s"] for one in server["rounds"]]
        cells = [number(at["start_s"], 2), number(at["import_torch_s"], 2)]
        cells += [number(statistics.median(longer), 2), number(at["memory_mb"])]
        cells += [number(ratio(report, key, OURS, "memory_mb"), 2)]
        lines.append(row([server["name"], *cells, number(at["second_worker_private_mb"])]))
    broken = [one for one in report["servers"].values() if one["rounds"] and one["error"]]
    lines += [f"\n{one['name']}, in a later round: {one['error']}" for one in broken]
    return "\n".join(lines) + "\n"


STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.bar { fill: #8c959f } .ours { fill: #0969da } .limit { fill: #d0d7de }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .bar { fill: #6e7681 } .ours { fill: #4493f8 } .limit { fill: #3d444d }
}
"""


def chart(report: Results) -> str:
    """Bars of pictures a second, a panel a load."""
    left, width, step, bar = 190, 330, 24, 16
    shapes, y = [], 8
    for scenario in CHARTED:
        shapes.append(
            f'<text class="title" x="8" y="{y + 14}">Pictures a second: '
            f"{html.escape(scenario.title)}</text>"
        )
        y += 26
        rates = {
            key: server["median"][scenario.title]["pictures_per_s"]
            for key, server in report["servers"].items()
            if server["rounds"]
        }
        longest = max(rates.values(), default=1)
        for key, rate in rates.items():
            share = report["servers"][key]["median"][scenario.title][f"of_{LIMIT}"]
            said = number(rate) + ("" if share is None or key == LIMIT else f" ({share:.0%})")
            kind = "limit" if key == LIMIT else "ours" if key.startswith(OURS) else "bar"
            length = width * rate / longest
            shapes.append(
                f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">'
                f"{html.escape(NAMES[key])}</text>"
                f'<rect class="{kind}" x="{left}" y="{y}" width="{length:.1f}" height="{bar}"/>'
                f'<text x="{left + length + 6:.1f}" y="{y + 13}">{said}</text>'
            )
            y += step
        y += 14
    shapes.append(f'<text x="8" y="{y + 6}">In brackets: of the bare limit.</text>')
    size = f'width="640" height="{y + 18}" viewBox="0 0 640 {y + 18}"'
    title = "Pictures a second that servers classify"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">'
        f"<title>{title}</title><style>{STYLE}</style>\n" + "\n".join(shapes) + "\n</svg>\n"
    )


def about(arguments: argparse.Namespace, report: Results) -> dict[str, str]:
    """Machine, versions and command."""
    processor = platform.machine()
    with suppress(OSError):
        rows = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((one.split(":")[1].strip() for one in rows if "model name" in one), "")
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    found: dict[str, str] = {}
    for server in report["servers"].values():
        found |= server["versions"]
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout
    with suppress(OSError):
        java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
        found["java"] = java.stderr.partition('"')[2].partition('"')[0]
    found["wrk"] = next(iter(wrk.split()[1:2]), "?")
    given = ["--torch", arguments.torch]
    for name in ("rounds", "seconds", "workers"):
        given += [f"--{name}", f"{getattr(arguments, name):g}"]
    return {
        "machine": f"{os.cpu_count()} cores of {processor}, {size:.0f} GB, {platform.system()} "
        f"{platform.release()}, load {os.getloadavg()[0]:.1f} before",
        "versions": f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version}" for name, version in sorted(found.items())),
        "command": f"`python benchmarks/serving.py --out DIR {shlex.join(given)}`",
        "models": f"digits, {arguments.faces.name}",
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    keys = [server.key for server in SERVERS]
    trained = TOP / "model_store" / "emotions"
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument("--only", nargs="+", choices=keys, default=keys, help="servers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of load, each scenario and round")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 4))
    parser.add_argument("--torch", default="torch", help="requirement, such as torch==2.13.0")
    parser.add_argument("--python", default=sys.executable, help="that makes the environments")
    parser.add_argument(
        "--environments", type=Path, default=TOP / ".benchmark-environments", help="their folder"
    )
    parser.add_argument(
        "--faces",
        type=Path,
        default=trained if trained.exists() else TOP / "model_store" / "emotions-balanced",
        help="folder of the face model",
    )
    arguments = parser.parse_args()
    arguments.environments = arguments.environments.absolute()
    return arguments


def main() -> None:
    arguments = read_arguments()
    if sys.platform != "linux":
        sys.exit("This runs on Linux alone: memory is read from /proc.")
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk, or your system's package of it.")
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    arguments.out.mkdir(parents=True, exist_ok=True)
    chosen = [server for server in SERVERS if server.key in arguments.only]
    with tempfile.TemporaryDirectory(prefix="glimpse-") as scratch:
        report = measure(arguments, chosen, Path(scratch))
    summarise(report)
    (arguments.out / "serving.json").write_text(json.dumps(report, indent=1) + "\n")
    (arguments.out / "serving.svg").write_text(chart(report))
    text = markdown(report)
    (arguments.out / "serving.md").write_text(text)
    print(text)


def measure(arguments: argparse.Namespace, chosen: list[Server], scratch: Path) -> Results:
    """All rounds of all servers; one that fails takes no further turn."""
    ours = SERVERS[0]
    make_environment(ours, arguments.environments, arguments.python, arguments.torch)
    bench = lay_out(arguments, scratch)
    limit: Results = {"name": NAMES[LIMIT], "versions": versions(bench, ours)}
    report: Results = {"servers": {LIMIT: {**limit, "error": None, "rounds": []}}}
    for server in chosen:
        one: Results = {"name": server.name, "versions": {}, "error": None, "rounds": []}
        report["servers"][server.key] = one
        try:
            make_environment(server, arguments.environments, arguments.python, arguments.torch)
            one["versions"] = versions(bench, server)
        except ServerError as error:
            one["error"] = str(error)
    report["about"] = about(arguments, report)
    right = {one.model: loop(bench, one, 0.1)[0][0] for one in CHECKED[:2]}
    say(f"right answers: {right}")
    for turn in range(1, arguments.rounds + 1):
        say(f"round {turn} of {arguments.rounds}: {NAMES[LIMIT]}")
        limits = measure_limit(bench, ours, arguments.seconds)
        report["servers"][LIMIT]["rounds"].append({"round": turn, **limits})
        for server in chosen:
            one = report["servers"][server.key]
            if one["error"]:
                continue
            say(f"round {turn} of {arguments.rounds}: {server.name}")
            try:
                measured = measure_server(bench, server, right, arguments.seconds)
                one["rounds"].append({"round": turn, **measured})
            except ServerError as error:
                one["error"] = str(error)
                say(f"{server.name}: {error}")
    return report


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except ServerError as problem:
        sys.exit(str(problem))
    finally:
        end_all()

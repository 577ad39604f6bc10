"""Glimpse's throughput beside other servers', or one checkout's beside another's, in one run.

    python benchmarks/serving.py --checkout before=DIR after=DIR [--rounds 5] [--seconds 3]
    python benchmarks/serving.py [--servers limit glimpse onnx fastapi …] [--rounds 3]

Needs Linux, wrk (Debian's package) and, for TorchServe, Java 17. Checkouts run under this
interpreter, each with its own gunicorn.conf.py and models, all at once, and take turns at each
load. Other servers run one at a time, a turn a round, and do the same work (benchmarks/peers.py);
each gets an environment of its own on top of this interpreter's packages. The limit is the work in
a loop, without a server. Every answer's label is checked before a load. A ratio is to the first
server that is named: the median of the rounds, with the least and the most.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.server import PNG, TOP, Server, ServerError, ask, free_ports, gunicorn

FACE = (100, 34, 180, 114)  # in tests/photos/astronaut.jpg: left, top, right, bottom, pixels
JSON = {"Content-Type": "application/json"}
WARM_UP = 1  # seconds of load that are not counted
Measured = dict[str, float]


@dataclass(frozen=True)
class Load:
    """Whose pictures, how many connections, and how many pictures a request."""

    model: str
    connections: int
    pictures: int = 1

    def __str__(self) -> str:
        each = f" of {self.pictures}" if self.pictures > 1 else ""
        return f"{self.model}/{self.connections}{each}"


LOADS = (
    *(Load(model, count) for model in ("digits", "emotions") for count in (1, 8, 64)),
    Load("digits", 8, 64),
)


@dataclass(frozen=True)
class Bench:
    """Pictures by model, what else the servers are run with, and a folder for files."""

    pictures: dict[str, bytes]
    workers: int
    environments: Path
    scratch: Path


Request = tuple[str, bytes, dict[str, str]]  # path, body, headers


def raw(path: str) -> Callable[[Bench, Load], Request]:
    """The picture as the body."""
    return lambda bench, load: (path.format(load.model), bench.pictures[load.model], PNG)


def ask_glimpse(bench: Bench, load: Load) -> Request:
    path, picture = f"/api/predict?model={load.model}&faces=whole", bench.pictures[load.model]
    if load.pictures == 1:
        return path, picture, PNG
    different = [picture + number.to_bytes(2, "big") for number in range(load.pictures)]
    images = [base64.b64encode(each).decode() for each in different]
    return path, json.dumps({"images": images}).encode(), JSON


def ask_litserve(bench: Bench, load: Load) -> Request:
    image = base64.b64encode(bench.pictures[load.model]).decode()
    return "/predict", json.dumps({"model": load.model, "image": image}).encode(), JSON


@dataclass(frozen=True)
class Kind:
    """How a server is installed, started and asked.

    In `command` {bin}, {port}, {workers} and {files} are filled in; without one it is Glimpse.
    """

    name: str
    request: Callable[[Bench, Load], Request] = ask_glimpse
    command: str = ""
    packages: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    checkout: Path = TOP


PEER = "{bin}/python -m benchmarks.peers"
KINDS = {
    "limit": Kind("bare limit, no server"),
    "glimpse": Kind("Glimpse, torch", environment={"GLIMPSE_ENGINE": "torch"}),
    "onnx": Kind("Glimpse, ONNX", environment={"GLIMPSE_ENGINE": "onnx"}),
    "fastapi": Kind(
        "FastAPI, uvicorn",
        raw("/predict?model={}"),
        "{bin}/python -m uvicorn benchmarks.peers:api --no-access-log --port {port} "
        "--workers {workers}",
        "fastapi uvicorn[standard]",
    ),
    "litserve": Kind("LitServe", ask_litserve, PEER + " litserve {port} {workers}", "litserve"),
    "bentoml": Kind(
        "BentoML",
        raw("/{}"),
        "{bin}/python -m bentoml serve benchmarks.peers:Bento --host 127.0.0.1 --port {port}",
        "bentoml",
        {"BENTOML_DO_NOT_TRACK": "true"},
    ),
    "ray": Kind(
        "Ray Serve",
        raw("/?model={}"),
        PEER + " ray {port} {workers}",
        "ray[serve]",
        {"RAY_USAGE_STATS_ENABLED": "0"},
    ),
    "torchserve": Kind(
        "TorchServe",
        raw("/predictions/{}"),
        "{bin}/torchserve --start --foreground --disable-token-auth --ncs "
        "--ts-config {files}/config.properties",
        "torchserve==0.12.0 torch-model-archiver pyyaml setuptools<81",
    ),
}


def prepare(bench: Bench, key: str, kind: Kind) -> None:
    """Makes the environment of a server, where there is none, and TorchServe's archives."""
    place = bench.environments / key
    mark = place / "installed"
    if kind.packages and not (mark.exists() and mark.read_text() == kind.packages):
        print(f"making the environment of {kind.name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        (library,) = place.glob("lib/python*/site-packages")
        (library / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = [str(place / "bin" / "pip"), "install", "--quiet", *kind.packages.split()]
        subprocess.run(pip, check=True)
        mark.write_text(kind.packages)
    if key == "torchserve":
        if not shutil.which("java"):
            raise ServerError("java is not there: apt-get install openjdk-17-jre-headless")
        for model in bench.pictures:
            command = [str(place / "bin" / "torch-model-archiver"), "--model-name", model]
            command += ["--handler", str(TOP / "benchmarks" / "peers.py"), "--version", "1", "-f"]
            command += ["--serialized-file", str(TOP / "model_store" / model / "model.pt")]
            subprocess.run([*command, "--export-path", str(bench.scratch)], check=True)


@contextmanager
def running(bench: Bench, key: str, kind: Kind) -> Iterator[Server | None]:
    """The server at work; none for the limit."""
    if key == "limit":
        yield None
        return
    port, *others = free_ports(6)
    files = bench.scratch / key
    files.mkdir(exist_ok=True)
    if key == "torchserve":
        names = ("inference_address", "management_address", "metrics_address")
        numbers = ("grpc_inference_port", "grpc_management_port", "initial_worker_port")
        lines = [
            *(
                f"{name}=http://127.0.0.1:{each}"
                for name, each in zip(names, [port, *others], strict=False)
            ),
            *(f"{name}={each}" for name, each in zip(numbers, others[2:], strict=False)),
            f"default_workers_per_model={bench.workers}\nmodel_store={bench.scratch}",
            "load_models=all\n",
        ]
        (files / "config.properties").write_text("\n".join(lines))
    command = gunicorn(kind.checkout, port, "-w", str(bench.workers))
    if kind.command:
        bin_ = bench.environments / key / "bin"
        values = {"bin": bin_, "port": port, "workers": bench.workers, "files": files}
        command = kind.command.format(**values).split()
    store = files / "store"  # of the models that are asked alone
    store.mkdir(exist_ok=True)
    for model in bench.pictures:
        with suppress(FileExistsError):
            (store / model).symlink_to(kind.checkout / "model_store" / model)
    environment = {**kind.environment, "GLIMPSE_MODEL_STORE": str(store)}
    if kind.command:
        places = ("TMPDIR", "HOME", "LOG_LOCATION", "METRICS_LOCATION")  # the last two TorchServe's
        environment |= {**dict.fromkeys(places, str(files)), "WORKERS": str(bench.workers)}
    path, body, headers = kind.request(bench, LOADS[0])
    with Server(
        command,
        port,
        files / "log",
        folder=kind.checkout,
        environment=environment,
        is_ready=lambda port: ask(port, path, body, headers, timeout=10)[0] == 200,
    ) as server:
        yield server


def check(bench: Bench, kind: Kind, load: Load, port: int, wanted: dict[str, str]) -> None:
    """Raises `ServerError` where an answer has other labels than the first server's."""
    status, body = ask(port, *kind.request(bench, load))
    found = json.loads(body).get("results", []) if status == 200 else []
    labels = [result["label"] for result in found]
    right = [wanted.setdefault(load.model, labels[0] if labels else "")] * load.pictures
    if labels != right:
        raise ServerError(f"{status} {labels[:3]} for {load}, not {right[:3]}: {body[:200]!r}")


SCRIPT = """
function init(arguments)
  local file = io.open(arguments[1], "rb")
  wrk.method, wrk.body = "POST", file:read("*a")
  wrk.headers["Content-Type"] = arguments[2]
end
function done(summary, latency)
  local errors = summary.errors
  print(string.format('RESULT {"requests": %d, "micros": %d, "status": %d, "socket": %d, '
    .. '"p50": %d, "p99": %d}', summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


def measure(bench: Bench, kind: Kind, load: Load, server: Server, seconds: int) -> Measured:
    """Pictures a second, milliseconds of an answer and of the processor a picture, and errors."""
    path, body, headers = kind.request(bench, load)
    script, content = bench.scratch / "wrk.lua", bench.scratch / "body"
    script.write_text(SCRIPT)
    content.write_bytes(body)
    began, answered, found = server.processor_s, 0, {}
    for length in (WARM_UP, seconds):
        command = ["wrk", "-t1", f"-c{load.connections}", f"-d{length}s", "--timeout", "30s"]
        command += ["-s", str(script), f"http://127.0.0.1:{server.port}{path}", "--"]
        command += [str(content), headers["Content-Type"]]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(said.split("RESULT ")[1].splitlines()[0])
        # The requests under way at its end are still answered.
        answered += found["requests"] + load.connections
        server.rest()
    rate = (found["requests"] - found["status"]) / found["micros"] * 1e6 * load.pictures
    measured = {"rate": rate, "errors": found["status"] + found["socket"]}
    if not found["requests"]:
        return measured  # none was answered in the time
    processor = 1000 * (server.processor_s - began) / answered / load.pictures
    times = {name: found[name] / 1000 for name in ("p50", "p99")}
    return {**measured, **times, "processor": processor}


def measure_limit(bench: Bench, load: Load, seconds: int) -> Measured:
    """Pictures a second of as many loops as the load could keep busy."""
    count = min(load.connections, bench.workers)
    command = [sys.executable, "-m", "benchmarks.peers", "limit", load.model, str(load.pictures)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PICTURES": str(bench.scratch)}
    loops = [
        subprocess.Popen([*command, str(seconds)], stdout=subprocess.PIPE, cwd=TOP, env=environment)
        for _ in range(count)
    ]
    return {"rate": sum(float(loop.communicate()[0]) for loop in loops)}


Rounds = dict[str, list[dict[str, Measured]]]  # by server and round: load, or "server", to figures


def run(bench: Bench, groups: list[dict[str, Kind]], loads: list[Load], options: Any) -> Rounds:
    """All rounds of all groups; the servers of a group run at once, in turns at each load."""
    results: Rounds = {key: [] for group in groups for key in group}
    wanted: dict[str, str] = {}
    for number in range(options.rounds):
        for group in groups:
            with ExitStack() as stack:
                servers = {
                    key: stack.enter_context(running(bench, key, kind))
                    for key, kind in group.items()
                }
                this: dict[str, dict[str, Measured]] = {key: {} for key in group}
                for load in loads:
                    # Who comes first in this round comes last in the next.
                    for key in list(group)[:: -1 if number % 2 else 1]:
                        kind, server = group[key], servers[key]
                        if server is None:
                            this[key][str(load)] = measure_limit(bench, load, options.seconds)
                        elif load.pictures == 1 or kind.request is ask_glimpse:
                            check(bench, kind, load, server.port, wanted)
                            this[key][str(load)] = measure(
                                bench, kind, load, server, options.seconds
                            )
                for key, server in servers.items():
                    if server is not None:
                        figures = {"start": server.start_s, "memory": server.memory_mb}
                        this[key]["server"] = figures
                    results[key].append(this[key])
                print(f"round {number + 1}: {', '.join(group)} done", file=sys.stderr, flush=True)
    return results


def figures(rounds: list[dict[str, Measured]], part: str, name: str) -> list[float]:
    return [one[part][name] for one in rounds if name in one.get(part, {})]


def shown(values: list[float], digits: int = 0) -> str:
    return f"{statistics.median(values):,.{digits}f}" if values else "–"


def report(results: Rounds, names: dict[str, str], loads: list[Load]) -> str:
    """Markdown: rates, ratios to the first server, times, and what each server costs."""
    first = next(iter(results))
    heads = [str(load) for load in loads]

    def ratio(key: str, load: str, name: str = "rate") -> str:
        pairs = zip(results[key], results[first], strict=False)
        both = [(one[load], base[load]) for one, base in pairs if load in one]
        found = [one[name] / base[name] for one, base in both if name in one and base.get(name)]
        spread = f" ({min(found):.2f}–{max(found):.2f})" if len(found) > 1 else ""
        return f"{statistics.median(found):.2f}{spread}" if found else "–"

    def rate(key: str, load: str) -> str:
        return shown(figures(results[key], load, "rate"))

    def times(key: str, load: str) -> str:
        parts = (figures(results[key], load, name) for name in ("p50", "p99"))
        return " / ".join(shown(part) for part in parts)

    def processor(key: str, load: str) -> str:
        return (
            f"{shown(figures(results[key], load, 'processor'), 1)}: {ratio(key, load, 'processor')}"
        )

    def table(title: str, cell: Callable[[str, str], str], columns: list[str]) -> list[str]:
        rows = [["server", *columns], ["---", *["---:"] * len(columns)]]
        rows += [[names[key], *(cell(key, each) for each in columns)] for key in results]
        return [f"\n**{title}**\n", *(f"| {' | '.join(row)} |" for row in rows)]

    def cost(key: str, what: str) -> str:
        if what == "errors":
            return f"{sum(sum(figures(results[key], load, what)) for load in heads):.0f}"
        name, digits = {"first answer, s": ("start", 2), "memory, MB": ("memory", 0)}[what]
        return shown(figures(results[key], "server", name), digits)

    lines = table("Pictures a second (model/connections)", rate, heads)
    lines += table(f"Ratio to {names[first]}, median (least–most)", ratio, heads)
    lines += table("Milliseconds of the processor a picture, and their ratio", processor, heads)
    lines += table("Milliseconds of an answer, p50 / p99", times, heads)
    lines += table("Server", cost, ["first answer, s", "memory, MB", "errors"])
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    add = parser.add_argument
    add("--checkout", nargs="+", default=[], metavar="NAME=DIR", help="compare checkouts")
    add("--servers", nargs="+", choices=KINDS, help="default: all, or none beside --checkout")
    add("--loads", nargs="+", choices=list(map(str, LOADS)), help="default: all")
    add("--rounds", type=int, default=3)
    add("--seconds", type=int, default=3, help="that a load is measured in each round")
    add("--workers", type=int, default=min(os.cpu_count() or 1, 4))
    add("--environments", type=Path, default=TOP / "runs" / "peers", metavar="DIR")
    add("--json", type=Path, metavar="FILE", help="for all figures of all rounds")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        parser.error("wrk is not there: apt-get install wrk")
    checkouts = {}
    for each in options.checkout:
        name, _, folder = each.partition("=")
        if not (Path(folder) / "gunicorn.conf.py").is_file():
            parser.error(f"{each}: write NAME=DIR, DIR a checkout of Glimpse")
        checkouts[name] = Kind(name, checkout=Path(folder).resolve())
    chosen = options.servers or ([] if checkouts else list(KINDS))
    groups = [checkouts] if checkouts else []
    groups += [{key: KINDS[key]} for key in chosen]
    loads = [load for load in LOADS if str(load) in (options.loads or map(str, LOADS))]
    with tempfile.TemporaryDirectory(prefix="glimpse-") as folder:
        scratch = Path(folder)
        face, digit = io.BytesIO(), (TOP / "docs" / "seven.png").read_bytes()
        Image.open(TOP / "tests" / "photos" / "astronaut.jpg").crop(FACE).save(face, "PNG")
        (scratch / "digit.png").write_bytes(digit)
        (scratch / "face.png").write_bytes(face.getvalue())
        pictures = {"digits": digit, "emotions": face.getvalue()}
        bench = Bench(pictures, options.workers, options.environments.absolute(), scratch)
        for key in chosen:
            prepare(bench, key, KINDS[key])
        results = run(bench, groups, loads, options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    names = {key: kind.name for group in groups for key, kind in group.items()}
    print(report(results, names, loads))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerError as error:
        sys.exit(f"error: {error}")

"""Both engines side by side: processor time, start-up, memory, and how far their answers differ.

    python benchmarks/engines.py [--rounds 5] [--count 60] [--checkout DIR]

Each measurement is a process of its own; torch and onnx take turns within a round. Times are
processor time in one thread. Prints Markdown tables: medians, with the least and most of the
rounds, and onnx as a share of torch, the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.server import TOP, Server, ask, free_ports, gunicorn, pss_mb

NAMES = ("torch", "onnx")
BATCHES = (1, 16)


def measured(name: str, count: int) -> dict[str, float | list[float]]:
    """What one engine takes in this process, from an interpreter that has imported nothing."""
    begun, used = time.monotonic(), time.process_time()
    from app import create_app

    client = create_app({"ENGINE": name}).test_client()
    content = (TOP / "docs" / "seven.png").read_bytes()
    sent = client.post("/api/predict?model=digits", data=content, content_type="image/png")
    assert sent.status_code == 200
    found: dict[str, float | list[float]] = {
        "first answer, s": time.monotonic() - begun,
        "the same, s of processor time": time.process_time() - used,
        "memory after it, MB": pss_mb(os.getpid()),
    }
    import numpy as np

    from app.inside import inside
    from app.models import models

    with client.application.app_context():
        for model in ("digits", "emotions"):
            each = models().get(model)
            random = np.random.default_rng(0)
            for size in BATCHES:
                pictures = random.integers(0, 256, (size, *each.spec.shape), np.uint8)
                scores = each.network(pictures)
                work = partial(each.network, pictures)
                found[f"{model}, batch of {size}, ms"] = processor_time(work, count)
                found[f"scores {model} {size}"] = scores.ravel().tolist()
            explain = partial(each.explainer, pictures[0], 0)
            found[f"{model}, explanation, ms"] = processor_time(explain, 20)
            layers = partial(inside(each.card).layers, pictures[0])
            found[f"{model}, layers, ms"] = processor_time(layers, 20)
    found["memory after all, MB"] = pss_mb(os.getpid())
    return found


def processor_time(work: Callable[[], object], count: int) -> float:
    """The median of `work`, milliseconds, after five calls that do not count."""
    times = []
    for _ in range(count + 5):
        used = time.process_time()
        work()
        times.append(1000 * (time.process_time() - used))
    return median(times[5:])


def served(engine: str, checkout: Path) -> float:
    """The memory of a server and its two workers after 40 digits and 10 photos of a face, MB."""
    (port,) = free_ports(1)
    digit, face = TOP / "docs" / "seven.png", TOP / "tests" / "photos" / "astronaut.jpg"
    sent = [("digits", digit.read_bytes())] * 40 + [("emotions", face.read_bytes())] * 10
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(
            gunicorn(checkout, port, "-w", "2"),
            port,
            Path(folder) / "log",
            folder=checkout,
            environment={"GLIMPSE_ENGINE": engine},
        ) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        for status, _ in pool.map(
            lambda each: ask(port, f"/api/predict?model={each[0]}", each[1]), sent
        ):
            assert status == 200
        return server.memory_mb


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=60, help="forward passes in each process")
    parser.add_argument("--checkout", type=Path, default=TOP, metavar="DIR")
    parser.add_argument("--one", choices=NAMES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        sys.path.insert(0, str(given.checkout.resolve()))
        print(json.dumps(measured(given.one, given.count)))
        return
    command = [sys.executable, __file__, "--checkout", str(given.checkout)]
    rounds = []
    for _ in range(given.rounds):
        one = {}
        for name in NAMES:
            done = subprocess.run(
                [*command, "--count", str(given.count), "--one", name],
                capture_output=True, text=True, check=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            one[name] = json.loads(done.stdout)
            one[name]["memory of a server, two workers, MB"] = served(name, given.checkout)
        rounds.append(one)
    print("| | torch | onnx | onnx / torch |\n| --- | ---: | ---: | ---: |")
    for key in rounds[0]["torch"]:
        if key.startswith("scores"):
            continue
        cells = [spread([one[name][key] for one in rounds], 2) for name in NAMES]
        ratio = spread([one["onnx"][key] / one["torch"][key] for one in rounds], 2)
        print(f"| {key} | {' | '.join(cells)} | {ratio} |")
    print("\n| answers | largest difference of a score |\n| --- | ---: |")
    for key in (key for key in rounds[0]["torch"] if key.startswith("scores")):
        pairs = zip(rounds[0]["torch"][key], rounds[0]["onnx"][key], strict=True)
        print(f"| {key[7:]} | {max(abs(one - other) for one, other in pairs):.1e} |")


def spread(values: list[float], digits: int) -> str:
    """The median, and the least and the most."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


if __name__ == "__main__":
    main()

"""How long a server takes from its start to its first answer, beside `import torch` alone.

    python benchmarks/cold_start.py [--rounds 5] [--checkout name=DIR ...]

In each round `import torch`, and each checkout's server with each engine, start one after the
other, with files that the system has cached. Prints Markdown tables: medians in seconds, with the
least and most of the rounds, and the median of the rounds' ratios to `import torch`. Processor time
is that of all of a server's processes until then; a busy machine changes it little.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.server import TOP, Server, ask, free_ports, gunicorn

ENGINES = ("torch", "onnx")
TORCH = "import torch"
DIGIT = (TOP / "docs" / "seven.png").read_bytes()


def torch_alone() -> tuple[float, float]:
    """Seconds, and seconds of processor time."""
    begun, before = time.monotonic(), os.times()
    subprocess.run([sys.executable, "-c", TORCH], check=True)
    after = os.times()
    used = after.children_user + after.children_system
    return time.monotonic() - begun, used - before.children_user - before.children_system


def server(checkout: Path, engine: str) -> tuple[float, float]:
    """The same for a server of two workers, until it has answered a digit."""
    (port,) = free_ports(1)
    command = gunicorn(checkout, port, "-w", "2")
    environment = {"GLIMPSE_ENGINE": engine, "PYTHONDONTWRITEBYTECODE": ""}
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(
            command,
            port,
            Path(folder) / "log",
            folder=checkout,
            environment=environment,
            is_ready=lambda port: ask(port, "/api/predict", DIGIT)[0] == 200,
        ) as one,
    ):
        return one.start_s, one.processor_s


def spread(values: list[float]) -> str:
    """The median, and the least and the most."""
    return f"{median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--checkout", nargs="+", default=[f"here={TOP}"], metavar="NAME=DIR")
    given = parser.parse_args()
    checkouts = {
        name: Path(folder) for name, _, folder in (at.partition("=") for at in given.checkout)
    }
    kinds = [(place, engine) for place in checkouts for engine in ENGINES]
    found: dict[str, list[tuple[float, float]]] = {}
    for number in range(given.rounds + 1):
        one = {TORCH: torch_alone()}
        one |= {f"{place}, {each}": server(checkouts[place], each) for place, each in kinds}
        for name, times in one.items() if number else ():  # the first fills the system's cache
            found.setdefault(name, []).append(times)
    for index, what in enumerate(("seconds", "processor time, seconds")):
        print(f"\n| | {what} | / {TORCH} |\n| --- | ---: | ---: |")
        for name, rounds in found.items():
            mine = [times[index] for times in rounds]
            base = [times[index] for times in found[TORCH]]
            ratios = [each / other for each, other in zip(mine, base, strict=True)]
            print(f"| {name} | {spread(mine)} | {spread(ratios)} |")


if __name__ == "__main__":
    main()

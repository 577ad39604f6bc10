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
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from statistics import median

TOP = Path(__file__).resolve().parent.parent
ENGINES = ("torch", "onnx")
TICKS = os.sysconf("SC_CLK_TCK")
TORCH = "import torch"


def torch_alone() -> tuple[float, float]:
    """Seconds, and seconds of processor time."""
    begun, before = time.monotonic(), os.times()
    subprocess.run([sys.executable, "-c", TORCH], check=True)
    after = os.times()
    used = after.children_user + after.children_system
    return time.monotonic() - begun, used - before.children_user - before.children_system


def server(checkout: Path, name: str) -> tuple[float, float]:
    """The same for a server of two workers, until it has answered a digit."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    asked = urllib.request.Request(
        f"http://{address}/api/predict",
        (TOP / "docs" / "seven.png").read_bytes(),
        {"Content-Type": "image/png"},
    )
    environment = {**os.environ, "GLIMPSE_ENGINE": name, "GLIMPSE_BIND": address}
    command = [sys.executable, "-m", "gunicorn", "-w", "2", "wsgi:app"]
    begun = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=checkout,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                urllib.request.urlopen(asked).close()
                break
            except urllib.error.URLError:
                time.sleep(0.01)
        took = time.monotonic() - begun
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return took, sum(map(used_by, [process.pid, *map(int, children)]))
    finally:
        process.terminate()
        process.wait()


def used_by(process: int) -> float:
    """Its processor time, seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


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

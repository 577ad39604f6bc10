"""How much memory training takes where the pictures would not fit into it.

    python benchmarks/many_pictures.py [--pictures 100000] [--limit N] [--recipe images]

Makes JPEGs of 224 × 224 pixels in a hundred classes, no two the same, and trains the recipe on them
for one epoch, as a command of its own, whose log and peak memory it prints. Exits with 1 where the
peak is above --bar, in gigabytes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

TOP = Path(__file__).resolve().parent.parent
SIDE, CLASSES = 224, 100


def make(folder: Path, count: int) -> None:
    """Coloured patches, a few kilobytes each."""
    random = np.random.default_rng(0)
    for index in range(count):
        place = folder / f"class {index % CLASSES:03}"
        place.mkdir(exist_ok=True)
        patches = Image.fromarray(random.integers(0, 256, (7, 7, 3), np.uint8))
        patches.resize((SIDE, SIDE)).save(place / f"{index}.jpg", quality=80)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--recipe", default="images")
    parser.add_argument("--bar", type=float, default=4.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        make(folder / "data", arguments.pictures)
        command = [
            sys.executable, "-m", "training", "train", arguments.recipe, "--epochs", "1",
            "--data", str(folder / "data"), "--out", str(folder / "run"),
        ]  # fmt: skip
        if arguments.limit is not None:
            command += ["--limit", str(arguments.limit)]
        began = time.perf_counter()
        status = subprocess.run(command, cwd=TOP, check=False).returncode
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"{arguments.pictures:,} pictures: {seconds:.0f} s, peak {peak:.2f} GB")
    return int(status != 0 or peak > arguments.bar)


if __name__ == "__main__":
    sys.exit(main())

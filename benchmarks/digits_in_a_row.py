"""How right the served model is on numbers: MNIST test digits side by side.

    python benchmarks/digits_in_a_row.py --data DIR [--count 100]

DIR holds the MNIST files. For each length and gap, `count` numbers are drawn, each digit at its own
height and a little apart from the next, and sent through `/api/predict` inside this process.
Prints a Markdown table; a number is right where all its digits are.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app import create_app
from training.datasets.mnist import load_mnist

LENGTHS = (1, 2, 3, 4, 6)
GAPS = ((1, 3), (3, 6), (8, 12))  # least and most pixels between two digits, of MNIST's 28
SCALE = 5


def number(digits: NDArray[np.uint8], gap: tuple[int, int], random: np.random.Generator) -> bytes:
    """The digits (N, 28, 28) side by side, dark on light, as a PNG."""
    tiles = [np.zeros((40, 10), np.uint8)]
    for digit in digits:
        columns = np.flatnonzero(digit.max(axis=0))
        tile = np.pad(digit[:, columns[0] : columns[-1] + 1], ((6, 6), (0, 0)))
        tiles.append(np.roll(tile, random.integers(-3, 4), axis=0))
        tiles.append(np.zeros((40, random.integers(gap[0], gap[1] + 1)), np.uint8))
    ink = np.concatenate([*tiles, tiles[0]], axis=1)
    size = (ink.shape[1] * SCALE, ink.shape[0] * SCALE)
    buffer = io.BytesIO()
    Image.fromarray(255 - ink).resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=100, metavar="N")
    arguments = parser.parse_args()
    pictures, labels = load_mnist(arguments.data, train=False)
    client = create_app().test_client()
    random = np.random.default_rng(0)
    print("| digits | gap 1–3 | gap 3–6 | gap 8–12 |\n| --- | --- | --- | --- |")
    for length in LENGTHS:
        cells = []
        for gap in GAPS:
            right = 0
            for _ in range(arguments.count):
                chosen = random.integers(0, len(labels), length)
                png = number(pictures[chosen].numpy().reshape(-1, 28, 28), gap, random)
                answer = client.post("/api/predict", data=png, content_type="image/png").get_json()
                wanted = "".join(str(int(labels[index])) for index in chosen)
                right += answer.get("results", [{}])[0].get("label") == wanted
            cells.append(f"{right / arguments.count:.1%}")
        print(f"| {length} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

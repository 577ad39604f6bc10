"""How right the served model is on numbers: digits side by side, each at its own height.

    python benchmarks/digits_in_a_row.py --data DIR [--count 100]
    python benchmarks/digits_in_a_row.py --strokes FILE [--donors NAME …] [--count 300]

DIR holds the MNIST files, of which the test digits are taken, `count` numbers for each length and
gap. FILE holds digits as pen strokes, a JSON object a line, `{"label": "7", "strokes": [[[x, y],
…], …], "donor": "…", "file": "…"}`, gzipped; a number of 2 to 4 digits is one writer's (`file`).
Everything is sent through `/api/predict` inside this process. Prints a Markdown table; a number is
right where all its digits are.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from flask.testing import FlaskClient
from numpy.typing import NDArray
from PIL import Image, ImageDraw

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


Stroke = NDArray[np.float64]  # (points, 2): x and y, which grows downwards
Writers = dict[str, list[tuple[str, list[Stroke]]]]


def writers(file: Path, donors: list[str]) -> Writers:
    """The digits of each writer of the `donors`, all if none is named: labels and strokes."""
    found: Writers = defaultdict(list)
    with gzip.open(file, "rt") as lines:
        for each in map(json.loads, lines):
            if not donors or each["donor"] in donors:
                strokes = [np.array(stroke, float).reshape(-1, 2) for stroke in each["strokes"]]
                found[each["donor"] + each["file"]].append((each["label"], strokes))
    return {name: digits for name, digits in sorted(found.items()) if len(digits) >= 4}


def written(digits: list[list[Stroke]], random: np.random.Generator) -> Image.Image:
    """The digits side by side, 150 to 200 pixels high, dark on light."""
    pen, left, lines = random.uniform(6, 20), 60.0, []
    for strokes in digits:
        points = np.concatenate(strokes)
        low, size = points.min(axis=0), np.ptp(points, axis=0)
        factor = random.uniform(150, 200) / max(size[1], 0.6 * size[0], 1)
        corner = np.array([left, 60 + random.uniform(0, 30)])
        lines += [(stroke - low) * factor + corner for stroke in strokes]
        left += size[0] * factor + pen + random.uniform(8, 80)
    return inked(lines, pen, (round(left) + 40, 350))


def inked(lines: list[Any], pen: float, size: tuple[int, int]) -> Image.Image:
    """Lines drawn with a round pen, dark on light."""
    picture = Image.new("L", (size[0] * 2, size[1] * 2), 255)
    draw = ImageDraw.Draw(picture)
    for line in lines:
        points = [(2 * x, 2 * y) for x, y in line]
        draw.line(points, fill=20, width=round(2 * pen), joint="curve")
        for x, y in points:
            draw.ellipse((x - pen, y - pen, x + pen, y + pen), fill=20)
    return picture.reduce(2)


def right(client: FlaskClient, picture: bytes, wanted: str) -> bool:
    """Whether the picture, a PNG, is answered with the number `wanted`."""
    answer = client.post("/api/predict", data=picture, content_type="image/png").get_json()
    return bool(answer.get("results", [{}])[0].get("label") == wanted)


def of_mnist(client: FlaskClient, folder: Path, count: int) -> None:
    """Prints the table of MNIST's test digits."""
    pictures, labels = load_mnist(folder, train=False)
    random = np.random.default_rng(0)
    print("| digits | gap 1–3 | gap 3–6 | gap 8–12 |\n| --- | --- | --- | --- |")
    for length in LENGTHS:
        cells = []
        for gap in GAPS:
            correct = 0
            for _ in range(count):
                chosen = random.integers(0, len(labels), length)
                png = number(pictures[chosen].numpy().reshape(-1, 28, 28), gap, random)
                correct += right(client, png, "".join(str(int(labels[at])) for at in chosen))
            cells.append(f"{correct / count:.1%}")
        print(f"| {length} | {' | '.join(cells)} |", flush=True)


def of_strokes(client: FlaskClient, file: Path, donors: list[str], count: int) -> None:
    """Prints the table of pen strokes."""
    by_writer = list(writers(file, donors).values())
    random = np.random.default_rng(2)
    tally: dict[str, list[bool]] = {"with a 1": [], "without": []}
    for _ in range(count):
        digits = by_writer[random.integers(len(by_writer))]
        chosen = random.choice(len(digits), random.integers(2, 5), replace=False)
        wanted = "".join(digits[at][0] for at in chosen)
        buffer = io.BytesIO()
        written([digits[at][1] for at in chosen], random).save(buffer, "PNG")
        kind = "with a 1" if "1" in wanted else "without"
        tally[kind].append(right(client, buffer.getvalue(), wanted))
    print("| numbers | right |\n| --- | --- |")
    for kind, each in tally.items():
        print(f"| {len(each)} {kind} | {np.mean(each):.1%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="DIR")
    source.add_argument("--strokes", type=Path, metavar="FILE")
    parser.add_argument("--donors", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--count", type=int, default=100, metavar="N")
    arguments = parser.parse_args()
    client = create_app().test_client()
    if arguments.data:
        of_mnist(client, arguments.data, arguments.count)
    else:
        of_strokes(client, arguments.strokes, arguments.donors, arguments.count)


if __name__ == "__main__":
    main()

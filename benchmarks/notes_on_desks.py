"""How right the served model is on notes that lie on a desk: pen digits, photographed.

    python benchmarks/notes_on_desks.py --strokes FILE [--donors NAME …] [--count 200]

FILE is as for `digits_in_a_row.py`. Each note holds one digit, lies tilted on a desk that is darker
or, a third of the time, lighter, under uneven light with the shadow of a hand, and is sent as a
JPEG through `/api/predict` inside this process. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
from digits_in_a_row import Stroke, inked, right, writers
from PIL import Image, ImageDraw, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app import create_app

Random = np.random.Generator
SIZE = (720, 960)


def note(strokes: list[Stroke], random: Random, *, lighter: bool) -> Image.Image:
    """A photo of a note with a digit, `lighter` than its desk or darker."""
    points = np.concatenate(strokes)
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    side = random.uniform(240, 560)
    height = side * random.uniform(0.25, 0.6)
    factor = height / max(size.max(), 1)
    corner = np.array([side, side]) / 2 - size * factor / 2 + random.uniform(-0.1, 0.1, 2) * side
    pen = max(3.0, height * random.uniform(0.03, 0.1))
    lines = [(stroke - low) * factor + corner for stroke in strokes]
    paper = np.asarray(inked(lines, pen, (round(side), round(side))), np.float32) / 255
    colour = random.uniform(0.75, 0.95) if lighter else random.uniform(0.3, 0.5)
    desk = random.uniform(0.1, 0.5) if lighter else random.uniform(0.65, 0.95)
    ink = random.uniform(0.05, 0.25) * (1 if lighter else 0.4)
    sheet = Image.fromarray(np.uint8(255 * (ink + (colour - ink) * paper)))
    mask = Image.new("L", sheet.size, 255)
    angle = random.uniform(-20, 20)
    sheet, mask = (
        each.rotate(angle, Image.Resampling.BICUBIC, expand=True) for each in (sheet, mask)
    )
    photo = Image.new("L", SIZE, round(255 * desk))
    room = [max(whole - part, 0) for whole, part in zip(SIZE, sheet.size, strict=True)]
    photo.paste(sheet, (int(random.integers(room[0] + 1)), int(random.integers(room[1] + 1))), mask)
    axes = [np.linspace(-1, 1, side, dtype=np.float32) for side in SIZE]
    slope = random.uniform(-0.15, 0.15, 2)
    light = 0.9 + slope[0] * axes[0][None, :] + slope[1] * axes[1][:, None]
    if random.random() < 0.3:
        shadow = Image.new("L", SIZE, 255)
        x, y = random.uniform(0, 1, 2) * SIZE
        ImageDraw.Draw(shadow).ellipse((x - 300, y - 200, x + 300, y + 200), fill=190)
        light = light * np.asarray(shadow.filter(ImageFilter.GaussianBlur(60)), np.float32) / 255
    grain = random.normal(0, random.uniform(0.005, 0.03), light.shape)
    values = np.asarray(photo, np.float32) / 255 * light + grain
    tint = random.uniform(0.85, 1, 3).astype(np.float32)
    colours = np.uint8(np.clip(values[..., None] * tint, 0, 1) * 255)
    return Image.fromarray(colours).filter(ImageFilter.GaussianBlur(random.uniform(0.5, 1.5)))


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--strokes", type=Path, required=True, metavar="FILE")
    parser.add_argument("--donors", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--count", type=int, default=200, metavar="N")
    arguments = parser.parse_args()
    digits = [
        digit for each in writers(arguments.strokes, arguments.donors).values() for digit in each
    ]
    client = create_app().test_client()
    random = np.random.default_rng(3)
    tally: dict[str, list[bool]] = {"lighter than the desk": [], "darker than the desk": []}
    for _ in range(arguments.count):
        label, strokes = digits[random.integers(len(digits))]
        lighter = bool(random.random() < 2 / 3)
        buffer = io.BytesIO()
        note(strokes, random, lighter=lighter).save(buffer, "JPEG", quality=85)
        kind = "lighter than the desk" if lighter else "darker than the desk"
        tally[kind].append(right(client, buffer.getvalue(), label))
    print("| notes | right |\n| --- | --- |")
    for kind, each in tally.items():
        print(f"| {len(each)} {kind} | {np.mean(each):.1%} |")


if __name__ == "__main__":
    main()

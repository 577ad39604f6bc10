"""How right the served model is on digits written on paper and photographed or scanned.

    python benchmarks/photographed_digits.py --strokes FILE [--donors NAME …] [--data DIR]
        [--count 200] [--only CONDITION] [--wrong DIR]

FILE is as for `digits_in_a_row.py`; of its digits those are taken that the model reads right when
they are drawn. With `--data`, the folder of the MNIST files, every second digit is one of MNIST's
test digits. Each is written on paper with or without printed lines, seen
at a slight angle under uneven light, a third of the time with a shadow, and sent as a JPEG through
`/api/predict` inside this process. Prints a Markdown table; `--wrong` keeps the pictures that are
answered wrongly.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from digits_in_a_row import Stroke, right, writers
from flask.testing import FlaskClient
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app import create_app
from training.datasets.mnist import load_mnist

Random = np.random.Generator
Drawing = ImageDraw.ImageDraw
Written = list[Stroke] | NDArray[np.uint8]  # pen strokes, or an MNIST picture (28, 28)
SIDE = 480  # of the paper that is seen, pixels


def put(digit: Written, centre: tuple[float, float], height: float, pen: float) -> Image.Image:
    """The ink of a digit of that height on a sheet of SIDE × SIDE pixels: 255 is ink."""
    sheet = Image.new("L", (SIDE, SIDE))
    if isinstance(digit, np.ndarray):
        picture = Image.fromarray(digit)
        picture = picture.crop(picture.getbbox())
        factor = height / max(picture.size)
        size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
        ink = picture.resize(size, Image.Resampling.BICUBIC)
        sheet.paste(ink, (round(centre[0] - size[0] / 2), round(centre[1] - size[1] / 2)))
        return sheet.point([min(255, max(0, round(1.6 * (value - 60)))) for value in range(256)])
    points = np.concatenate(digit)
    low, size_now = points.min(axis=0), np.ptp(points, axis=0)
    factor = (height - pen) / max(size_now.max(), 1)
    corner = np.array(centre) - size_now * factor / 2
    draw = ImageDraw.Draw(sheet)
    for stroke in digit:
        line = [(float(x), float(y)) for x, y in (stroke - low) * factor + corner]
        draw.line(line, fill=255, width=round(pen), joint="curve")
        for x, y in line:
            draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=255)
    return sheet


@dataclass(frozen=True)
class Paper:
    """The `ink` and the printed `lines` on a sheet, 0..255, and the `part` of it that is seen."""

    ink: Image.Image
    lines: Image.Image
    part: tuple[float, float, float, float] = (0, 0, SIDE, SIDE)


def anywhere(digit: Written, random: Random, lines: Image.Image | None = None) -> Paper:
    height = SIDE * random.uniform(0.15, 0.6)
    reach = height / 2 + 30
    centre = random.uniform(reach, SIDE - reach, 2)
    ink = put(digit, (centre[0], centre[1]), height, pen_of(height, random))
    return Paper(ink, lines or Image.new("L", (SIDE, SIDE)))


def pen_of(height: float, random: Random) -> float:
    return max(2.5, height * random.uniform(0.03, 0.11))


def plain(digit: Written, random: Random) -> Paper:
    return anywhere(digit, random)


def ruled(digit: Written, random: Random) -> Paper:
    return anywhere(digit, random, rules(random, across=False))


def squared(digit: Written, random: Random) -> Paper:
    return anywhere(digit, random, rules(random, across=True))


def rules(random: Random, *, across: bool) -> Image.Image:
    """The lines of ruled or squared paper, paler than ink."""
    sheet = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(sheet)
    step = random.uniform(28, 60) if across else random.uniform(60, 130)
    width, shade = int(random.integers(1, 3)), int(random.integers(50, 140))
    for place in np.arange(random.uniform(0, step), SIDE, step):
        draw.line([(0, place), (SIDE, place)], fill=shade, width=width)
        if across:
            draw.line([(place, 0), (place, SIDE)], fill=shade, width=width)
    return sheet


def cell(digit: Written, random: Random, *, thick: bool = False, touching: bool = False) -> Paper:
    """A cell of a sudoku's grid, cut out along its lines."""
    side = 220.0
    low, high = (SIDE - side) / 2, (SIDE + side) / 2
    lines = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(lines)
    thin = int(random.integers(2, 6))
    for at, place in enumerate((low, high, low, high)):
        heavy = thick and random.random() < 0.6
        width = round(thin * random.uniform(2, 3.5)) if heavy else thin
        ends = [(place, 0), (place, SIDE)] if at < 2 else [(0, place), (SIDE, place)]
        draw.line(ends, fill=int(random.integers(180, 256)), width=width)
    height = side * random.uniform(0.45, 0.75)
    room = (side - height) / 2 - 16
    centre = SIDE / 2 + random.uniform(-1, 1, 2) * max(room, 0)
    ink = put(digit, (centre[0], centre[1]), height, pen_of(height, random))
    if touching:
        left, top, right, bottom = ink.getbbox()
        over = random.uniform(-4, 12)  # pixels over the line
        moves = (low - left - over, 0), (high - right + over, 0), (0, low - top - over)
        move = (*moves, (0, high - bottom + over))[random.integers(4)]
        ink = ImageChops.offset(ink, round(move[0]), round(move[1]))
    margins = side * random.uniform(-0.03, 0.14, 4)
    part = low - margins[0], low - margins[1], high + margins[2], high + margins[3]
    return Paper(ink, lines, part)


def thick_cell(digit: Written, random: Random) -> Paper:
    return cell(digit, random, thick=True)


def touched_cell(digit: Written, random: Random) -> Paper:
    return cell(digit, random, thick=bool(random.random() < 0.3), touching=True)


def form(digit: Written, random: Random) -> Paper:
    """One box of a form, alone or in a row of boxes that are empty."""
    lines = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(lines)
    wide, high = random.uniform(110, 200), random.uniform(130, 220)
    left, top = (SIDE - wide) / 2 + random.uniform(-30, 30), (SIDE - high) / 2
    shade, width = int(random.integers(120, 256)), int(random.integers(2, 6))
    more = range(-1, 2) if random.random() < 0.5 else range(1)
    for number in more:
        x = left + number * wide
        draw.rectangle((x, top, x + wide, top + high), outline=shade, width=width)
    height = min(wide, high) * random.uniform(0.5, 0.75)
    room = (np.array([wide, high]) - height) / 2 - 12
    centre = np.array([left + wide / 2, top + high / 2]) + random.uniform(-1, 1, 2) * room
    return Paper(put(digit, (centre[0], centre[1]), height, pen_of(height, random)), lines)


def cursive(digit: Written, random: Random) -> Paper:
    """A digit leaning to the right, of a thick pen, with strokes that lead in and out."""
    height, slant = 260.0, random.uniform(0.1, 0.45)
    pen = height * random.uniform(0.07, 0.13)
    centre = (SIDE / 2, SIDE / 2)
    if isinstance(digit, list):
        digit = [stroke.copy() for stroke in digit]
        side = max(np.ptp(np.concatenate(digit), axis=0).max(), 1)
        for at, leads in ((0, random.random() < 0.4), (-1, random.random() < 0.4)):
            if leads:
                stroke = digit[at]
                aside = np.array([-1 if at == 0 else 1, random.uniform(-0.2, 0.5)])
                lead = stroke[at] + aside * side * random.uniform(0.08, 0.2)
                bend = (stroke[at] + lead) / 2 + [0, 0.04 * side]
                lead_in = np.stack([lead, bend])
                parts = (lead_in, stroke) if at == 0 else (stroke, lead_in[::-1])
                digit[at] = np.concatenate(parts)
        digit = [stroke @ np.array([[1, 0], [-slant, 1]]) for stroke in digit]
        ink = put(digit, centre, height, pen)
    else:
        ink = put(digit, centre, height, pen)
        lean = (1, slant, -slant * SIDE / 2, 0, 1, 0)
        ink = ink.transform(ink.size, Image.Transform.AFFINE, lean, Image.Resampling.BICUBIC)
    edges = np.array(ink.getbbox()) + [-1, -1, 1, 1] * random.integers(4, 60, 4)
    return Paper(ink, Image.new("L", (SIDE, SIDE)), tuple(edges))


def photographed(paper: Paper, random: Random, *, scanned: bool = False) -> Image.Image:
    """The paper as a camera or, straight and evenly lit, as a scanner sees it."""
    left, top, right, bottom = paper.part
    corners = np.array([(left, top), (left, bottom), (right, bottom), (right, top)])
    tilt = 0.004 if scanned else 0.03
    corners = corners + random.uniform(-tilt, tilt, (4, 2)) * (right - left)
    quad = tuple(float(value) for value in corners.ravel())
    longest = random.uniform(60, 200) if scanned else random.uniform(160, 700)
    factor = longest / max(right - left, bottom - top)
    size = max(1, round((right - left) * factor)), max(1, round((bottom - top) * factor))
    white = random.uniform(0.75, 0.95)
    dark, print_dark = random.uniform(0.05, 0.4), random.uniform(0.1, 0.4)
    ink, lines = (np.asarray(each, np.float32) / 255 for each in (paper.ink, paper.lines))
    flat = white * (1 - np.maximum(ink * (1 - dark), lines * (1 - print_dark)))
    sheet = Image.fromarray(np.uint8(255 * flat))
    seen = sheet.transform(
        (2 * size[0], 2 * size[1]),
        Image.Transform.QUAD,
        quad,
        Image.Resampling.BICUBIC,
        fillcolor=round(255 * white),
    ).resize(size, Image.Resampling.BOX)
    axes = [np.linspace(-1, 1, side, dtype=np.float32) for side in size]
    slope = random.uniform(-0.15, 0.15, 2) * (0.1 if scanned else 1)
    light = 0.9 + slope[0] * axes[0][None, :] + slope[1] * axes[1][:, None]
    if not scanned and random.random() < 0.33:
        angle, edge = random.uniform(0, 2 * np.pi), random.uniform(-0.7, 0.7)
        across = axes[0][None, :] * np.cos(angle) + axes[1][:, None] * np.sin(angle) - edge
        light = light * (1 - random.uniform(0.1, 0.35) / (1 + np.exp(-across * 25)))
    grain = random.normal(0, random.uniform(0.003, 0.025), light.shape)
    values = np.asarray(seen, np.float32) / 255 * light + grain
    tint = random.uniform(0.85, 1, 3).astype(np.float32)
    colours = np.uint8(np.clip(values[..., None] * tint, 0, 1) * 255)
    blur = ImageFilter.GaussianBlur(random.uniform(0.3, 1.3) * min(1, max(size) / 300))
    return Image.fromarray(colours).filter(blur)


CONDITIONS: dict[str, Callable[[Written, Random], Paper]] = {
    "plain paper": plain,
    "ruled paper": ruled,
    "squared paper": squared,
    "sudoku cell, thin lines": cell,
    "sudoku cell, thick lines": thick_cell,
    "sudoku cell, touching a line": touched_cell,
    "box of a form": form,
    "scanned cursive": cursive,
}


def read_when_drawn(client: FlaskClient, digit: Written, wanted: str) -> bool:
    """Whether the model reads the digit right without paper and camera."""
    buffer = io.BytesIO()
    ImageChops.invert(put(digit, (SIDE / 2, SIDE / 2), 280, 16)).save(buffer, "PNG")
    return right(client, buffer.getvalue(), wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--strokes", type=Path, required=True, metavar="FILE")
    parser.add_argument("--donors", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--count", type=int, default=200, metavar="N")
    parser.add_argument("--only", choices=CONDITIONS)
    parser.add_argument("--wrong", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    everyone = writers(arguments.strokes, arguments.donors).values()
    pens: list[tuple[str, Written]] = [digit for each in everyone for digit in each]
    mnist: list[tuple[str, Written]] = []
    if arguments.data:
        pictures, labels = load_mnist(arguments.data, train=False)
        mnist = [
            (str(int(label)), each[0].numpy()) for each, label in zip(pictures, labels, strict=True)
        ]
    client = create_app().test_client()
    print("| written on | pens | MNIST | sure and wrong |\n| --- | --- | --- | --- |")
    for name, condition in CONDITIONS.items():
        if arguments.only not in (None, name):
            continue
        random = np.random.default_rng(4)
        tally: tuple[list[bool], list[bool]] = ([], [])
        sure = 0
        for number in range(arguments.count):
            of_mnist = bool(mnist) and number % 2 == 1
            source = mnist if of_mnist else pens
            wanted, digit = source[random.integers(len(source))]
            while not of_mnist and not read_when_drawn(client, digit, wanted):
                wanted, digit = source[random.integers(len(source))]
            photo = photographed(
                condition(digit, random), random, scanned=name == "scanned cursive"
            )
            buffer = io.BytesIO()
            photo.save(buffer, "JPEG", quality=int(random.integers(50, 93)))
            answer = client.post(
                "/api/predict", data=buffer.getvalue(), content_type="image/jpeg"
            ).get_json()
            told = answer.get("results", [{}])[0]
            tally[of_mnist].append(told.get("label") == wanted)
            if told.get("label") != wanted:
                sure += told.get("verdict") == "sure"
                if arguments.wrong:
                    arguments.wrong.mkdir(parents=True, exist_ok=True)
                    file = f"{name} {number} {wanted} as {told.get('label')}.jpg"
                    (arguments.wrong / file).write_bytes(buffer.getvalue())
        cells = [f"{np.mean(each):.1%} of {len(each)}" if each else "–" for each in tally]
        print(f"| {name} | {cells[0]} | {cells[1]} | {sure} |", flush=True)


if __name__ == "__main__":
    main()

"""Digits and other figures as pen strokes: JSON lines, or UNIPEN's own files."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import digits

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from tasks.problems import Problem
from training.datasets import doodles
from training.datasets.parts import Part
from training.datasets.preparer import Preparer
from training.datasets.splits import Given, sample
from training.errors import TrainingError
from training.recipe import DataRecipe

CREDIT = "UNIPEN train_r01_v07, International Unipen Foundation, CC BY 4.0"
NONE = "none"  # the class of all that is no digit
# Letters and signs that nobody takes for a digit; the others (o, I, z, b …) are left out.
OTHERS = "AEFHKMNPRWXadefhjkmnprtwxy#$%&*+=?<>;:@"
WANTED = "a folder with .jsonl.gz files of strokes, or UNIPEN's folder (with data and include)"

Stroke = NDArray[np.float64]  # (points, 2): x and y, which grows downwards


@dataclass(frozen=True)
class Figure:
    """What somebody wrote: its label, the strokes of the pen, and who gathered it."""

    label: str
    strokes: Sequence[Stroke]
    donor: str


def load(recipe: DataRecipe, folder: Path | None, preparer: Preparer) -> Given:
    """The figures in `folder`, drawn with many pens, sizes and tilts: digits, and “none”.

    The subjects are the donors, the institutions that gathered them, so that a split by subject
    tests on donors never seen. Raises `TrainingError`.
    """
    if folder is None:
        raise TrainingError(f"strokes cannot be downloaded: give --data {WANTED}")
    figures = [
        Figure(each.label if each.label in digits else NONE, each.strokes, each.donor)
        for each in read(folder)
        if each.label in digits or each.label in OTHERS or each.label == NONE
    ]
    random = np.random.default_rng(recipe.split_seed)
    drawn = figures * recipe.drawings
    made = doodles.make([(e.label, e.strokes, e.donor) for e in figures], recipe.doodles, random)
    drawn += [Figure(NONE, strokes, donor) for strokes, donor in made]
    names = [*digits, NONE] if any(each.label == NONE for each in drawn) else [*digits]
    labels = torch.tensor([names.index(each.label) for each in drawn])
    if preparer.limit is not None:
        chosen = sample(labels, 4 * preparer.limit, 0)
        drawn, labels = [drawn[at] for at in chosen.tolist()], labels[chosen]
    pictures = np.empty((len(drawn), *preparer.spec.shape), np.uint8)
    for index, each in enumerate(tqdm(drawn, folder.name, leave=False, disable=None)):
        try:
            image = draw(each.strokes, random)
            pictures[index] = preparer.task.prepare(image, preparer.spec)
        except Problem as problem:
            raise TrainingError(f"{folder}: {each.label} of {each.donor}: {problem}") from problem
    return Given(
        names,
        Part(torch.from_numpy(pictures), labels),
        {},
        {"name": "pen strokes", "credit": CREDIT, "donors": sorted({e.donor for e in figures})},
        subjects=[each.donor for each in drawn],
    )


def draw(strokes: Sequence[Stroke], random: np.random.Generator) -> Image.Image:
    """The strokes as a picture, as a hand draws it: dark on light, any pen, size, tilt and place.

    `strokes` may have any size; the picture is grey, 60 to 260 pixels a side.
    """
    points = np.concatenate(strokes)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    extent = max(float(np.ptp(points, axis=0).max()), 1e-6)
    side = random.uniform(40, 150)
    pen = side * np.exp(random.uniform(np.log(0.025), np.log(0.16)))
    turn, slant = np.radians(random.normal(0, 5)), random.normal(0, 0.1)
    aspect = np.exp(random.normal(0, 0.1))
    cosine, sine = np.cos(turn), np.sin(turn)
    matrix = np.array([[cosine * aspect, (slant * cosine - sine)], [sine * aspect, cosine]])
    size = 2 * int(side * random.uniform(0.65, 0.9) + pen)
    corner = size / 2 + random.uniform(-0.1, 0.1, 2) * side
    lines = [(stroke - middle) / extent * side @ matrix.T + corner for stroke in strokes]
    return inked(lines, float(pen), (size, size))


def inked(lines: Sequence[Stroke], pen: float, size: tuple[int, int]) -> Image.Image:
    """Lines drawn with a round pen, `pen` pixels wide, dark on light and smooth."""
    picture = Image.new("L", (size[0] * 2, size[1] * 2), 255)
    drawing = ImageDraw.Draw(picture)
    for line in lines:
        points = [(2 * float(x), 2 * float(y)) for x, y in line]
        if len(points) > 1:
            drawing.line(points, fill=0, width=max(1, round(2 * pen)), joint="curve")
        for x, y in (points[0], points[-1]):
            drawing.ellipse((x - pen, y - pen, x + pen, y + pen), fill=0)
    return picture.reduce(2)


def read(folder: Path) -> list[Figure]:
    """All figures in `folder`, or in the one file of that name; raises `TrainingError`."""
    if folder.is_file():
        files = [folder]
    else:
        files = sorted([*folder.glob("*.jsonl.gz"), *folder.glob("*.jsonl")])
    figures = [figure for file in files for figure in _lines(file)]
    if not files and (data := next(folder.glob("**/data"), None)) is not None:
        for file in sorted(data.glob("1[abcd]/**/*.dat")):
            figures += _unipen(file, data)
    if not figures:
        raise TrainingError(f"{folder} holds no strokes; wanted is {WANTED}")
    return figures


def _lines(file: Path) -> Iterator[Figure]:
    """The figures of a file with a JSON object a line: label, strokes, donor."""
    try:
        with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    held = json.loads(line)
                    strokes = [np.array(each, float).reshape(-1, 2) for each in held["strokes"]]
                    figure = Figure(str(held["label"]), strokes, str(held.get("donor", "")))
                    if not any(map(len, strokes)):
                        raise ValueError("it has no points")
                except (KeyError, TypeError, ValueError) as error:
                    raise TrainingError(
                        f"{file}, line {number}: no label and strokes ({error}); correct or "
                        "remove it"
                    ) from error
                yield Figure(figure.label, [each for each in strokes if len(each)], figure.donor)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise TrainingError(f"{file} is damaged ({error}): download it again") from error


SEGMENT = re.compile(r'^\.SEGMENT\s+CHARACTER\s+([\d\s,:-]+?)\s+\S+\s+"(.*)"', re.MULTILINE)
INCLUDE = re.compile(r"^\.INCLUDE\s+(\S+)", re.MULTILINE)
BLOCK = re.compile(r"^\.(\w+)([^\n]*)\n?((?:(?!^\.).*\n?)*)", re.MULTILINE)


def _unipen(file: Path, data: Path) -> Iterator[Figure]:
    """The characters of a file in UNIPEN's 1.0 format.

    Segments name pen strokes by number, from 0 (“3”, “3-4” or “3,5”). The strokes stand in the
    file, or in those that it includes, which count from the folder include beside `data`. The
    order of the coordinates is what .COORD says; their y grows upwards.
    """
    text = _text(file)

    def included(match: re.Match[str]) -> str:
        other = data.parent / "include" / match[1]
        return _text(other) if other.is_file() else ""

    whole = INCLUDE.sub(included, text)
    columns, strokes = [0, 1], []
    for keyword, rest, body in BLOCK.findall(whole):
        if keyword == "COORD":
            names = rest.split()
            columns = [names.index("X"), names.index("Y")] if {"X", "Y"} <= set(names) else [0, 1]
        elif keyword == "PEN_DOWN":
            rows = [line.split() for line in body.splitlines() if line.strip()]
            try:
                points = [[float(row[at]) for at in columns] for row in rows]
            except (IndexError, ValueError) as error:
                raise TrainingError(f"{file}: a pen stroke is damaged ({error})") from error
            strokes.append(np.array(points, float).reshape(-1, 2) * (1, -1))
    for places, label in SEGMENT.findall(text):
        if ":" in places:  # a part of a stroke: joined writing
            continue
        chosen: list[int] = []
        for part in places.replace(" ", "").split(","):
            first, _, last = part.partition("-")
            chosen += range(int(first), int(last or first) + 1)
        own = [strokes[at] for at in chosen if at < len(strokes) and len(strokes[at])]
        if len(own) == len(chosen) and len(label) == 1:
            yield Figure(label, own, file.relative_to(data).parts[1])


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="latin-1") + "\n"
    except OSError as error:
        raise TrainingError(f"{file} cannot be read ({error.strerror})") from error

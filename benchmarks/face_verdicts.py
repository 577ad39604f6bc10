"""How often faces that are seen well, or are covered, cut off or none, are said to be so.

    python benchmarks/face_verdicts.py --faces CKPLUS48 [--photos PHOTOS] [--count 100]

The faces are those of CK+, a folder a class of 48×48 crops, of each person one a class; PHOTOS has
no_face_cat.png and no_face_coffee.png, of which random squares are taken. Scores of a network play
no part: a face that is `sure` here is left to its score. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tasks import face_finder

Change = Callable[[Image.Image], Image.Image]
SIDE = 240  # of a face, pixels


def part(left: float, top: float, right: float, bottom: float) -> Change:
    """Cuts out a part, given by shares of the face's side."""
    box = [round(edge * SIDE) for edge in (left, top, right, bottom)]
    return lambda face: face.crop((box[0], box[1], box[2], box[3]))


def cover(left: float, top: float, right: float, bottom: float, grey: int) -> Change:
    """Draws a rectangle over a part."""

    def draw(face: Image.Image) -> Image.Image:
        box = [edge * SIDE for edge in (left, top, right, bottom)]
        ImageDraw.Draw(face).rectangle(box, fill=(grey,) * 3)
        return face

    return draw


def sunglasses(face: Image.Image) -> Image.Image:
    pen = ImageDraw.Draw(face)
    for x in (82, 158):
        pen.ellipse((x - 32, 74, x + 32, 122), fill=(15,) * 3)
    pen.line((100, 92, 140, 92), fill=(15,) * 3, width=6)
    return face


def mask(grey: int) -> Change:
    def draw(face: Image.Image) -> Image.Image:
        outline = [(60, 135), (120, 118), (180, 135), (178, 195), (150, 225), (90, 225), (62, 195)]
        ImageDraw.Draw(face).polygon(outline, fill=(grey,) * 3)
        return face

    return draw


def hand(face: Image.Image) -> Image.Image:
    """Four fingers of the face's own grey over its mouth and chin."""
    grey = int(np.asarray(face.convert("L"))[100:140, 100:140].mean())
    pen = ImageDraw.Draw(face)
    for finger in range(4):
        x = 50 + finger * 36
        shade = (max(0, grey - 10 * (finger % 2)),) * 3
        box = (x, 150, x + 32, SIDE)
        pen.rounded_rectangle(box, 14, fill=shade, outline=(max(0, grey - 50),) * 3)
    return face


KINDS: dict[str, Change] = {
    "as it is": lambda face: face,
    "of 48 pixels": lambda face: face.resize((48, 48)),
    "dark": lambda face: face.point(lambda value: round(0.4 * value)),
    "blurred": lambda face: face.filter(ImageFilter.GaussianBlur(5)),
    "tilted by 15°": lambda face: face.rotate(15, Image.Resampling.BILINEAR),
    "20 % cut off at the chin": part(0, 0, 1, 0.8),
    "28 % cut off at the chin": part(0, 0, 1, 0.72),
    "30 % cut off at the top": part(0, 0.3, 1, 1),
    "30 % cut off at the left": part(0.3, 0, 1, 1),
    "half cut off at the right": part(0, 0, 0.5, 1),
    "left half grey": cover(0, 0, 0.5, 1, 120),
    "right half black": cover(0.5, 0, 1, 1, 0),
    "lower 40 % grey": cover(0, 0.6, 1, 1, 140),
    "black bar over the eyes": cover(0, 0.3, 1, 0.48, 0),
    "sunglasses": sunglasses,
    "light mask": mask(235),
    "black mask": mask(20),
    "hand over the mouth": hand,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    print("| face | found: sure | unsure | none | not found | crop: sure | unsure | none |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    files = chosen(options.faces)
    shuffled = random.Random(0).sample(files, len(files))
    for kind, change in KINDS.items():
        some = shuffled if kind in ("as it is", "of 48 pixels") else shuffled[: options.count]
        row(kind, [change(opened(file).resize((SIDE, SIDE))) for file in some])
    if options.photos:
        for name in ("cat", "coffee"):
            photo = opened(options.photos / f"no_face_{name}.png")
            row(f"parts of no_face_{name}.png", squares(photo, options.count))


def chosen(folder: Path) -> list[Path]:
    """Of each person one picture a class, the last frame."""
    files = {(file.parent, file.name.split("_")[0]): file for file in sorted(folder.rglob("*.png"))}
    return list(files.values())


def opened(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def squares(photo: Image.Image, count: int) -> list[Image.Image]:
    """Random squares of a photo."""
    chance = random.Random(0)
    found = []
    for _ in range(count):
        side = chance.randint(48, min(photo.size))
        x, y = chance.randint(0, photo.width - side), chance.randint(0, photo.height - side)
        found.append(photo.crop((x, y, x + side, y + side)))
    return found


def row(kind: str, pictures: list[Image.Image]) -> None:
    found = [face_finder.find(picture) for picture in pictures]
    seen = shares([faces[0].verdict if faces else "missed" for faces in found])
    whole = shares(map(face_finder.verdict_of_crop, pictures))
    cells = [*(seen[each] for each in ("sure", "unsure", "none", "missed"))]
    cells += [whole[each] for each in ("sure", "unsure", "none")]
    print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


def shares(verdicts: Iterable[str]) -> dict[str, str]:
    """The share of each verdict as a percentage."""
    counts = Counter(verdicts)
    total = counts.total()
    names = ("sure", "unsure", "none", "missed")
    return {name: f"{100 * counts[name] / total:.1f} %" for name in names}


if __name__ == "__main__":
    main()

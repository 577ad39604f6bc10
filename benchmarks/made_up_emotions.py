"""Arrays in the form of the 28-emotion data, with drawn faces in the place of photographs.

    python benchmarks/made_up_emotions.py FILE.npz [--count 80]

Writes train_data (N, 48, 48, 3), uint8, and train_labels (N,), 0 to 27: `count` faces a class, each
of its own skin, size, place, light and noise. A class is a mouth, brows and eyes of its own. They
prove that the recipe `emotions-28` runs from arrays to a report; they say nothing of photographs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

CLASSES = 28
SIDE = 48
DRAWN = 4  # times larger than wanted, then reduced
# A class is one of each: how the mouth curves, how the brows slope, how far the eyes are open.
MOUTHS = (-1.0, -0.35, 0.35, 1.0)
BROWS = (-1.0, 0.0, 1.0)
EYES = (0.25, 0.6, 1.0)


def face(label: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """A face of the class `label` as (48, 48, 3)."""
    mouth = MOUTHS[label % 4]
    brow = BROWS[label // 4 % 3]
    eye = EYES[label // 12]
    size = SIDE * DRAWN
    skin = random.uniform(150, 255) * np.array([1.0, 0.85, 0.7])
    ink = tuple((skin * 0.25).astype(int).tolist())
    picture = Image.new("RGB", (size, size), (int(random.integers(0, 120)),) * 3)
    draw = ImageDraw.Draw(picture)
    x, y = size / 2 + random.normal(0, size / 40, 2)
    unit = size / 2 * random.uniform(0.85, 0.98)
    width = max(2, int(unit / 8))
    draw.ellipse(
        [x - 0.8 * unit, y - unit, x + 0.8 * unit, y + unit], tuple(skin.astype(int).tolist())
    )
    for side in (-1, 1):
        middle = x + side * 0.33 * unit
        height = 0.16 * unit * eye * random.uniform(0.9, 1.1)
        box = [middle - 0.16 * unit, y - 0.2 * unit - height]
        box += [middle + 0.16 * unit, y - 0.2 * unit + height]
        draw.ellipse(box, (245, 245, 240), ink, width // 2)
        slope = brow * 0.16 * unit * random.uniform(0.8, 1.2) * side
        level = y - 0.5 * unit
        line = [middle - 0.2 * unit, level - slope, middle + 0.2 * unit, level + slope]
        draw.line(line, ink, width)
    along = np.linspace(-1, 1, 9)
    curve = mouth * 0.28 * unit * random.uniform(0.85, 1.15) * (1 - along**2)
    points = zip(x + along * 0.4 * unit, y + 0.5 * unit + curve, strict=True)
    draw.line([(float(a), float(b)) for a, b in points], ink, width)
    picture = picture.rotate(random.normal(0, 4)).filter(ImageFilter.GaussianBlur(DRAWN / 4))
    small = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)).astype(float)
    lit = small * random.uniform(0.7, 1.2) + random.normal(0, 4, small.shape)
    return lit.clip(0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE.npz")
    parser.add_argument("--count", type=int, default=80, metavar="N", help="faces a class")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), arguments.count)
    pictures = np.stack([face(int(label), random) for label in labels])
    np.savez_compressed(arguments.file, train_data=pictures, train_labels=labels)
    print(f"{len(labels)} pictures of {CLASSES} classes written to {arguments.file}")


if __name__ == "__main__":
    main()

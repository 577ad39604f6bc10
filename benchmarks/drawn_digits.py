"""How right the served model is on digits as people draw and photograph them.

    python benchmarks/drawn_digits.py --data DIR [--count 2000] [--only CONDITION]

Renders MNIST test digits large, treats them as hands and cameras do, and sends each through
`/api/predict` inside this process. DIR holds the MNIST files. Prints a line a condition and exits
with 1 where one is below --bar.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app import create_app
from training.datasets.mnist import load_mnist

SIDE = 280  # of a digit's 28×28 pixels, rendered large
CANVAS = 400
Random = np.random.Generator


def ink(digit: Image.Image, random: Random | None, scale: float = 1) -> NDArray[Any]:
    """The digit, 0..1, on a square canvas, in the middle or (with `random`) anywhere."""
    side = max(1, round(SIDE * scale))
    room = CANVAS - side
    x, y = (room // 2, room // 2) if random is None else random.integers(0, room + 1, 2)
    canvas = Image.new("L", (CANVAS, CANVAS))
    canvas.paste(digit.resize((side, side), Image.Resampling.BICUBIC), (int(x), int(y)))
    return np.asarray(canvas, np.float32) / 255


def grey(values: NDArray[Any]) -> Image.Image:
    """A picture of values in 0..1."""
    return Image.fromarray((values * 255).astype(np.uint8))


def thinned(digit: Image.Image, random: Random) -> Image.Image:
    picture = grey(1 - ink(digit, random))
    return picture.filter(ImageFilter.MaxFilter(2 * int(random.integers(2, 5)) + 1))


def thickened(digit: Image.Image, random: Random) -> Image.Image:
    picture = grey(1 - ink(digit, random, 0.9))
    return picture.filter(ImageFilter.MinFilter(2 * int(random.integers(3, 7)) + 1))


def transparent(digit: Image.Image, random: Random) -> Image.Image:
    drawn = ink(digit, random, random.uniform(0.5, 1))
    picture = np.zeros((*drawn.shape, 4), np.uint8)
    picture[..., :3] = random.choice([0, 255, 40])
    picture[..., 3] = drawn * 255
    return Image.fromarray(picture)


def compressed(digit: Image.Image, random: Random) -> Image.Image:
    picture = grey(1 - ink(digit, random, random.uniform(0.5, 1)))
    return through_jpeg(picture, int(random.integers(5, 30)))


def paper(digit: Image.Image, random: Random) -> Image.Image:
    """Grey ink on grey paper, unevenly lit, grainy, a little out of focus, as a JPEG."""
    drawn = ink(digit, random, random.uniform(0.5, 1))
    axis = np.linspace(-1, 1, CANVAS, dtype=np.float32)
    slope = random.uniform(-0.25, 0.25, 2)
    hollow = random.uniform(0, 0.2)
    light = random.uniform(0.55, 0.9) + slope[0] * axis[:, None] + slope[1] * axis[None, :]
    light = light - hollow * (axis[:, None] ** 2 + axis[None, :] ** 2)
    grain = random.normal(0, random.uniform(0.01, 0.04), drawn.shape)
    picture = grey(np.clip(light * (1 - drawn * random.uniform(0.35, 0.8)) + grain, 0, 1))
    picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.5, 2)))
    return through_jpeg(picture, int(random.integers(30, 90)))


def through_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


CONDITIONS: dict[str, Callable[[Image.Image, Random], Image.Image]] = {
    "as it is": lambda digit, random: digit,
    "plain": lambda digit, random: grey(1 - ink(digit, None)),
    "moved": lambda digit, random: grey(1 - ink(digit, random)),
    "scaled 0.3 to 1": lambda digit, random: grey(1 - ink(digit, random, random.uniform(0.3, 1))),
    "scaled 0.3": lambda digit, random: grey(1 - ink(digit, random, 0.3)),
    "thinned": thinned,
    "thickened": thickened,
    "inverted": lambda digit, random: grey(ink(digit, random)),
    "transparent": transparent,
    "JPEG, quality 5 to 30": compressed,
    "grey uneven paper": paper,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=2000, help="test digits a condition")
    parser.add_argument("--only", choices=CONDITIONS, help="this condition alone")
    parser.add_argument("--bar", type=float, default=0.985, help="least accuracy of a condition")
    arguments = parser.parse_args()
    images, targets = load_mnist(arguments.data, train=False)
    digits = [Image.fromarray(image[0].numpy()) for image in images[: arguments.count]]
    truth = [str(int(target)) for target in targets[: arguments.count]]
    client = create_app().test_client()
    worst = 1.0
    for name, condition in CONDITIONS.items():
        if arguments.only not in (None, name):
            continue
        random, right = np.random.default_rng(0), 0
        for digit, label in zip(digits, truth, strict=True):
            buffer = io.BytesIO()
            condition(digit, random).save(buffer, "PNG", compress_level=1)
            sent = client.post("/api/predict", data=buffer.getvalue(), content_type="image/png")
            right += sent.get_json().get("results", [{}])[0].get("label") == label
        worst = min(worst, right / len(truth))
        print(f"| {name} | {100 * right / len(truth):.2f} % |", flush=True)
    return 0 if worst >= arguments.bar else 1


if __name__ == "__main__":
    sys.exit(main())

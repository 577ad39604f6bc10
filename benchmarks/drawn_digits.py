"""How right the served model is on digits as people draw and photograph them.

Renders MNIST test digits large, treats them as hands and cameras do, and sends each through
`/api/predict`:

    python benchmarks/drawn_digits.py --data DIR [--count 2000] [--url http://127.0.0.1:8000]

DIR holds the MNIST files. Without --url the app answers inside this process. Prints a line a
condition and exits with 1 where one is below --bar.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training.datasets.mnist import load_mnist

Ink = NDArray[np.float32]  # 0..1, 1 where the ink is
Condition = Callable[[Image.Image, np.random.Generator], Image.Image]
Send = Callable[[list[bytes]], list[str]]

SIDE = 280  # of a digit's 28×28 pixels, rendered large
CANVAS = 400


def on_canvas(digit: Image.Image, scale: float, random: np.random.Generator | None) -> Ink:
    """The digit at `scale` on a square canvas, in the middle or (with `random`) anywhere."""
    side = max(1, round(SIDE * scale))
    small = digit.resize((side, side), Image.Resampling.BICUBIC)
    room = CANVAS - side
    x, y = (room // 2, room // 2) if random is None else random.integers(0, room + 1, 2)
    canvas = Image.new("L", (CANVAS, CANVAS))
    canvas.paste(small, (int(x), int(y)))
    return np.asarray(canvas, np.float32) / 255


def dark_on_light(ink: Ink) -> Image.Image:
    return Image.fromarray(((1 - ink) * 255).astype(np.uint8))


def plain(digit: Image.Image, random: np.random.Generator) -> Image.Image:
    return dark_on_light(on_canvas(digit, 1, None))


def moved(digit: Image.Image, random: np.random.Generator) -> Image.Image:
    return dark_on_light(on_canvas(digit, 1, random))


def scaled(digit: Image.Image, random: np.random.Generator) -> Image.Image:
    return dark_on_light(on_canvas(digit, random.uniform(0.3, 1), random))


def smallest(digit: Image.Image, random: np.random.Generator) -> Image.Image:
    return dark_on_light(on_canvas(digit, 0.3, random))


def thinned(digit: Image.Image, random: np.random.Generator) -> Image.Image:
    picture = dark_on_light(on_canvas(digit, 1, random))
    return picture.filter(ImageFilter.MaxFilter(2 * int(random.integers(2, 5)) + 1))


def thickened(digit: Image.Image, random: np.random.Generator) -> Image.Image:
    picture = dark_on_light(on_canvas(digit, 0.9, random))
    return picture.filter(ImageFilter.MinFilter(2 * int(random.integers(3, 7)) + 1))


def inverted(digit: Image.Image, random: np.random.Generator) -> Image.Image:
    return Image.fromarray((on_canvas(digit, 1, random) * 255).astype(np.uint8))


def transparent(digit: Image.Image, random: np.random.Generator) -> Image.Image:
    ink = on_canvas(digit, random.uniform(0.5, 1), random)
    picture = np.zeros((*ink.shape, 4), np.uint8)
    picture[..., :3] = random.choice([0, 255, 40])
    picture[..., 3] = ink * 255
    return Image.fromarray(picture)


def compressed(digit: Image.Image, random: np.random.Generator) -> Image.Image:
    picture = dark_on_light(on_canvas(digit, random.uniform(0.5, 1), random))
    return through_jpeg(picture, int(random.integers(5, 30)))


def paper(digit: Image.Image, random: np.random.Generator) -> Image.Image:
    """Grey ink on grey paper, unevenly lit, grainy, a little out of focus, as a JPEG."""
    ink = on_canvas(digit, random.uniform(0.5, 1), random)
    axis = np.linspace(-1, 1, CANVAS, dtype=np.float32)
    slope = random.uniform(-0.25, 0.25, 2)
    hollow = random.uniform(0, 0.2)
    light = random.uniform(0.55, 0.9) + slope[0] * axis[:, None] + slope[1] * axis[None, :]
    light = light - hollow * (axis[:, None] ** 2 + axis[None, :] ** 2)
    grain = random.normal(0, random.uniform(0.01, 0.04), ink.shape)
    grey = light * (1 - ink * random.uniform(0.35, 0.8)) + grain
    picture = Image.fromarray((np.clip(grey, 0, 1) * 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.5, 2)))
    return through_jpeg(picture, int(random.integers(30, 90)))


def through_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


CONDITIONS: dict[str, Condition] = {
    "plain": plain,
    "moved": moved,
    "scaled 0.3 to 1": scaled,
    "scaled 0.3": smallest,
    "thinned": thinned,
    "thickened": thickened,
    "inverted": inverted,
    "transparent": transparent,
    "JPEG, quality 5 to 30": compressed,
    "grey uneven paper": paper,
}


def in_process() -> Send:
    """Sends through the app's own test client."""
    from app import create_app

    client = create_app().test_client()

    def send(images: list[bytes]) -> list[str]:
        files = [(io.BytesIO(image), f"{index}.png") for index, image in enumerate(images)]
        response = client.post("/api/predict?top_k=1", data={"file": files})
        return labels(response.get_json())

    return send


def over_http(url: str) -> Send:
    """Sends to a running server, one picture a request."""

    def send(images: list[bytes]) -> list[str]:
        answers = []
        for image in images:
            request = urllib.request.Request(
                url.rstrip("/") + "/api/predict?top_k=1", image, {"Content-Type": "image/png"}
            )
            with urllib.request.urlopen(request) as response:
                answers += labels(json.load(response))
        return answers

    return send


def labels(answer: dict[str, list[dict[str, str]]]) -> list[str]:
    """Each result's label; an empty string where the app could not answer."""
    return [result.get("label", "") for result in answer["results"]]


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def accuracy(send: Send, pictures: Iterable[Image.Image], truth: list[str]) -> float:
    """The part of `pictures` that is answered rightly, 0..1."""
    contents = [png(picture) for picture in pictures]
    answers: list[str] = []
    for first in range(0, len(contents), 50):
        answers += send(contents[first : first + 50])
    return float(np.mean([answer == label for answer, label in zip(answers, truth, strict=True)]))


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the MNIST files")
    parser.add_argument("--count", type=int, default=2000, help="test digits a condition")
    parser.add_argument("--url", help="a running server; else the app answers in this process")
    parser.add_argument("--bar", type=float, default=0.985, help="least accuracy of a condition")
    arguments = parser.parse_args()
    images, targets = load_mnist(arguments.data, train=False)
    digits = [Image.fromarray(image[0].numpy()) for image in images[: arguments.count]]
    truth = [str(int(target)) for target in targets[: arguments.count]]
    send = over_http(arguments.url) if arguments.url else in_process()
    worst = 1.0
    for name, condition in CONDITIONS.items():
        random = np.random.default_rng(0)
        score = accuracy(send, [condition(digit, random) for digit in digits], truth)
        worst = min(worst, score)
        print(f"{name:24} {score:7.2%}  of {len(digits)}", flush=True)
    return 0 if worst >= arguments.bar else 1


if __name__ == "__main__":
    sys.exit(main())

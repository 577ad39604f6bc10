"""Where the processor time of an answer goes: decoding, finding, the network, everything else.

    python benchmarks/steps.py [--checkout DIR] [--count 40]

Each picture goes through the whole WSGI app inside this process, in one thread; DIR is another
checkout to measure. Prints a Markdown table of medians in milliseconds of processor time.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

TOP = Path(__file__).resolve().parent.parent


def png(picture: Image.Image) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def samples() -> dict[str, tuple[str, bytes]]:
    """What is sent: a model's name and a file each."""
    drawing = Image.open(TOP / "docs" / "seven.png").convert("L")
    random = np.random.default_rng(0)
    sheet = np.asarray(drawing.resize((700, 700)), np.float32) * 0.7 + 40
    sheet = sheet * np.linspace(0.8, 1, 700) + random.normal(0, 4, (700, 700))
    paper = io.BytesIO()
    Image.fromarray(sheet.clip(0, 255).astype(np.uint8)).convert("RGB").save(paper, "JPEG")
    face = (TOP / "tests" / "photos" / "astronaut.jpg").read_bytes()
    return {
        "a drawing, 280 × 280, PNG": ("digits", png(drawing)),
        "a photo of a digit, 700 × 700, JPEG": ("digits", paper.getvalue()),
        "a photo of a face": ("emotions", face),
    }


def milliseconds(work: Callable[[], Any], count: int) -> float:
    """The median processor time of `work`."""
    times = []
    for _ in range(count + 2):
        began = time.process_time()
        work()
        times.append(1000 * (time.process_time() - began))
    return median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--checkout", type=Path, default=TOP, metavar="DIR")
    parser.add_argument("--count", type=int, default=40, metavar="N")
    arguments = parser.parse_args()
    pictures = samples()
    os.chdir(arguments.checkout)
    sys.path.insert(0, str(arguments.checkout.resolve()))
    from app import create_app
    from app.models import models
    from tasks.decode import decode

    app = create_app()
    client = app.test_client()
    print("| picture | decode | find and prepare | network | HTTP, JSON | all | all / network |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind, (name, content) in pictures.items():
        with app.app_context():
            model = models().get(name)
        picture = decode(content, 10**8)
        pixels = np.stack([each.pixels for each in model.task.find(picture, model.spec)])

        def answered(name: str = name, content: bytes = content) -> None:
            sent = client.post(f"/api/predict?model={name}", data=content, content_type="image/png")
            assert sent.status_code == 200, sent.get_data(as_text=True)

        steps = [
            milliseconds(lambda content=content: decode(content, 10**8), arguments.count),
            milliseconds(
                lambda model=model, picture=picture: model.task.find(picture, model.spec),
                arguments.count,
            ),
            milliseconds(lambda model=model, pixels=pixels: model.network(pixels), arguments.count),
        ]
        whole = milliseconds(answered, arguments.count)
        cells = [*steps, whole - sum(steps), whole, whole / steps[2]]
        print(f"| {kind} | {' | '.join(f'{each:.1f}' for each in cells)} |", flush=True)


if __name__ == "__main__":
    main()

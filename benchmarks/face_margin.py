"""Which margin around a found face suits the network: FER2013's validation faces in larger scenes.

    python benchmarks/face_margin.py --data DIR [--count 600]

DIR holds FER2013. `count` pictures of PublicTest (validation, never tested on) are enlarged five
times, their edges drawn out to a scene, found by the app's detector, and cut out at several
margins: as the app sets them, wholly upright by their eyes, and as they stand. The served model
`emotions` answers for each. Prints a Markdown table, whose first row is of the same
pictures as they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app import create_app, faces
from training import datasets
from training.recipe import DataRecipe

MARGINS = (0.9, 1.0, faces.MARGIN, 1.2, 1.3, 1.45)
SIDE = 48
ENLARGED = 5
AROUND = 60  # pixels of the scene at each side


def scene(picture: NDArray[np.uint8]) -> Image.Image:
    """The face (48, 48), enlarged, in the middle of a larger picture."""
    size = (SIDE * ENLARGED, SIDE * ENLARGED)
    large = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    return Image.fromarray(np.pad(np.asarray(large), AROUND, "edge"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=600, metavar="N")
    arguments = parser.parse_args()
    part = datasets.load(DataRecipe(name="fer2013"), arguments.data).validation
    chosen = np.random.default_rng(0).permutation(len(part))[: arguments.count]
    pictures, truth = part.pictures.numpy()[chosen], part.labels.numpy()[chosen]
    model = create_app().extensions["models"].get("emotions")

    scenes = [scene(picture[0]) for picture in pictures]
    found = [(index, faces.find(photo)) for index, photo in enumerate(scenes)]
    kept = [(index, each[0]) for index, each in found if each]
    places = [index for index, _ in kept]

    def accuracy(crops: NDArray[np.uint8]) -> str:
        return f"{(model.network(crops).argmax(1) == truth[places]).mean():.1%}"

    print(f"{len(places)} of {len(scenes)} faces found\n")

    def whole_tilt(face: faces.Face) -> faces.Face:
        tilt = face.tilt + math.copysign(faces.NATURAL, face.tilt)
        return dataclasses.replace(face, tilt=tilt if face.tilt else 0.0)

    def no_tilt(face: faces.Face) -> faces.Face:
        return dataclasses.replace(face, tilt=0.0)

    print(
        "| margin | as the app sets them | upright | as they stand |\n| --- | ---: | ---: | ---: |"
    )
    print(f"| the pictures themselves | | | {accuracy(pictures[places])} |", flush=True)
    for margin in MARGINS:
        cells = []
        for change in (lambda face: face, whole_tilt, no_tilt):
            crops = [
                faces.cut(scenes[index], change(face), SIDE, 1, margin) for index, face in kept
            ]
            cells.append(accuracy(np.stack(crops)))
        print(f"| {margin} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

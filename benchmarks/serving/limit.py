"""The bare limit: the same work in a loop, in as many processes, without any server.

    python limit.py pictures FOLDER                       # writes digit.png and face.png
    python limit.py loop MODEL PICTURE COUNT SECONDS      # one process's loop, COUNT a call

The loop says its first answer's labels, waits for a line, works, and says what it measured.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

from PIL import Image

TOP = Path(__file__).resolve().parent.parent.parent
FACE = (100, 34, 180, 114)  # in the photo: left, top, right, bottom, pixels


def make_pictures(folder: Path) -> None:
    (folder / "digit.png").write_bytes((TOP / "docs" / "seven.png").read_bytes())
    photo = Image.open(TOP / "tests" / "photos" / "astronaut.jpg")
    photo.crop(FACE).save(folder / "face.png")


def loop(model: str, picture: Path, count: int, seconds: float) -> None:
    from work import work

    labels = work().labels
    contents = [picture.read_bytes()] * count
    print(json.dumps(labels(contents, model)), flush=True)
    sys.stdin.readline()
    times = [time.perf_counter()]
    while times[-1] < times[0] + seconds:
        labels(contents, model)
        times.append(time.perf_counter())
    each = [after - before for before, after in pairwise(times)]
    print(json.dumps({"seconds": times[-1] - times[0], "each": each}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1] == "pictures":
        make_pictures(Path(sys.argv[2]))
    else:
        loop(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))

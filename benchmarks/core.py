"""What a core answers: the processor time of a picture, from its bytes to its answer, without HTTP.

    python benchmarks/core.py [--model digits] [--engine onnx] [--times 200] FILE...

Each file is answered by itself and 16 at once. Processor time depends less on what else the machine
does than pictures a second; both are given for a core of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.engines import engine
from app.models import Model, Models
from app.predict import Options, Upload, predict
from model_store import ROOT

OPTIONS = Options(max_pixels=50_000_000)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--model", default="digits")
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--times", type=int, default=200)
    given = parser.parse_args()
    model = Models(ROOT, engine(given.engine)).get(given.model)
    print("file | ms of processor time, median (quartiles) | a second | 16 at once, ms each")
    for file in given.files:
        content = file.read_bytes()
        alone = [timed(model, [content]) for _ in range(given.times)]
        # Bytes after a picture's end are no part of it; they make sixteen pictures of one.
        sixteen = [content + bytes([number]) for number in range(16)]
        many = [timed(model, sixteen) / 16 for _ in range(max(3, given.times // 16))]
        low, middle, high = statistics.quantiles(alone, n=4)
        each = statistics.median(many)
        print(
            f"{file.name} | {middle:.2f} ({low:.2f}–{high:.2f}) | {1000 / middle:.0f} | {each:.2f}"
        )
    return 0


def timed(model: Model, contents: Sequence[bytes]) -> float:
    """Milliseconds of processor time."""
    began = time.process_time()
    predict(model, [Upload(content) for content in contents], OPTIONS)
    return 1000 * (time.process_time() - began)


if __name__ == "__main__":
    sys.exit(main())

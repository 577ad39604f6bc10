"""libfacedetection's network (YuNet; Wu, Peng and Yu, 2023; BSD-3), run by onnxruntime.

Its weights are in weights/libfacedetection.onnx. It finds the same faces as the library, in a
quarter of the time, on every machine that has onnxruntime.
"""

from __future__ import annotations

import importlib.util
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WEIGHTS = Path(__file__).parent / "weights" / "libfacedetection.onnx"

STRIDES = (8, 16, 32)  # of the network's anchor points, pixels
LEAST_SCORE = 0.2  # the library's own limits, from here
OVERLAP = 0.45  # intersection over union above which two boxes are the same face
CANDIDATES_MOST = 1000
FACES_MOST = 512

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Point = tuple[int, int]


class NoDetectorError(RuntimeError):
    """No detector can be loaded here; the message says what to install."""


class Detection(NamedTuple):
    """A face: its score, 0..100, its box, and five landmarks (x, y), in whole pixels.

    The landmarks are the eyes, the nose and the corners of the mouth; of each pair, the one on the
    left of the picture comes first.
    """

    score: int
    x: int
    y: int
    width: int
    height: int
    landmarks: tuple[Point, ...]


def detect(rgb: Bytes) -> list[Detection]:
    """The faces of `rgb`, uint8 (H, W, 3), best first; raises `NoDetectorError`."""
    height, width = rgb.shape[:2]
    last = STRIDES[-1]
    padded = np.zeros((1, -(-height // last) * last, -(-width // last) * last, 3), np.uint8)
    padded[0, :height, :width] = rgb
    (places,) = _session().run(None, {"rgb": padded})
    return _detections(places[0], padded.shape[1], padded.shape[2])


@lru_cache(maxsize=1)
def _session() -> Any:
    if importlib.util.find_spec("onnxruntime") is None:
        raise NoDetectorError("onnxruntime is not installed: pip install onnxruntime")
    # Its telemetry would write to the home folder, and its thread does not survive a fork.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
    except Exception as error:  # a package without its library fails in several ways
        raise NoDetectorError(
            f"onnxruntime cannot be used ({error}): pip install --force-reinstall onnxruntime"
        ) from error
    # One thread needs no pool, which would not survive a fork.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it keeps memory for each picture size
    try:
        return onnxruntime.InferenceSession(WEIGHTS.read_bytes(), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base class
        raise NoDetectorError(
            f"{WEIGHTS.name} cannot be read ({error}): restore tasks/weights with "
            "git checkout tasks/weights, or install the app again"
        ) from error


def _detections(places: Floats, height: int, width: int) -> list[Detection]:
    """The faces in the network's output, float32 (N, 15), for a picture of that size.

    Each anchor point has a score 0..1 and, in strides from the point, the centre of a box, the
    logarithms of its width and height, and five landmarks.
    """
    chosen = np.flatnonzero(places[:, 0] >= LEAST_SCORE)
    best_first = np.argsort(-places[chosen, 0], kind="stable")[:CANDIDATES_MOST]
    chosen = chosen[best_first]
    scores = places[chosen, 0]
    x, y, stride = _grid(height, width)[:, chosen]
    sides = np.exp(places[chosen, 3:5]) * stride[:, np.newaxis]
    points = places[chosen][:, [1, 2, *range(5, 15)]].reshape(-1, 6, 2)
    points = points * stride[:, np.newaxis, np.newaxis] + np.stack([x, y], 1)[:, np.newaxis]
    corners = points[:, 0] - sides / 2
    kept = _without_doubles(corners, corners + sides)[:FACES_MOST]
    faces = []
    for score, box, marks in zip(
        scores[kept], np.hstack([corners, sides])[kept], points[kept, 1:], strict=True
    ):
        left, top, across, down = (int(value) for value in box)
        landmarks = tuple((int(x), int(y)) for x, y in marks)
        faces.append(Detection(int(100 * score), left, top, across, down, landmarks))
    return faces


def _grid(height: int, width: int) -> Floats:
    """The network's anchor points, float32 (3, N): x, y and stride in pixels."""
    scales = []
    for stride in STRIDES:
        rows, columns = np.mgrid[0:height:stride, 0:width:stride]
        scales.append([columns.ravel(), rows.ravel(), np.full(rows.size, stride)])
    return np.concatenate(scales, axis=1, dtype=np.float32)


def _without_doubles(starts: Floats, ends: Floats) -> list[int]:
    """Non-maximum suppression of boxes, best first: the indices to keep; corners are (N, 2)."""
    areas = (ends - starts).prod(1)
    left, kept = np.arange(len(starts)), []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(int(best))
        shared = np.minimum(ends[left], ends[best]) - np.maximum(starts[left], starts[best])
        shared = shared.clip(0).prod(1)
        left = left[shared <= OVERLAP * (areas[left] + areas[best] - shared)]
    return kept

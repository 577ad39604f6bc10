"""Whether a face is seen well enough for its expression to be judged.

The limits are measured: docs/faces.md says on what, and how often they err.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.base import Verdict
from tasks.face_detector import Detection

SMALL = 24  # side of a face, pixels; of a smaller one too little is seen
ASIDE = 0.05  # of a face's width, that may be beyond the photo's edge
ABOVE = 0.12  # of its height: the detector's boxes reach a little below the chin
A_FACE = 40  # the detector's score of 100 close up, below which it is no face
CLEAR = 88  # the same, below which a part of the face is likely covered
TURNED = 0.6  # nose beside the middle, by the eyes' distance; further out, one eye is hidden
DETAIL = 0.11  # contrast of eyes and mouth, by the face's; a hand, mask or dark glass has less

# A face is compared with itself as a square in which its eyes and its mouth have these places.
SIDE, CENTRE, EYES, MOUTH = 64, 32, 20, 44
PARTS = (  # rows and columns of the mouth and the eyes
    (slice(38, 50), slice(22, 42)),
    (slice(15, 26), slice(16, 28)),
    (slice(15, 26), slice(36, 48)),
)
FACE = (slice(12, 56), slice(14, 50))
NOISE = 4  # grey levels, so that a dim picture's noise is no contrast

Floats = NDArray[np.float64]


def verdict(close: Image.Image, found: Detection | None) -> Verdict:
    """Whether a face can be judged, by its close-up and what the detector found in its centre."""
    if found is None or found.score < A_FACE:
        return "none"
    eyes, nose, mouth = _marks(found)
    down, across = mouth - eyes.mean(0), eyes[1] - eyes[0]
    if found.score < CLEAR or not down.any() or not across.any():
        return "unsure"
    aside = abs(_beside(nose - (eyes.mean(0) + mouth) / 2, down))
    if aside > TURNED * np.hypot(*across) or _least_detail(close, eyes.mean(0), down) < DETAIL:
        return "unsure"
    return "sure"


def _marks(face: Detection) -> tuple[Floats, Floats, Floats]:
    """The eyes, (2, 2), the nose and the middle of the mouth."""
    marks = np.array(face.landmarks, np.float64)
    return marks[:2], marks[2], marks[3:].mean(0)


def _beside(offset: Floats, down: Floats) -> float:
    """How far `offset` leads across the direction `down`."""
    return float(offset[0] * down[1] - offset[1] * down[0]) / float(np.hypot(*down))


def _least_detail(close: Image.Image, eyes: Floats, down: Floats) -> float:
    """The least contrast, from row to row, of the mouth and the eyes, by that of the whole face.

    `eyes` is the point between the eyes in the close-up, from which `down` leads to the mouth.
    """
    step = down / (MOUTH - EYES)
    right = np.array([step[1], -step[0]])
    corner = eyes - CENTRE * right - EYES * step
    matrix = (right[0], step[0], corner[0], right[1], step[1], corner[1])
    level = close.convert("L").transform(
        (SIDE, SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    grey = np.asarray(level, np.float64)
    change = np.abs(np.gradient(grey, axis=0))
    return float(min(change[part].mean() for part in PARTS) / (grey[FACE].std() + NOISE))

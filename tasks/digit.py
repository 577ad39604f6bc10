"""The task `digit`: a drawing or photo of one digit, or of the digits of a number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from tasks import normaliser
from tasks.base import (
    Answer,
    Frame,
    InputSpec,
    Pixels,
    Prediction,
    Probabilities,
    Subject,
    Task,
    Verdict,
    rank,
    scaled_box,
)
from tasks.decode import Picture
from tasks.normaliser import BlankError, Digit
from tasks.problems import blank_picture

READINGS = 10  # of a number

INK = 64  # grey levels above which a pixel is the digit's, and not its soft edge
WIDE = 1.1  # width over height: no digit is wider
CLOSE = 0.15  # a gap between two parts of one digit is seldom wider, in its height
SURE, VERY_SURE = 0.8, 0.98  # a score, or the geometric mean of several digits' scores


@dataclass(frozen=True)
class Strokes(Subject):
    """The pieces of ink from `first` up to `last` as one digit, the widest `gap` between them, in
    their height, and whether the picture holds ink that is no digit `beside` them."""

    first: int
    last: int
    gap: float
    beside: bool


class DigitTask(Task):
    """A digit, or a number whose digits do not touch."""

    name = "digit"
    page = "draw.html"
    sample_file = "digit.png"
    preprocessing: ClassVar[Mapping[str, Any]] = normaliser.PREPROCESSING

    def misfit(self, spec: InputSpec) -> str | None:
        """See `Task.misfit`."""
        size = normaliser.SIZE
        if tuple(spec.shape) != (1, size, size):
            return f"digits are always 1 channel of {size} × {size} pixels"
        return None

    def prepare(self, image: Image.Image, spec: InputSpec) -> Pixels:
        """See `Task.prepare`: all strokes are taken as one digit."""
        try:
            return normaliser.normalise(image)[np.newaxis]
        except BlankError as error:
            raise blank_picture() from error

    def find(self, picture: Picture, spec: InputSpec, *, whole: bool = False) -> Sequence[Subject]:
        """See `Task.find`: first all strokes as one digit, then the digits of a possible number."""
        try:
            reading = normaliser.read(picture.image)
        except BlankError as error:
            raise blank_picture() from error

        def stroke(digit: Digit, first: int, last: int, gap: float = 0) -> Strokes:
            box = scaled_box(*digit.box, picture=picture)
            pixels = digit.pixels[np.newaxis]
            frame = _frame(digit, picture)
            return Strokes(pixels, box, first, last, gap, reading.beside, frame=frame)

        count = len(reading.pieces)
        return [
            stroke(reading.whole, 0, max(count, 1), max(reading.gaps, default=0)),
            *(stroke(piece, at, at + 1) for at, piece in enumerate(reading.pieces) if count > 1),
            *(stroke(pair, at, at + 2, reading.gaps[at]) for at, pair in reading.pairs.items()),
        ]

    def answer(
        self,
        subjects: Sequence[Subject],
        probabilities: Probabilities,
        labels: Sequence[str],
        thresholds: Mapping[str, float],
        *,
        none: Probabilities,
    ) -> Answer:
        """See `Task.answer`: a number is as sure as the least sure of its digits."""
        whole = subjects[0]
        # How likely each is that digit, and one digit at all.
        chosen = digits_of(subjects, probabilities * (1 - none[:, np.newaxis]), labels)
        own = probabilities[chosen]
        predictions = readings(labels, own) if len(chosen) > 1 else rank(labels, own[0])
        parts = [subjects[at] for at in chosen]
        verdicts = [
            self.verdict(part, rank(labels, each), thresholds, none=float(share))
            for part, each, share in zip(parts, own, none[chosen], strict=True)
        ]
        beside = isinstance(whole, Strokes) and whole.beside
        kinds: tuple[Verdict, ...] = ("none", "unsure", "sure")
        verdict: Verdict = "none" if beside else next(kind for kind in kinds if kind in verdicts)
        return Answer(predictions, verdict, parts, own, verdicts, whole)


TASK = DigitTask()


def _frame(digit: Digit, picture: Picture) -> Frame:
    """Where the digit's pixels lie in the picture: its ink in them lies over its box."""
    ink = digit.pixels > INK
    across, down = (np.flatnonzero(ink.any(axis=axis)) for axis in (0, 1))
    left, top, right, bottom = digit.box
    factor = picture.width / picture.image.width
    scale = factor * max(right - left, bottom - top) / max(np.ptp(across) + 1, np.ptp(down) + 1)
    x = factor * (left + right) / 2 - scale * (across[0] + across[-1] + 1) / 2
    y = factor * (top + bottom) / 2 - scale * (down[0] + down[-1] + 1) / 2
    side = scale * normaliser.SIZE
    return Frame(*(round(float(value), 2) for value in (x, y, side, side)))


def digits_of(
    subjects: Sequence[Subject], probabilities: Probabilities, labels: Sequence[str]
) -> list[int]:
    """Which of the `subjects` that `find` gave are the digits, from left to right: (N, K).

    It is the first, all strokes as one digit, or others that together are all strokes.
    """
    parts = [each for each in subjects if isinstance(each, Strokes)]
    if len(parts) < 3 or len(parts) != len(subjects):
        return [0]
    scores = probabilities.max(axis=1)
    read = [labels[at] for at in probabilities.argmax(axis=1)]
    pairs = {part.first: at for at, part in enumerate(parts) if at and part.last > part.first + 1}
    chosen: list[int] = []
    piece = 0
    while piece < parts[0].last:
        left, pair = 1 + piece, pairs.get(piece)
        if pair is not None and _is_four(
            parts[pair].gap, read[pair], scores[pair], read[left : left + 2], scores[left]
        ):
            chosen.append(pair)
            piece += 2
        else:
            chosen.append(left)
            piece += 1
    if len(chosen) == 1:
        return [0]
    whole = parts[0]
    if whole.box.width / whole.box.height > WIDE or whole.gap >= CLOSE:
        return chosen
    # Close and narrow: several digits, or one in pieces.
    sureness = math.exp(float(np.log(np.maximum(scores[chosen], 1e-9)).mean()))
    return chosen if sureness > min(SURE, float(scores[0])) else [0]


def _is_four(
    gap: float, both: str, sureness: float, pieces: Sequence[str], left_sureness: float
) -> bool:
    """Whether two pieces are an open 4: they read `both` together, `pieces` one by one.

    Its stem is a 1; its angle is no digit, so that the network is seldom sure of it.
    """
    left, right = pieces
    if both != "4" or right != "1" or (left in ("1", "4") and left_sureness >= SURE):
        return False
    if gap >= CLOSE:
        return sureness > SURE > left_sureness
    return sureness > 0.5 and left_sureness < VERY_SURE


def readings(labels: Sequence[str], digits: Probabilities) -> list[Prediction]:
    """The likeliest readings of the number whose digits have these probabilities, (N, K).

    A reading's score is the product of its digits' scores, normalised over all `READINGS`.
    """
    found = [("", 1.0)]
    for scores in digits.tolist():
        further = [
            (text + label, product * score)
            for text, product in found
            for label, score in zip(labels, scores, strict=True)
        ]
        found = sorted(further, key=lambda reading: -reading[1])[:READINGS]
    total = sum(product for _, product in found)
    return [Prediction(text, round(product / total, 9)) for text, product in found]

"""The task `digit`: a drawing or photo of one digit, or of the digits of a number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from tasks import normaliser
from tasks.base import (
    Answer,
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
from tasks.normaliser import BlankError
from tasks.problems import blank_picture

READINGS = 10  # of a number

WIDE = 1.1  # width over height: no digit is wider, but some in pieces are nearly so
SURE, VERY_SURE = 0.8, 0.95  # the geometric mean of the digits' scores


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
            digits = normaliser.read(picture.image)
        except BlankError as error:
            raise blank_picture() from error
        return [
            Subject(digit.pixels[np.newaxis], scaled_box(*digit.box, picture=picture))
            for digit in digits
        ]

    def answer(
        self,
        subjects: Sequence[Subject],
        probabilities: Probabilities,
        labels: Sequence[str],
        thresholds: Mapping[str, float],
    ) -> Answer:
        """See `Task.answer`: a number is as sure as the least sure of its digits."""
        whole, digits = subjects[0], subjects[1:]
        if not is_number(whole.box.width / whole.box.height, probabilities[0], probabilities[1:]):
            return super().answer([whole], probabilities[:1], labels, thresholds)
        verdicts = {self.verdict(rank(labels, each), thresholds) for each in probabilities[1:]}
        verdict: Verdict = "sure" if verdicts == {"sure"} else "unsure"
        predictions = readings(labels, probabilities[1:])
        return Answer(predictions, verdict, digits, probabilities[1:], whole)


TASK = DigitTask()


def is_number(aspect: float, whole: Probabilities, digits: Probabilities) -> bool:
    """Whether strokes of the aspect ratio `aspect` are several `digits`, (N, K), not one.

    `whole` (K,) are the probabilities of all strokes as one digit. A digit in two pieces, such as
    an open 4, may look like two digits: then the network is as sure of the whole.
    """
    if len(digits) < 2:
        return False
    sureness = math.exp(float(np.log(np.maximum(digits.max(axis=1), 1e-9)).mean()))
    if aspect > WIDE:
        return sureness > SURE
    return sureness > VERY_SURE and float(whole.max()) < VERY_SURE


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

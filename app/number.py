"""Digits side by side: whether they are a number, and which."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

READINGS = 10  # of a number

WIDE = 1.1  # width over height: no digit is wider, but some in pieces are nearly so
SURE, VERY_SURE = 0.8, 0.95  # the geometric mean of the digits' scores

Scores = NDArray[np.float64]


def is_number(box: tuple[float, float], whole: Scores, digits: Sequence[Scores]) -> bool:
    """Whether ink of a `box` of width and height is several `digits` rather than one, `whole`.

    A digit in two pieces, such as an open 4, may look like two digits: then the network is as
    sure of the whole.
    """
    if len(digits) < 2:
        return False
    logs = [math.log(max(float(scores.max()), 1e-9)) for scores in digits]
    sureness = math.exp(sum(logs) / len(logs))
    if box[0] > WIDE * box[1]:
        return sureness > SURE
    return sureness > VERY_SURE and float(whole.max()) < VERY_SURE


def readings(labels: Sequence[str], digits: Sequence[Scores]) -> list[tuple[str, float]]:
    """The likeliest readings of the number, best first, and their scores, which sum to 1.

    A reading's score is the product of its digits', as a share of those of all `READINGS`.
    """
    found = [("", 1.0)]
    for scores in digits:
        further = [
            (text + label, product * float(score))
            for text, product in found
            for label, score in zip(labels, scores, strict=True)
        ]
        found = sorted(further, key=lambda reading: -reading[1])[:READINGS]
    total = sum(product for _, product in found)
    return [(text, product / total) for text, product in found]

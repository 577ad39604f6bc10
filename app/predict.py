"""The core that pages and API share: pictures in, ranked predictions out."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.decode import decode
from app.errors import NotReady, Problem
from app.models import Model
from app.subjects import digit


@dataclass(frozen=True)
class Upload:
    """A picture as it was sent, or why it could not be, and its file's name where it had one."""

    content: bytes | Problem
    filename: str | None = None


def predict(
    model: Model, uploads: Sequence[Upload], *, top_k: int, seen: bool, max_pixels: int
) -> list[dict[str, Any]]:
    """A result for each upload, in order, all classified in one batch.

    Of several uploads one that fails has its problem in its result's place. Raises the (first)
    `Problem` where none can be classified.
    """
    results: list[dict[str, Any]] = []
    subjects: list[NDArray[np.uint8]] = []
    problems: list[Problem] = []
    for upload in uploads:
        result: dict[str, Any] = {"filename": upload.filename}
        found = _subject(upload, max_pixels)
        if isinstance(found, Problem):
            problems.append(found)
            result["error"] = found.to_dict()
        else:
            result["width"], result["height"], subject = found
            subjects.append(subject)
        results.append(result)
    if not subjects:
        raise problems[0]
    served = [result for result in results if "error" not in result]
    probabilities = model.predict(np.stack(subjects)).astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    if not np.isfinite(probabilities).all():
        raise NotReady(f"The model {model.card.name} gives no numbers for this picture.")
    for result, subject, scores in zip(served, subjects, probabilities, strict=True):
        ranked = rank(model.card.labels, scores)
        result |= {**ranked[0], "predictions": ranked[:top_k]}
        if seen:
            result["seen"] = data_url(subject)
    return results


def _subject(upload: Upload, max_pixels: int) -> tuple[int, int, NDArray[np.uint8]] | Problem:
    """Width and height of the picture and what in it is to be classified, or its problem.

    The problem is a new one: that which was raised holds, through its traceback, the picture.
    """
    if isinstance(upload.content, Problem):
        return upload.content
    try:
        picture = decode(upload.content, max_pixels)
        return picture.width, picture.height, digit(picture)
    except Problem as problem:
        return type(problem)(problem.detail)


def rank(labels: Sequence[str], scores: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Labels with their scores, best first."""
    order = np.argsort(-scores, kind="stable")
    return [{"label": labels[index], "score": round(float(scores[index]), 9)} for index in order]


def data_url(subject: NDArray[np.uint8]) -> str:
    """What the network saw, uint8 (1, H, W), as a PNG data URL."""
    buffer = io.BytesIO()
    Image.fromarray(subject[0]).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

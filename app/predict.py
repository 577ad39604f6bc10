"""The core that pages and API share: pictures in, ranked predictions out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.decode import decode
from app.errors import NotReady, Problem, TooLarge
from app.explain import data_url, drawn
from app.memory import give_back_what_is_free
from app.models import Model
from app.number import is_number, readings
from app.subjects import Subject, subjects
from app.turns import Turns, Work

SMALL = 64 * 1024  # bytes
MUCH_WORK = 0.03  # seconds; a digit or a face takes less, a photo or many digits more
MOST_SUBJECTS = 1024  # of a request, and those of the picture that exceeds it

# Width and height of a picture and what in it is to be classified.
_Shown = tuple[int, int, Sequence[Subject]]
# The results so far, and what each of those without an error shows.
_Found = tuple[list[dict[str, Any]], list[Sequence[Subject]]]


@dataclass(frozen=True)
class Shows:
    """Which pictures an answer has beside its labels; explanations `until` the thread's time."""

    seen: bool = False
    explanation: bool = False
    until: float = math.inf


@dataclass(frozen=True)
class Upload:
    """A picture as it was sent, or why it could not be, and its file's name where it had one."""

    content: bytes | Problem
    filename: str | None = None


TURNS: Turns[list[dict[str, Any]]] = Turns()


def predict(
    model: Model,
    uploads: Sequence[Upload],
    *,
    top_k: int,
    whole: bool,
    shows: Shows,
    max_pixels: int,
    max_seconds: int,
) -> list[dict[str, Any]]:
    """A result for each upload, in order, all that they show classified in one batch.

    `whole` is whether a picture for a face model is one face's crop; `shows` adds pictures of what
    the network saw and why it answers so.
    Of several uploads one that fails has its problem in its result's place, and so do those that
    are left when `max_seconds` of work are done or `MOST_SUBJECTS` are found. Raises the (first)
    `Problem` where none can be classified.
    """
    found = partial(_found, model, uploads, whole=whole, max_pixels=max_pixels)
    work = _work(model, found, max_seconds, top_k=top_k, shows=shows)
    return TURNS.do(work, model.network, light=not shows.explanation and _is_small(uploads))


def _is_small(uploads: Sequence[Upload]) -> bool:
    """Whether it is one picture of few bytes, as a digit or a face alone is."""
    content = uploads[0].content
    return len(uploads) == 1 and isinstance(content, bytes) and len(content) <= SMALL


def _work(
    model: Model,
    find: Callable[[float], _Found],
    max_seconds: int,
    *,
    top_k: int,
    shows: Shows,
) -> Work[list[dict[str, Any]]]:
    """What `predict` does in its turn. The memory of much work is given back."""
    # This thread's own time: that others keep the cores busy is no fault of the request.
    began = time.thread_time()
    end = began + max_seconds
    much = False
    try:
        try:
            results, found = find(end)
        finally:
            much = time.thread_time() - began > MUCH_WORK
        probabilities = (
            yield np.stack([subject.pixels for parts in found for subject in parts])
        ).astype(np.float64)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        if not np.isfinite(probabilities).all():
            raise NotReady(f"The model {model.card.name} gives no numbers for this picture.")
        shows = replace(shows, until=end)
        start = 0
        served = [result for result in results if "error" not in result]
        for result, parts in zip(served, found, strict=True):
            scores = probabilities[start : start + len(parts)]
            start += len(parts)
            if model.card.task == "digit":
                result.update(_digits(model, parts, scores, top_k=top_k, shows=shows))
                continue
            faces = [
                _answer(model, *pair, top_k=top_k, shows=shows)
                for pair in zip(parts, scores, strict=True)
            ]
            result |= {name: value for name, value in faces[0].items() if name != "box"}
            result["faces"] = faces
        return results
    finally:
        if much:
            give_back_what_is_free()


def _found(
    model: Model, uploads: Sequence[Upload], end: float, *, whole: bool, max_pixels: int
) -> _Found:
    """A result begun for each upload, and what those without an error show, until the thread's
    time `end`.
    """
    results: list[dict[str, Any]] = []
    found: list[Sequence[Subject]] = []
    problems: list[Problem] = []
    for upload in uploads:
        result: dict[str, Any] = {"filename": upload.filename}
        shown: _Shown | Problem
        if time.thread_time() > end or sum(map(len, found)) > MOST_SUBJECTS:
            shown = TooLarge(
                "The pictures before this one were all the work that a request may make. Send it "
                "in another request."
            )
        else:
            shown = _shown(upload, model, whole=whole, max_pixels=max_pixels)
        if isinstance(shown, Problem):
            problems.append(shown)
            result["error"] = shown.to_dict()
        else:
            result["width"], result["height"], parts = shown
            found.append(parts)
        results.append(result)
    if not found:
        raise problems[0]
    return results, found


def _digits(
    model: Model, parts: Sequence[Subject], scores: NDArray[np.float64], *, top_k: int, shows: Shows
) -> dict[str, Any]:
    """What the model says of a picture of a digit or a number: of the whole, and of each digit."""
    whole, digits = parts[0], parts[1:]
    several = is_number((whole.box["width"], whole.box["height"]), scores[0], list(scores[1:]))
    chosen = zip(digits, scores[1:], strict=True) if several else [(whole, scores[0])]
    subjects = [_answer(model, *pair, top_k=top_k, shows=shows) for pair in chosen]
    answer = {name: value for name, value in subjects[0].items() if name != "box"}
    if several:
        ranked = [
            {"label": label, "score": round(score, 9)}
            for label, score in readings(model.card.labels, list(scores[1:]))
        ]
        answer = {**ranked[0], "predictions": ranked[:top_k]}
        if shows.seen:
            answer["seen"] = _seen(whole.pixels)
    return {**answer, "subjects": subjects}


def _answer(
    model: Model, subject: Subject, scores: NDArray[np.float64], *, top_k: int, shows: Shows
) -> dict[str, Any]:
    """What the model says of one subject."""
    ranked = rank(model.card.labels, scores)
    answer = {"box": subject.box, **ranked[0], "predictions": ranked[:top_k]}
    if shows.seen:
        answer["seen"] = _seen(subject.pixels)
    if shows.explanation and time.thread_time() < shows.until:
        heat = model.explainer(subject.pixels, int(scores.argmax()))
        answer["explanation"] = drawn(subject.pixels, heat)
    return answer


def _shown(upload: Upload, model: Model, *, whole: bool, max_pixels: int) -> _Shown | Problem:
    """Width and height of the picture and what in it is to be classified, or its problem.

    The problem is a new one: that which was raised holds, through its traceback, the picture.
    """
    if isinstance(upload.content, Problem):
        return upload.content
    try:
        picture = decode(upload.content, max_pixels)
        return picture.width, picture.height, subjects(picture, model.card, whole=whole)
    except Problem as problem:
        return type(problem)(problem.detail)


def rank(labels: Sequence[str], scores: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Labels with their scores, best first."""
    order = np.argsort(-scores, kind="stable")
    return [{"label": labels[index], "score": round(float(scores[index]), 9)} for index in order]


def _seen(pixels: NDArray[np.uint8]) -> str:
    """What the network saw, uint8 (1, H, W) or (3, H, W), as a PNG data URL."""
    return data_url(Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))

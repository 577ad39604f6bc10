"""The core that the pages, the API and the command line share: pictures in, answers out.

The steps for a picture: bytes, `decode`, `find` and `prepare` (by the model's task), one
uint8 batch, the network, probabilities, the task's `answer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.answers import FailedResult, ProblemDetails, Result, SubjectAnswer
from app.explain import data_url, drawn
from app.memory import give_back_what_is_free
from app.models import Model
from app.scheduler import SCHEDULER, Turn
from tasks.base import Answer, Subject, rank
from tasks.decode import decode
from tasks.problems import NotReady, Problem, TooLarge

SMALL = 64 * 1024  # bytes
MUCH_WORK = 0.03  # seconds; a single digit or face takes less, a photo or many digits more
MOST_SUBJECTS = 1024  # in a request; the picture that exceeds it is still answered


@dataclass(frozen=True)
class Upload:
    """A picture as it was sent, or why it could not be read, and its file name if it had one."""

    content: bytes | Problem
    filename: str | None = None


@dataclass(frozen=True)
class Options:
    """What a request asks for.

    `top_k` predictions each (all if none is given); `whole` takes a picture as one subject's
    crop; `seen` and `explain` add pictures of what the network saw and why it answered so. No
    picture may have more than `max_pixels`; work beyond `max_seconds` is refused.
    """

    max_pixels: int
    max_seconds: float
    top_k: int | None = None
    whole: bool = False
    seen: bool = False
    explain: bool = False


@dataclass(frozen=True)
class _Found:
    """A picture's size as it was sent, and what in it is to be classified."""

    width: int
    height: int
    subjects: Sequence[Subject]


def predict(
    model: Model, uploads: Sequence[Upload], options: Options
) -> list[Result | FailedResult]:
    """A result for each upload, in order.

    If one of several uploads fails, its problem replaces its result; so it is for those that are
    left when the request's time is up or `MOST_SUBJECTS` are exceeded. Raises the first `Problem`
    if no upload can be classified.
    """
    light = not options.explain and _is_small(uploads)
    with work(light=light, seconds=options.max_seconds) as turn:
        found = _find_all(model, uploads, options, turn)
        pictures = [each for each in found if isinstance(each, _Found)]
        if not pictures:
            # A new one: what `found` holds would, through its traceback, hold `found` itself,
            # and so keep the pictures until the next garbage collection.
            raise next(_anew(each) for each in found if isinstance(each, Problem))
        pixels = np.stack([subject.pixels for each in pictures for subject in each.subjects])
        probabilities = iter(
            np.split(
                classify(model, pixels, turn),
                np.cumsum([len(each.subjects) for each in pictures])[:-1],
            )
        )
        return [
            _result(model, upload, each, next(probabilities), options=options, turn=turn)
            if isinstance(each, _Found)
            else FailedResult(upload.filename, ProblemDetails.of(each))
            for upload, each in zip(uploads, found, strict=True)
        ]


@contextmanager
def work(*, light: bool, seconds: float) -> Iterator[Turn]:
    """`Scheduler.turn`, after which the memory that much work took is given back."""
    with SCHEDULER.turn(light=light, seconds=seconds) as turn:
        try:
            yield turn
        finally:
            if turn.taken > MUCH_WORK:
                give_back_what_is_free()


def classify(model: Model, pixels: NDArray[np.uint8], turn: Turn) -> NDArray[np.float64]:
    """Probabilities (N, K), whose rows sum to 1, of `pixels`, uint8 (N, C, H, W).

    Raises `NotReady` if the network returns no numbers, `TooLarge` if the time is up before.
    """
    given = turn.classify(model.network, pixels)
    if given is None:
        raise TooLarge(
            "The request takes more processing time than one request may. Send fewer pictures."
        )
    probabilities = given.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    if not np.isfinite(probabilities).all():
        raise NotReady(f"The model {model.card.name} returns no numbers for this picture.")
    return probabilities


def _is_small(uploads: Sequence[Upload]) -> bool:
    """Whether it is one picture of few bytes, such as a single digit or face."""
    content = uploads[0].content
    return len(uploads) == 1 and isinstance(content, bytes) and len(content) <= SMALL


def _find_all(
    model: Model, uploads: Sequence[Upload], options: Options, turn: Turn
) -> list[_Found | Problem]:
    """What each upload shows, or its problem."""
    found: list[_Found | Problem] = []
    count = 0
    for upload in uploads:
        turn.rest()
        if turn.expired or count > MOST_SUBJECTS:
            found.append(
                TooLarge(
                    "The pictures before this one used up the limit for one request. "
                    "Send it in another request."
                )
            )
            continue
        each = _find(model, upload, options)
        found.append(each)
        if isinstance(each, _Found):
            count += len(each.subjects)
    return found


def _find(model: Model, upload: Upload, options: Options) -> _Found | Problem:
    """What the upload shows.

    A problem is returned as a copy: the raised one would keep the picture through its traceback.
    """
    if isinstance(upload.content, Problem):
        return upload.content
    try:
        picture = decode(upload.content, options.max_pixels)
        subjects = model.task.find(picture, model.spec, whole=options.whole)
    except Problem as problem:
        return _anew(problem)
    return _Found(picture.width, picture.height, subjects)


def _anew(problem: Problem) -> Problem:
    return type(problem)(problem.detail)


def _result(
    model: Model,
    upload: Upload,
    found: _Found,
    probabilities: NDArray[np.float64],
    *,
    options: Options,
    turn: Turn,
) -> Result:
    """The answer to one picture."""
    card, task = model.card, model.task
    answer = task.answer(found.subjects, probabilities, card.labels, card.thresholds)
    parts = [
        _part(model, subject, each, options, turn)
        for subject, each in zip(answer.subjects, answer.probabilities, strict=True)
    ]
    result = Result(
        filename=upload.filename,
        width=found.width,
        height=found.height,
        label=answer.predictions[0].label,
        score=answer.predictions[0].score,
        predictions=answer.predictions[: options.top_k],
        verdict=answer.verdict,
    )
    if _is_one(answer):
        result.seen, result.explanation = parts[0].seen, parts[0].explanation
    elif options.seen:
        result.seen = _seen(answer.whole)
    setattr(result, task.subject_list, parts)
    return result


def _is_one(answer: Answer) -> bool:
    """Whether the whole answer is that of its first subject."""
    return answer.whole is answer.subjects[0]


def _part(
    model: Model,
    subject: Subject,
    probabilities: NDArray[np.float64],
    options: Options,
    turn: Turn,
) -> SubjectAnswer:
    """The answer to one subject."""
    predictions = rank(model.card.labels, probabilities)
    part = SubjectAnswer(
        box=subject.box,
        label=predictions[0].label,
        score=predictions[0].score,
        predictions=predictions[: options.top_k],
        verdict=model.task.verdict(predictions, model.card.thresholds),
    )
    if options.seen:
        part.seen = _seen(subject)
    if options.explain and not turn.expired:
        turn.rest()
        heat = model.explainer(subject.pixels, int(probabilities.argmax()))
        part.explanation = drawn(subject.pixels, heat)
    return part


def _seen(subject: Subject) -> str:
    """What the network saw as a PNG data URL."""
    pixels = subject.pixels
    return data_url(Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))

"""The core that the pages, the API and the command line share: pictures in, answers out.

The steps for a picture: bytes, `decode`, `find` and `prepare` (by the model's task), one
uint8 batch, the network, probabilities, the task's `answer`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from PIL import Image

from app.answers import FailedResult, ProblemDetails, Result, SubjectAnswer
from app.body import SMALL
from app.explain import coloured, data_url, drawn
from app.memory import give_back_what_is_free
from app.models import Model
from app.scheduler import SCHEDULER, Turn
from tasks.base import Answer, Subject, rank
from tasks.decode import decode, header
from tasks.problems import NotReady, Problem, TooLarge

FEW = 512 * 1024  # pixels that are read in a few milliseconds
SEARCHED = 8  # how much longer it takes to look for faces in them
HUNGRY = ("WEBP", "AVIF")  # formats whose decoders take 12 to 16 bytes a pixel; others take 8
MOST_OF_HUNGRY = 25_000_000  # pixels of a picture in one of them
MUCH_WORK = 0.03  # seconds; a single digit or face takes less, a photo or many digits more
MOST_SUBJECTS = 1024  # in a request; the picture that exceeds it is still answered
EXPLAINED = 8  # subjects as which one counts that is to be explained

Watch = Callable[[Sequence[Subject], NDArray[np.float64]], None]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upload:
    """A picture as it was sent, or why it could not be read, and its file name if it had one."""

    content: bytes | Problem
    filename: str | None = None


@dataclass(frozen=True)
class Options:
    """What a request asks for.

    `top_k` predictions each (all if none is given); `whole` takes a picture as one subject's
    crop; `seen` and `explain` add pictures of what the network saw and why it answered so, or of
    what speaks for the label number `explained`. No picture may have more than `max_pixels`, nor
    all of them more than `max_pixels_in_all`; work beyond `max_seconds` is refused, and so is a
    wait for others of more than `max_wait` seconds.
    """

    max_pixels: int
    max_pixels_in_all: float = math.inf
    max_seconds: float = math.inf
    max_wait: float = math.inf
    top_k: int | None = None
    whole: bool = False
    seen: bool = False
    explain: bool = False
    explained: int | None = None


@dataclass(frozen=True)
class _Found:
    """A picture's size as it was sent, and what in it is to be classified."""

    width: int
    height: int
    subjects: Sequence[Subject]


def predict(
    model: Model, uploads: Sequence[Upload], options: Options, watch: Watch | None = None
) -> list[Result | FailedResult]:
    """A result for each upload, in order; the same picture twice is classified once.

    If one of several uploads fails, its problem replaces its result; so it is for those that are
    left when the request's time is up or one of its limits is exceeded. Raises the first `Problem`
    if no upload can be classified, or `Busy` if the server has too much to do. `watch` is told of
    all subjects and their probabilities (N, K).
    """
    light = _is_light(model, uploads, options)
    with work(light=light, seconds=options.max_seconds, patience=options.max_wait) as turn:
        found = _find_all(model, uploads, options, turn)
        pictures = list({id(each): each for each in found if isinstance(each, _Found)}.values())
        if not pictures:
            # A new one: what `found` holds would, through its traceback, hold `found` itself,
            # and so keep the pictures until the next garbage collection.
            raise next(_anew(each) for each in found if isinstance(each, Problem))
        subjects = [subject for each in pictures for subject in each.subjects]
        probabilities, none = classify(
            model, np.stack([subject.pixels for subject in subjects]), turn
        )
        if watch:
            watch(subjects, probabilities)
        scores = np.split(
            np.column_stack((probabilities, none)),
            np.cumsum([len(each.subjects) for each in pictures])[:-1],
        )
        results = {
            id(each): _result(model, each, own, options, turn)
            for each, own in zip(pictures, scores, strict=True)
        }
        return [
            msgspec.structs.replace(results[id(each)], filename=upload.filename)
            if isinstance(each, _Found)
            else FailedResult(upload.filename, ProblemDetails.of(each))
            for upload, each in zip(uploads, found, strict=True)
        ]


@contextmanager
def work(*, light: bool, seconds: float = math.inf, patience: float = math.inf) -> Iterator[Turn]:
    """`Scheduler.turn`, after which the memory that much work took is given back."""
    with SCHEDULER.turn(light=light, seconds=seconds, patience=patience) as turn:
        try:
            yield turn
        finally:
            if turn.taken > MUCH_WORK:
                give_back_what_is_free()


def classify(
    model: Model, pixels: NDArray[np.uint8], turn: Turn
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities (N, K), whose rows sum to 1, of `pixels`, uint8 (N, C, H, W), and how likely
    each shows none of the labels (N,), 0..1; 0 where the network does not reject.

    Raises `NotReady` if the network fails or returns no numbers, `TooLarge` if the time is up
    before.
    """
    try:
        given = turn.classify(model.network, pixels)
    except (Problem, MemoryError):
        raise
    except Exception as error:  # a checkpoint may hold any code
        raise _failed(model) from error
    if given is None:
        raise TooLarge(
            "The request takes more processing time than one request may. Send fewer pictures."
        )
    scores = given.astype(np.float64)
    scores /= scores.sum(axis=1, keepdims=True)
    if not np.isfinite(scores).all():
        raise NotReady(f"The model {model.card.name} returns no numbers for this picture.")
    labels = len(model.card.labels)
    # Where all labels' scores are 0, they are equally likely.
    probabilities = np.maximum(scores[:, :labels], 1e-30)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    none = scores[:, labels] if model.card.rejects else np.zeros(len(scores))
    return probabilities, none


def _failed(model: Model) -> NotReady:
    log.exception("the network of the model %s failed", model.card.name)
    return NotReady(
        f"The network of the model {model.card.name} failed. Send another picture, or ask for "
        "another model; the server's log has the error."
    )


def _is_light(model: Model, uploads: Sequence[Upload], options: Options) -> bool:
    """Whether it is one picture that takes a few milliseconds, such as a single digit or face."""
    content = uploads[0].content
    if len(uploads) > 1 or options.explain or isinstance(content, Problem) or len(content) > SMALL:
        return False
    is_searched = model.task.takes_crops and not options.whole
    return header(content)[1] * (SEARCHED if is_searched else 1) <= FEW


def _find_all(
    model: Model, uploads: Sequence[Upload], options: Options, turn: Turn
) -> list[_Found | Problem]:
    """What each upload shows, or its problem; the same for the same bytes."""
    found: list[_Found | Problem] = []
    by_content: dict[bytes, _Found | Problem] = {}
    subjects = pixels = 0
    for upload in uploads:
        turn.rest()
        if isinstance(upload.content, Problem):
            found.append(upload.content)
            continue
        each = by_content.get(upload.content)
        if turn.expired or subjects > MOST_SUBJECTS:
            each = _beyond_limit()
        elif each is None:
            kind, size = header(upload.content)
            most = options.max_pixels
            limit = min(most, MOST_OF_HUNGRY) if kind in HUNGRY else most
            pixels += size if size <= limit else 0
            if pixels > options.max_pixels_in_all:
                each = _beyond_limit()
            else:
                each = by_content[upload.content] = _find(model, upload.content, limit, options)
        if isinstance(each, _Found):
            subjects += len(each.subjects) * (EXPLAINED if options.explain else 1)
        found.append(each)
    return found


def _beyond_limit() -> TooLarge:
    return TooLarge(
        "The pictures before this one used up the limit for one request. "
        "Send it in another request."
    )


def _find(model: Model, content: bytes, max_pixels: int, options: Options) -> _Found | Problem:
    """What a picture shows.

    A problem is returned as a copy: the raised one would keep the picture through its traceback.
    """
    try:
        picture = decode(content, max_pixels)
        subjects = model.task.find(picture, model.spec, whole=options.whole)
    except Problem as problem:
        return _anew(problem)
    return _Found(picture.width, picture.height, subjects)


def _anew(problem: Problem) -> Problem:
    return type(problem)(problem.detail, problem.headers)


def _result(
    model: Model,
    found: _Found,
    scores: NDArray[np.float64],
    options: Options,
    turn: Turn,
) -> Result:
    """The answer to one picture, without its file's name; the last of the `scores` (N, K + 1) is
    that for none of the labels.
    """
    card, task = model.card, model.task
    probabilities, none = scores[:, :-1], scores[:, -1]
    answer = task.answer(found.subjects, probabilities, card.labels, card.thresholds, none=none)
    parts = [_part(model, answer, at, options, turn) for at in range(len(answer.subjects))]
    result = Result(
        filename=None,
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


def _part(model: Model, answer: Answer, at: int, options: Options, turn: Turn) -> SubjectAnswer:
    """The answer to the subject number `at`."""
    subject, probabilities = answer.subjects[at], answer.probabilities[at]
    predictions = rank(model.card.labels, probabilities)
    part = SubjectAnswer(
        box=subject.box,
        label=predictions[0].label,
        score=predictions[0].score,
        predictions=predictions[: options.top_k],
        verdict=answer.verdicts[at],
    )
    if options.seen:
        part.seen = _seen(subject)
        part.seen_at = subject.frame or UNSET
    if options.explain and not turn.expired:
        turn.rest()
        best = int(probabilities.argmax())
        try:
            heat = model.explainer(
                subject.pixels, best if options.explained is None else options.explained
            )
        except MemoryError:
            raise
        except Exception as error:  # as in `classify`
            raise _failed(model) from error
        part.explanation = drawn(subject.pixels, heat)
        part.heat = coloured(heat)
    return part


def _seen(subject: Subject) -> str:
    """What the network saw as a PNG data URL."""
    pixels = subject.pixels
    return data_url(Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))

"""What a model's folder and card say about training and test; invalid parts are left out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from model_store import Card, title

MOST_MISTAKES = 5  # in words beside a matrix
MOST_CONFUSIONS = 20  # in place of one
MANY = 30  # classes; of more, a page shows those that are found least first
WEAKEST = 10

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Loss = Annotated[float, Meta(gt=-1e6, lt=1e6)]

log = logging.getLogger(__name__)


class ClassFigures(Struct):
    """The figures of a class on the test part; `support` is its number of pictures."""

    precision: Share
    recall: Share
    f1: Share = msgspec.field(name="f1-score")
    support: Annotated[float, Meta(ge=0)]


class Epoch(Struct):
    """Loss and accuracy of an epoch."""

    train_loss: Loss
    train_accuracy: Share
    validation_loss: Loss
    validation_accuracy: Share


class Bin(Struct, array_like=True):
    """Test pictures of about the same best score: its mean, the share right, and their number."""

    score: Share
    right: Share
    count: Annotated[int, Meta(ge=1)]


class HardPicture(Struct):
    """A test picture that the model found hard, as a data URL, and the model's answer."""

    label: str
    prediction: str
    score: Share
    picture: Annotated[str, Meta(pattern="^data:image/png;base64,")]


class Hardest(Struct):
    """The hardest test pictures, and the credit for them."""

    pictures: list[HardPicture] = []
    credit: str = ""


class Group(Struct):
    """How many reports there are, and of how many people."""

    count: Count
    reporters: Count


class Before(Struct):
    """How many of `count` pictures the version before got right, and this one `after` it; how
    likely chance alone would do as well, where that is known.
    """

    count: Count
    before: Count
    after: Count
    p: Share | None = None


class Reported(Struct):
    """What a version has learnt from what people reported, see `training.update`."""

    learnt: Group
    held_back: Group
    test: Before
    validation: Before


class Report(Struct, frozen=True):
    """A model's report; lists of classes are in the order of the card's labels."""

    classes: list[ClassFigures]
    average: ClassFigures | None
    matrix: list[list[int]]  # rows are true classes, columns predictions; none of many classes
    confusions: list[tuple[int, int, int]]  # the mistakes as (true class, predicted class, count)
    areas: list[float | None]  # under the precision-recall curves
    curves: list[list[tuple[float, float]] | None]  # (recall, precision)
    bins: list[Bin]
    history: list[Epoch]
    hardest: Hardest

    def mistakes(self) -> list[tuple[int, int, int]]:
        """The most frequent mistakes as (true class, predicted class, count)."""
        return self.confusions[: MOST_MISTAKES if self.matrix else MOST_CONFUSIONS]

    def weakest(self) -> list[int]:
        """Of many classes those with test pictures of which the fewest are found; else none."""
        if len(self.classes) <= MANY:
            return []
        tested = [at for at, figures in enumerate(self.classes) if figures.support]
        return sorted(tested, key=lambda at: self.classes[at].recall)[:WEAKEST]


def read_report(folder: Path, labels: Sequence[str]) -> Report:
    """The report in a model's folder; missing or invalid parts are left empty."""
    figures = _read(folder / "report.json", dict[str, Any], {})
    one_each = Meta(min_length=len(labels), max_length=len(labels))
    classes = [told(figures, label, ClassFigures) for label in labels]
    counts = Annotated[list[Count], one_each]
    curves = Annotated[list[list[tuple[Share, Share]] | None], one_each]
    matrix = told(figures, "confusion_matrix", Annotated[list[counts], one_each], [])
    return Report(
        classes=classes if all(classes) else [],
        average=told(figures, "macro avg", ClassFigures),
        matrix=matrix,
        confusions=_confusions(matrix) if matrix else _named_confusions(figures, labels),
        areas=told(figures, "average_precision", Annotated[list[Share | None], one_each], []),
        curves=told(figures, "precision_recall", curves, []),
        bins=told(figures, "reliability", list[Bin], []),
        history=_read(folder / "history.json", list[Epoch], []),
        hardest=_read(folder / "hardest.json", Hardest, Hardest()),
    )


def _confusions(matrix: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    found = [
        (true, predicted, count)
        for true, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    return sorted(found, key=lambda mistake: -mistake[2])


def _named_confusions(
    figures: Mapping[str, Any], labels: Sequence[str]
) -> list[tuple[int, int, int]]:
    """Those of a report of many classes, which names them in place of a matrix."""
    place = {label: at for at, label in enumerate(labels)}
    pairs = told(figures, "confusions", list[tuple[str, str, Count]], [])
    if any(name not in place for pair in pairs for name in pair[:2]):
        return []
    return [(place[true], place[predicted], count) for true, predicted, count in pairs]


def _read(file: Path, kind: Any, otherwise: Any) -> Any:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except OSError:
        return otherwise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.warning(
            "%s/%s is invalid and left out of its page: %s", title(file.parent), file.name, error
        )
        return otherwise


def told(values: Mapping[str, Any], key: str, kind: Any, otherwise: Any = None) -> Any:
    """The value of `key` as the type `kind`; `otherwise` if it is missing or of another type."""
    try:
        return msgspec.convert(values[key], kind)
    except (KeyError, msgspec.ValidationError):
        return otherwise


def accuracy(card: Card) -> tuple[float, float, float] | None:
    """The test accuracy and its 95 % interval, the accuracy itself if the card has no interval."""
    value = told(card.metrics, "test_accuracy", Share)
    if value is None:
        return None
    low, high = told(card.metrics, "test_accuracy_interval", tuple[Share, Share], (value, value))
    return (value, low, high) if low <= value <= high else (value, value, value)


def reported(card: Card) -> Reported | None:
    """What people reported about the version before, if this one has learnt from it."""
    found: Reported | None = told(card.metrics, "reports", Reported)
    return found


def recalls(card: Card) -> dict[str, float]:
    """The recall of each label on the test part, empty if the card has none."""
    found = told(card.metrics, "test_recall", list[Share], [])
    return dict(zip(card.labels, found, strict=True)) if len(found) == len(card.labels) else {}

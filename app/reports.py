"""What a model's folder and card say about training and test; invalid parts are left out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from model_store import Card

MOST_MISTAKES = 5

Share = Annotated[float, Meta(ge=0, le=1)]
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


class Report(Struct, frozen=True):
    """A model's report; lists of classes are in the order of the card's labels."""

    classes: list[ClassFigures]
    average: ClassFigures | None
    matrix: list[list[int]]  # rows are true classes, columns predictions
    areas: list[float | None]  # under the precision-recall curves
    curves: list[list[tuple[float, float]] | None]  # (recall, precision)
    history: list[Epoch]
    hardest: Hardest

    def mistakes(self) -> list[tuple[int, int, int]]:
        """The most frequent mistakes as (true class, predicted class, count)."""
        found = [
            (true, predicted, count)
            for true, row in enumerate(self.matrix)
            for predicted, count in enumerate(row)
            if count and true != predicted
        ]
        return sorted(found, key=lambda mistake: -mistake[2])[:MOST_MISTAKES]


def read_report(folder: Path, labels: Sequence[str]) -> Report:
    """The report in a model's folder; missing or invalid parts are left empty."""
    figures = _read(folder / "report.json", dict[str, Any], {})
    one_each = Meta(min_length=len(labels), max_length=len(labels))
    classes = [told(figures, label, ClassFigures) for label in labels]
    counts = Annotated[list[Annotated[int, Meta(ge=0)]], one_each]
    curves = Annotated[list[list[tuple[Share, Share]] | None], one_each]
    return Report(
        classes=classes if all(classes) else [],
        average=told(figures, "macro avg", ClassFigures),
        matrix=told(figures, "confusion_matrix", Annotated[list[counts], one_each], []),
        areas=told(figures, "average_precision", Annotated[list[Share | None], one_each], []),
        curves=told(figures, "precision_recall", curves, []),
        history=_read(folder / "history.json", list[Epoch], []),
        hardest=_read(folder / "hardest.json", Hardest, Hardest()),
    )


def _read(file: Path, kind: Any, otherwise: Any) -> Any:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except OSError:
        return otherwise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.warning(
            "%s/%s is invalid and left out of its page: %s", file.parent.name, file.name, error
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


def recalls(card: Card) -> dict[str, float]:
    """The recall of each label on the test part, empty if the card has none."""
    found = told(card.metrics, "test_recall", list[Share], [])
    return dict(zip(card.labels, found, strict=True)) if len(found) == len(card.labels) else {}

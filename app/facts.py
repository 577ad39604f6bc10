"""The facts on a model's card, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from app.evaluation import Share, told
from app.texts import label, named, number, of_task, percent, t
from model_store import Card

MOST_LABELS = 50  # that are named
Seconds = Annotated[float, Meta(gt=0, lt=1e9)]


def facts(card: Card) -> list[tuple[str, str, bool]]:
    """The card's facts: a name, what to show, and whether that is the card's own English text."""
    channels, height, width = card.input.shape
    size = {"height": height, "width": width}
    shape = t("fact.grey", **size) if channels == 1 else t("fact.colour", **size)
    # Also the API's own label, if the pages show a different one.
    labels = [
        name if label(name) == name else f"{label(name)} ({name})"
        for name in card.labels[:MOST_LABELS]
    ]
    if left_out := len(card.labels) - len(labels):
        labels.append(t("fact.more_labels", count=left_out))
    libraries = [f"{name} {told(card.libraries, name, str, '')}" for name in card.libraries]
    files = [(card.size, "TorchScript"), (card.onnx_size, "ONNX")]
    sizes = [f"{megabytes(size)} {kind}" for size, kind in files if size]
    found = [
        (t("fact.version"), card.version, False),
        (t("fact.date"), card.date, False),
        (t("fact.task"), of_task(card.task, "what"), False),
        (t("fact.labels", count=len(card.labels)), ", ".join(labels), False),
        (t("fact.input"), shape, False),
        (t("fact.parameters"), number(card.parameters) if card.parameters else "", False),
        (t("fact.size"), ", ".join(sizes), False),
        (t("fact.data"), data(card), False),
        (t("fact.split"), told(card.data, "split", str, ""), True),
        (t("fact.recipe"), recipe(card), False),
        (t("fact.training"), training(card), False),
        (t("fact.f1"), _figure(card, "test_macro_f1"), False),
        (t("fact.calibration"), _figure(card, "test_calibration_error"), False),
        (t("fact.refused"), _share(card, "_refused"), False),
        (t("fact.caught"), _share(card, "_others_caught"), False),
        (t("fact.libraries"), ", ".join(libraries), False),
    ]
    return [fact for fact in found if fact[1]]


def _figure(card: Card, name: str) -> str:
    value = told(card.metrics, name, Share)
    return "" if value is None else number(value, 4)


def _share(card: Card, ending: str) -> str:
    """The metrics of that ending, one for each test part, in per cent."""
    shares = [told(card.metrics, name, Share) for name in card.metrics if name.endswith(ending)]
    return ", ".join(percent(share, 1) for share in shares if share is not None)


def megabytes(size: int) -> str:
    """A size in bytes as people read it."""
    return f"{number(size / 1e6, 1)} MB" if size >= 1e5 else f"{number(size / 1e3, 1)} kB"


def data(card: Card) -> str:
    """The data set's name, and how many pictures each part of it has."""
    counts = [
        f"{number(value)} {named('part', name, name.replace('_', ' '))}"
        for name, value in card.data.items()
        if type(value) is int and value > 0
    ]
    name, parts = told(card.data, "name", str, ""), ", ".join(counts)
    return f"{name}: {parts}" if name and parts else name or parts


def recipe(card: Card) -> str:
    """The recipe's name and its most important choices."""
    network, batch = name_of(card.recipe, "network"), told(card.recipe, "batch_size", int)
    parts = [
        told(card.recipe, "name", str, ""),
        network and t("fact.network", name=network),
        name_of(card.recipe, "optimiser"),
        "" if batch is None else t("fact.batches", count=batch),
    ]
    return ", ".join(filter(None, parts))


def name_of(recipe: Mapping[str, Any], part: str) -> str:
    """The name that a part of a recipe has, or an empty string."""
    return str(told(told(recipe, part, dict, {}), "name", str, ""))


def training(card: Card) -> str:
    """How many epochs the training had, and how long it took."""
    epochs, best = (told(card.metrics, name, int) for name in ("epochs", "best_epoch"))
    seconds = told(card.metrics, "train_seconds", Seconds, 0)
    parts = []
    if epochs is not None:
        parts.append(t("fact.epochs", count=epochs))
        if best is not None:
            parts.append(t("fact.kept", epoch=best))
    if seconds >= 90:
        parts.append(t("fact.minutes", minutes=number(seconds / 60, 1)))
    elif seconds:
        parts.append(t("fact.seconds", seconds=number(seconds)))
    return ", ".join(parts)

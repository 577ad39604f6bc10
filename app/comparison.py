"""Two models side by side: their figures, and whether these can be compared."""

from __future__ import annotations

from functools import partial
from itertools import product

from app import facts
from app.evaluation import Share, accuracy, recalls, told
from app.models import models
from app.texts import NO_BREAK, number, percent, points, t
from model_store import Card

Line = tuple[str, str, str, str, int | None]
_fraction = partial(number, digits=4)
_signed = partial(number, digits=4, signed=True)


def pair(a: str | None, b: str | None) -> tuple[Card, Card] | None:
    """The cards of two models; those not named are chosen, with the same labels if possible.

    None if there are too few models; raises what `Models.get` raises for an unknown name.
    """
    known = models()
    cards = [model.card for model in known.ready.values()]
    firsts, seconds = ([known.get(name).card] if name else cards for name in (a, b))
    pairs = [two for two in product(firsts, seconds) if (a and b) or two[0] is not two[1]]
    return min(pairs, key=lambda two: not same_labels(*two), default=None)


def partners(card: Card) -> list[str]:
    """The other models that know the same labels."""
    cards = [model.card for model in models().ready.values()]
    return [each.name for each in cards if same_labels(each, card) and each.name != card.name]


def compared(a: Card, b: Card) -> list[Line]:
    """Lines of (what, the first's, the second's, the difference, which is better: 0, 1 or none).

    The difference is left out if the two were tested on different pictures, and so is the last.
    """
    comparable = same_labels(a, b) and same_test(a, b) is not False
    lines: list[Line] = []
    for name, key, show, differ, sign in (
        (t("models.accuracy"), "test_accuracy", percent, _in_points, 1),
        (t("fact.f1"), "test_macro_f1", _fraction, _signed, 1),
        (t("fact.calibration"), "test_calibration_error", _fraction, _signed, -1),
    ):
        first, second = told(a.metrics, key, Share), told(b.metrics, key, Share)
        known = comparable and first is not None and second is not None
        shown = ["" if value is None else show(value) for value in (first, second)]
        change = differ(second - first) if known else ""
        best = better(sign * first, sign * second) if known and shown[0] != shown[1] else None
        lines.append((name, shown[0], shown[1], change, best))
    for name, first, second, form in (
        (t("fact.parameters"), a.parameters, b.parameters, number),
        (t("fact.size"), a.size, b.size, facts.megabytes),
    ):
        if first or second:
            growth = number(100 * (second / first - 1), signed=True) if first else ""
            lines.append((name, form(first), form(second), growth and f"{growth}{NO_BREAK}%", None))
    lines += [
        (t("fact.version"), a.version, b.version, "", None),
        (t("fact.date"), a.date, b.date, "", None),
        (t("fact.training"), facts.training(a), facts.training(b), "", None),
        (t("fact.recipe"), facts.recipe(a), facts.recipe(b), "", None),
        (t("fact.data"), facts.data(a), facts.data(b), "", None),
    ]
    return [line for line in lines if line[1] or line[2]]


def better(first: float, second: float) -> int | None:
    """Which of two figures is higher: 0, 1, or none."""
    return None if first == second else int(second > first)


def shared_page(a: Card, b: Card) -> str | None:
    """The template of the page on which both can be tried on the same picture, or none."""
    pages = {models().get(card.name).task.page for card in (a, b)}
    return pages.pop() if a.name != b.name and len(pages) == 1 else None


def _in_points(change: float) -> str:
    return t("compare.points", points=points(change))


def shared_recalls(a: Card, b: Card) -> list[tuple[str, float, float]]:
    """The recalls (label, first, second) of the labels that both know."""
    first, second = recalls(a), recalls(b)
    return [(label, first[label], second[label]) for label in first if label in second]


def same_labels(a: Card, b: Card) -> bool:
    """Whether both know the same labels, in whatever order."""
    return set(a.labels) == set(b.labels)


def same_test(a: Card, b: Card) -> bool | None:
    """Whether both were tested on the same pictures; none if the cards do not say."""
    first, second = a.data.get("test_sha256"), b.data.get("test_sha256")
    if first and second:
        return bool(first == second)
    differ = any(a.data.get(key) != b.data.get(key) for key in ("name", "test"))
    return False if differ else None


def may_be_chance(a: Card, b: Card) -> bool | None:
    """Whether the intervals of the accuracies overlap; none if one is missing."""
    first, second = accuracy(a), accuracy(b)
    if first is None or second is None or first[1] == first[2] or second[1] == second[2]:
        return None
    return first[1] <= second[2] and second[1] <= first[2]

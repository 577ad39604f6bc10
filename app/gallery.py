"""The models' pages: what each is for, how good it is, how to train it again and to call it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from flask import Blueprint, current_app, render_template, request, url_for

from app import charts
from app.models import Model, models
from app.texts import NO_BREAK, keep_language, label, named, number, percent, t
from model_store import Card

gallery = Blueprint("gallery", __name__, url_prefix="/models")
gallery.url_defaults(keep_language)

MOST_MISTAKES = 5
MOST_PICTURES = 24
PARTS = ("train", "validation")
RECALLS = (0.5, 0.8, 0.9, 0.95, 0.99)  # at which a curve's table says the precision
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # a name that needs no quotes in a shell

Value = TypeVar("Value")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """A class's figures on the test part, 0..1; `support` is its number of pictures."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    area: float | None = None  # under its precision-recall curve


@dataclass(frozen=True)
class Hard:
    """A test picture that the model found hard, and what it said."""

    label: str
    prediction: str
    score: float
    picture: str  # a data: URL


@dataclass(frozen=True)
class Report:
    """What a model's folder tells of its test and training; what it does not tell is empty."""

    rows: list[Row] = field(default_factory=list)
    average: Row | None = None
    matrix: list[list[int]] = field(default_factory=list)
    curves: list[list[tuple[float, float]]] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    hardest: list[Hard] = field(default_factory=list)
    credit: str = ""

    def mistakes(self) -> list[tuple[int, int, int]]:
        """The most frequent mistakes as (true class, predicted class, count)."""
        all_ = [
            (at, to, count)
            for at, row in enumerate(self.matrix)
            for to, count in enumerate(row)
            if count and at != to
        ]
        return sorted(all_, key=lambda mistake: -mistake[2])[:MOST_MISTAKES]


@gallery.get("", strict_slashes=False)
def index() -> str:
    """All models, those that cannot be used too."""
    ready = list(models().ready.values())
    return render_template(
        "models.html",
        models=[(model.card, accuracy(model.card), fingerprint(model)) for model in ready],
        unavailable=models().unavailable,
    )


@gallery.get("/<name>")
def show(name: str) -> str | tuple[str, int]:
    """A model's page, or why it cannot be used."""
    if reason := models().unavailable.get(name):
        return render_template("model.html", name=name, reason=reason), 503
    card = models().get(name).card
    report = read_report(card)
    return render_template(
        "model.html",
        name=name,
        card=card,
        accuracy=accuracy(card),
        report=report,
        pictures=draw(card, report),
        facts=facts(card),
        partners=partners(card),
        try_it=try_it(card),
        command=command(card),
        recalls_shown=RECALLS,
        smoothed_until=smoothed_until(card),
    )


@gallery.get("/compare")
def compare() -> str:
    """Two models side by side: those asked for, or two that know the same labels."""
    first, second = _pair(request.args.get("a"), request.args.get("b"))
    names = list(models().ready)
    if first is None or second is None:
        return render_template("compare.html", names=names)
    recalls = [(label(name), a, b) for name, a, b in shared_recalls(first, second)]
    return render_template(
        "compare.html",
        names=names,
        a=first,
        b=second,
        lines=compared(first, second),
        recalls=recalls,
        interval=_both_intervals(first, second),
        chart=charts.pairs(recalls, t("chart.recalls_text")) if recalls else None,
        same_labels=same_labels(first, second),
        same_test=same_test(first, second),
        chance=may_be_chance(first, second),
    )


def share(value: object) -> float:
    """`value` as a number of 0..1; raises `ValueError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{value!r} is no share")
    return float(value)


def accuracy(card: Card) -> tuple[float, float, float] | None:
    """The test accuracy and its 95 % interval, each itself where the card has none."""
    try:
        value = share(card.metrics.get("test_accuracy"))
    except ValueError:
        return None
    try:
        low, high = map(share, card.metrics["test_accuracy_interval"])
    except (KeyError, TypeError, ValueError):
        return value, value, value
    return (value, low, high) if low <= value <= high else (value, value, value)


def read_report(card: Card) -> Report:
    """The report in the model's folder; a part that is missing or odd is left empty."""
    folder = Path(current_app.config["MODEL_STORE"]) / card.name
    figures, pictures = _json(folder / "report.json"), _json(folder / "hardest.json")
    size = len(card.labels)
    rows: list[Row] = _parsed(
        lambda: [_row(figures, label, at) for at, label in enumerate(card.labels)], []
    )
    return Report(
        rows=rows,
        average=_parsed(lambda: _row(figures, "macro avg"), None) if rows else None,
        matrix=_parsed(lambda: _matrix(figures["confusion_matrix"], size), []),
        curves=_parsed(lambda: _curves(figures["precision_recall"], size), []),
        history=_parsed(lambda: _history(_json(folder / "history.json")), []),
        hardest=_parsed(lambda: [_hard(each) for each in pictures["pictures"][:MOST_PICTURES]], []),
        credit=_parsed(lambda: str(pictures["credit"]), ""),
    )


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except OSError:
        return {}
    except (ValueError, RecursionError):
        log.warning("%s/%s is not JSON", file.parent.name, file.name)
        return {}


def _parsed(parse: Callable[[], Value], empty: Value) -> Value:
    try:
        return parse()
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
        return empty


def _row(figures: Any, label: str, index: int | None = None) -> Row:
    values = figures[label]
    areas = figures.get("average_precision", [])
    return Row(
        label=label,
        precision=share(values["precision"]),
        recall=share(values["recall"]),
        f1=share(values["f1-score"]),
        support=int(values["support"]),
        area=_parsed(lambda: share(areas[index]), None),
    )


def _matrix(values: Any, size: int) -> list[list[int]]:
    counts = [[int(count) for count in row] for row in values]
    if {len(counts), *map(len, counts)} != {size} or any(min(row) < 0 for row in counts):
        raise ValueError("the matrix is not square, or not of the card's labels")
    return counts


def _curves(values: Any, size: int) -> list[list[tuple[float, float]]]:
    curves = [[(share(x), share(y)) for x, y in curve or []] for curve in values]
    if len(curves) != size:
        raise ValueError("there is not a curve a label")
    return curves


def _history(values: Any) -> list[dict[str, float]]:
    history = []
    for epoch in values:
        losses = {f"{part}_loss": float(epoch[f"{part}_loss"]) for part in PARTS}
        if not all(abs(loss) < 1e6 for loss in losses.values()):
            raise ValueError("a loss is no number")
        shares = {f"{part}_accuracy": share(epoch[f"{part}_accuracy"]) for part in PARTS}
        history.append(losses | shares)
    return history


def _hard(values: Any) -> Hard:
    if not str(values["picture"]).startswith("data:image/png;base64,"):
        raise ValueError("the picture is no PNG")
    return Hard(
        str(values["label"]), str(values["prediction"]), share(values["score"]), values["picture"]
    )


def fingerprint(model: Model) -> str | None:
    """The model's confusion matrix as an ornament, where its report has one."""
    matrix = read_report(model.card).matrix
    return charts.fingerprint(matrix) if matrix else None


def draw(card: Card, report: Report) -> dict[str, Any]:
    """The charts of a model's page by name, those that its report has the figures for."""
    drawn: dict[str, Any] = {}
    names = list(map(label, card.labels))
    if figures := accuracy(card):
        drawn["interval"] = charts.intervals([("", *figures)], _interval_words(figures))
    if report.matrix:
        drawn["matrix"] = charts.matrix(report.matrix, names, _matrix_words(names, report))
    if report.history:
        drawn["training"] = [_curve(report, card, what) for what in ("accuracy", "loss")]
    if any(report.curves):
        least = _corner(report.curves)
        drawn["curves"] = [
            (at, charts.precision_recall(points, name, at, least), _precisions(points))
            for at, (name, points) in enumerate(zip(names, report.curves, strict=True))
            if points
        ]
    return drawn


def _interval_words(figures: tuple[float, float, float]) -> str:
    value, low, high = map(percent, figures)
    return t("chart.interval_text", accuracy=value, low=low, high=high)


def _matrix_words(names: Sequence[str], report: Report) -> str:
    total = sum(map(sum, report.matrix))
    right = sum(row[at] for at, row in enumerate(report.matrix))
    text = t("chart.matrix_text", count=right, total=total)
    words = [
        t("chart.times", what=charts.mistake(names[at], names[to]), count=count)
        for at, to, count in report.mistakes()
    ]
    return f"{text} {t('chart.mistakes', mistakes=', '.join(words))}" if words else text


def _curve(report: Report, card: Card, what: str) -> Any:
    lines = [(epoch[f"train_{what}"], epoch[f"validation_{what}"]) for epoch in report.history]
    best = card.metrics.get("best_epoch")
    show = percent if what == "accuracy" else partial(number, digits=3)
    words = t(
        "chart.training_text",
        count=len(lines),
        train_first=show(lines[0][0]),
        train_last=show(lines[-1][0]),
        first=show(lines[0][1]),
        last=show(lines[-1][1]),
    )
    return charts.training(lines, what, best if type(best) is int else 0, words)


def smoothed_until(card: Card) -> int | None:
    """The last epoch whose loss is smoothed, where later ones of the same run are not."""
    recipe, finish = card.recipe, card.recipe.get("finish")
    epochs = recipe.get("epochs")
    if not (isinstance(finish, dict) and finish.get("epochs") and recipe.get("label_smoothing")):
        return None
    return epochs if type(epochs) is int else None


def _corner(curves: Sequence[Sequence[tuple[float, float]]]) -> float:
    """Where axes may begin so that the corner of every curve stands well inside them."""
    even = min(max(map(min, points)) for points in curves if points)
    return charts.floor(1 - 4 * (1 - even))


def _precisions(points: Sequence[tuple[float, float]]) -> list[float]:
    """The best precision at each of `RECALLS`, or more recall."""
    return [max((y for x, y in points if x >= recall), default=0) for recall in RECALLS]


def facts(card: Card) -> list[tuple[str, str, bool]]:
    """The card's facts: a name, what to show, and whether that is the card's own English text."""
    metrics = card.metrics
    found = [
        (t("fact.version"), card.version, False),
        (t("fact.date"), card.date, False),
        (t("fact.task"), _task(card), False),
        (t("fact.labels", count=len(card.labels)), ", ".join(map(_label, card.labels)), False),
        (t("fact.input"), _input(card), False),
        (t("fact.parameters"), number(card.parameters) if card.parameters else "", False),
        (t("fact.size"), _sizes(card), False),
        (t("fact.data"), _data(card), False),
        (t("fact.split"), _text(card.data.get("split")), True),
        (t("fact.recipe"), _recipe(card), False),
        (t("fact.training"), _training(metrics), False),
        (t("fact.f1"), _figure(metrics.get("test_macro_f1")), False),
        (t("fact.calibration"), _figure(metrics.get("test_calibration_error")), False),
        (t("fact.libraries"), _libraries(card), False),
    ]
    return [fact for fact in found if fact[1]]


def _task(card: Card) -> str:
    return t("fact.task_face") if card.task == "face" else t("fact.task_digit")


def _label(name: str) -> str:
    """A label as pages show it and, where the API's differs, that too."""
    return name if label(name) == name else f"{label(name)} ({name})"


def _input(card: Card) -> str:
    colours, height, width = card.input["shape"]
    size = {"height": height, "width": width}
    return t("fact.grey", **size) if colours == 1 else t("fact.colour", **size)


def _libraries(card: Card) -> str:
    return ", ".join(f"{name} {_text(version)}" for name, version in card.libraries.items())


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _figure(value: object) -> str:
    return _parsed(lambda: number(share(value), 4), "")


def megabytes(size: int) -> str:
    """A size in bytes as people read it."""
    return f"{number(size / 1e6, 1)} MB" if size >= 1e5 else f"{number(size / 1e3, 1)} kB"


def _sizes(card: Card) -> str:
    files = ((card.size, "TorchScript"), (card.onnx_size, "ONNX"))
    return ", ".join(f"{megabytes(size)} {kind}" for size, kind in files if size)


def _data(card: Card) -> str:
    counts = [
        f"{number(value)} {named('part', name, name.replace('_', ' '))}"
        for name, value in card.data.items()
        if type(value) is int and value > 0
    ]
    name = _text(card.data.get("name"))
    return f"{name}: {', '.join(counts)}" if name and counts else name or ", ".join(counts)


def _recipe(card: Card) -> str:
    recipe = card.recipe
    network, optimiser = _name(recipe.get("network")), _name(recipe.get("optimiser"))
    parts = [_text(recipe.get("name"))]
    if network:
        parts.append(t("fact.network", name=network))
    parts.append(optimiser)
    if type(recipe.get("batch_size")) is int:
        parts.append(t("fact.batches", count=recipe["batch_size"]))
    return ", ".join(filter(None, parts))


def _name(part: object) -> str:
    return _text(part.get("name")) if isinstance(part, dict) else ""


def _training(metrics: dict[str, Any]) -> str:
    epochs, best = metrics.get("epochs"), metrics.get("best_epoch")
    seconds = _parsed(lambda: float(metrics["train_seconds"]), 0.0)
    parts = []
    if type(epochs) is int:
        parts.append(t("fact.epochs", count=epochs))
        if type(best) is int:
            parts.append(t("fact.kept", epoch=best))
    if 0 < seconds < 1e9:
        minutes = t("fact.minutes", minutes=number(seconds / 60, 1))
        parts.append(minutes if seconds >= 90 else t("fact.seconds", seconds=number(seconds)))
    return ", ".join(parts)


def partners(card: Card) -> list[str]:
    """The other models that know the same labels."""
    ready = models().ready.values()
    same = [model.card for model in ready if same_labels(model.card, card)]
    return [other.name for other in same if other.name != card.name]


def try_it(card: Card) -> tuple[str, str] | None:
    """The address and name of the page that the model answers on, where there is one."""
    if card.name == "digits":
        return url_for("pages.draw"), t("draw.title")
    if card.name == current_app.config["FACE_MODEL"] and card.task == "face":
        return url_for("pages.faces"), t("faces.choose")
    return None


def command(card: Card) -> dict[str, Any] | None:
    """The recipe's name and data for the commands that train and measure the model again."""
    name, data = card.recipe.get("name"), card.recipe.get("data")
    if not (isinstance(name, str) and WORD.fullmatch(name)):
        return None
    kind = _text(data.get("name")) if isinstance(data, dict) else ""
    return {"recipe": name, "data": kind, "values": json.dumps(card.recipe, indent=2)}


def _pair(a: str | None, b: str | None) -> tuple[Card | None, Card | None]:
    """The cards of two models; those not named are chosen, by their labels where that goes."""
    known = models()
    cards = [model.card for model in known.ready.values()]
    if a and b:
        return known.get(a).card, known.get(b).card
    if a or b:
        given = known.get(a or b or "").card
        others = [card for card in cards if card.name != given.name]
        others.sort(key=lambda card: card.name not in partners(given))
        other = others[0] if others else None
        return (given, other) if a else (other, given)
    pairs = sorted(combinations(cards, 2), key=lambda two: not same_labels(*two))
    return pairs[0] if pairs else (None, None)


def compared(a: Card, b: Card) -> list[tuple[str, str, str, str]]:
    """Rows of (what, the first's, the second's, how the second differs).

    Shares of different tests stand beside each other, but without a difference.
    """
    comparable = same_labels(a, b) and same_test(a, b) is not False
    rows = [
        _compared_share(name, key, a, b, differ=comparable)
        for name, key in (
            (t("models.accuracy"), "test_accuracy"),
            (t("fact.f1"), "test_macro_f1"),
            (t("fact.calibration"), "test_calibration_error"),
        )
    ]
    for name, first, second, show in (
        (t("fact.parameters"), a.parameters, b.parameters, number),
        (t("fact.size"), a.size, b.size, megabytes),
    ):
        if first or second:
            change = (
                f"{number(100 * (second / first - 1), signed=True)}{NO_BREAK}%" if first else ""
            )
            rows.append((name, show(first), show(second), change))
    rows += [
        (t("fact.version"), a.version, b.version, ""),
        (t("fact.date"), a.date, b.date, ""),
        (t("fact.training"), _training(a.metrics), _training(b.metrics), ""),
        (t("fact.recipe"), _recipe(a), _recipe(b), ""),
        (t("fact.data"), _data(a), _data(b), ""),
    ]
    return [row for row in rows if row[1] or row[2]]


def _compared_share(
    name: str, key: str, a: Card, b: Card, *, differ: bool
) -> tuple[str, str, str, str]:
    """A row of `compared`, with the difference where it is wanted."""
    first, second = _share_of(a, key), _share_of(b, key)
    percents = key == "test_accuracy"
    form = percent if percents else partial(number, digits=4)
    show = ["" if value is None else form(value) for value in (first, second)]
    if first is None or second is None or not differ:
        return name, show[0], show[1], ""
    change = number(second - first, 4, signed=True)
    if percents:
        change = t("compare.points", points=points(second - first))
    return name, show[0], show[1], change


def _share_of(card: Card, key: str) -> float | None:
    return _parsed(lambda: share(card.metrics[key]), None)


@gallery.app_template_filter("points")
def points(difference: float) -> str:
    """A difference of shares in percentage points, signed."""
    return number(100 * difference, 2, signed=True) if round(100 * difference, 2) else "0"


def recalls(card: Card) -> dict[str, float]:
    """The recall of each label, empty where the card has none."""
    told: list[float] = _parsed(lambda: [share(value) for value in card.metrics["test_recall"]], [])
    return dict(zip(card.labels, told, strict=True)) if len(told) == len(card.labels) else {}


def shared_recalls(a: Card, b: Card) -> list[tuple[str, float, float]]:
    """The recalls (label, first, second) of the labels that both know."""
    first, second = recalls(a), recalls(b)
    return [(label, first[label], second[label]) for label in first if label in second]


def _both_intervals(a: Card, b: Card) -> Any:
    figures = [(card.name, accuracy(card)) for card in (a, b)]
    rows = [(name, *found) for name, found in figures if found]
    words = "; ".join(f"{name}: {_interval_words((x, low, high))}" for name, x, low, high in rows)
    return charts.intervals(rows, words) if len(rows) == 2 else None


def same_labels(a: Card, b: Card) -> bool:
    """Whether both know the same labels, in whatever order."""
    return set(a.labels) == set(b.labels)


def same_test(a: Card, b: Card) -> bool | None:
    """Whether both were tested on the same pictures; none where the cards do not say."""
    first, second = a.data.get("test_sha256"), b.data.get("test_sha256")
    if first and second:
        return bool(first == second)
    if a.data.get("name") != b.data.get("name") or a.data.get("test") != b.data.get("test"):
        return False
    return None


def may_be_chance(a: Card, b: Card) -> bool | None:
    """Whether the intervals of the accuracies overlap; none where one is missing."""
    first, second = accuracy(a), accuracy(b)
    if first is None or second is None or first[1] == first[2] or second[1] == second[2]:
        return None
    return first[1] <= second[2] and second[1] <= first[2]

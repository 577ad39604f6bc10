"""Charts as inline SVG: real text, a title and a description each, colours by CSS classes.

The classes are those of static/css/models.css; the content security policy admits no style in the
markup. Lengths are in user units of a picture that is `WIDTH` wide and scales with its column.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from app.evaluation import Epoch
from app.texts import number, percent, t

WIDTH = 360
MOST_NAMED = 20  # classes of a matrix with room for labels and counts
FLOORS = {0.99: 5, 0.98: 4, 0.95: 5, 0.9: 5, 0.8: 4, 0.5: 5, 0.0: 4}  # of an axis, and its steps

Point = Sequence[float]


@dataclass(frozen=True)
class Frame:
    """Where a chart's values go: its edges in user units and the values that stand at them."""

    left: float
    top: float
    right: float
    bottom: float
    xs: tuple[float, float]
    ys: tuple[float, float]

    def x(self, value: float) -> float:
        """The place of a value across."""
        share = (value - self.xs[0]) / ((self.xs[1] - self.xs[0]) or 1)
        return round(self.left + share * (self.right - self.left), 2)

    def y(self, value: float) -> float:
        """The place of a value down; larger values stand higher."""
        share = (value - self.ys[0]) / ((self.ys[1] - self.ys[0]) or 1)
        return round(self.bottom - share * (self.bottom - self.top), 2)


def floor(least: float) -> float:
    """The round value at which an axis that ends at 1 may begin to show `least` well."""
    return next((each for each in FLOORS if least > each), 0.0)


def corner(curves: Sequence[Sequence[Point]]) -> float:
    """Where axes may begin so that the corner of every curve stands well inside them."""
    even = min((max(map(min, points)) for points in curves), default=0)
    return floor(1 - 4 * (1 - even))


def matrix(
    counts: Sequence[Sequence[int]], labels: Sequence[str], mistakes: Sequence[tuple[int, int, int]]
) -> Markup:
    """A confusion matrix: a row a true label; what is right in one colour, mistakes in another.

    Its description names the `mistakes`, (true label, predicted label, count).
    """
    named = len(labels) <= MOST_NAMED
    slanted = named and max(map(len, labels)) > 3
    left = 20 + (min(6.2 * max(map(len, labels)), 84) if named else 0)
    top = (66 if slanted else 36) if named else 18
    side = (WIDTH - left - (16 if slanted else 2)) / len(labels)
    half = side * len(labels) / 2
    parts = [
        _text(t("chart.predicted"), left + half, 11, "axis", anchor="middle"),
        _text(t("chart.true"), 10, top + half, "axis", anchor="middle", turn=-90),
    ]
    for index, label in enumerate(labels if named else ()):
        middle = (index + 0.5) * side
        name = label if len(label) <= 13 else label[:12] + "…"
        parts.append(_text(name, left - 6, top + middle + 4, "name", anchor="end"))
        if slanted:
            parts.append(_text(name, left + middle, top - 6, "name", turn=-35))
        else:
            parts.append(_text(name, left + middle, top - 7, "name", anchor="middle"))
    for true, to, square in _squares(counts, left, top, side):
        count, what = counts[true][to], t("chart.right", label=labels[true])
        if true != to:
            what = _mistake(labels[true], labels[to])
        title = t("chart.cell", what=what, count=count, total=sum(counts[true]))
        cell = [_tag("title", title), square]
        if named and count:
            x, y = left + (to + 0.5) * side, top + (true + 0.5) * side + 4
            cell.append(_text(str(count), x, y, "count", anchor="middle"))
        parts.append(_tag("g", *cell))
    right, total = sum(row[at] for at, row in enumerate(counts)), sum(map(sum, counts))
    words = t("chart.matrix_text", count=right, total=total)
    if mistakes:
        told = [
            t("chart.times", what=_mistake(labels[true], labels[to]), count=count)
            for true, to, count in mistakes
        ]
        words += f" {t('chart.mistakes', mistakes=', '.join(told))}"
    return _picture("matrix", t("chart.matrix"), words, (WIDTH, top + 2 * half + 2), parts)


def _mistake(true: str, predicted: str) -> str:
    return t("chart.mistake", true=true, predicted=predicted)


def fingerprint(counts: Sequence[Sequence[int]]) -> Markup:
    """A confusion matrix as an ornament: no text, and hidden from screen readers."""
    squares = [square for _, _, square in _squares(counts, 0, 0, 100 / len(counts))]
    return _tag("svg", *squares, class_="fingerprint", viewBox="0 0 100 100", aria_hidden="true")


def _squares(
    counts: Sequence[Sequence[int]], left: float, top: float, side: float
) -> Iterable[tuple[int, int, Markup]]:
    """The squares of a matrix: (row, column, square), each pale enough for a number on it."""
    most = max(
        (n for at, row in enumerate(counts) for to, n in enumerate(row) if at != to), default=0
    )
    for at, row in enumerate(counts):
        for to, count in enumerate(row):
            kind, strength = "none", 1.0
            if count and at == to:
                kind, strength = "right", 0.08 + 0.32 * math.sqrt(count / sum(row))
            elif count:
                kind, strength = "miss", 0.15 + 0.3 * math.sqrt(count / most)
            square = _tag(
                "rect", x=left + to * side + 0.75, y=top + at * side + 0.75, width=side - 1.5,
                height=side - 1.5, rx=min(4, side / 8), class_=f"cell {kind}",
                fill_opacity=f"{strength:.3g}",
            )  # fmt: skip
            yield at, to, square


def intervals(rows: Sequence[tuple[str, float, float, float]]) -> Markup:
    """Accuracies (name, accuracy, low, high) on one scale, each with its 95 % interval."""
    least = floor(min(low for _, _, low, _ in rows))
    row_height = 44 if len(rows) > 1 else 26
    frame = Frame(10, 0, WIDTH - 16, row_height * len(rows), (least, 1), (0, 1))
    parts, words = _across(frame, least), []
    for index, (name, *shares) in enumerate(rows):
        y = (index + 1) * row_height - 13
        accuracy, low, high = map(percent, shares)
        text = t("chart.interval_text", accuracy=accuracy, low=low, high=high)
        if len(rows) > 1:
            parts.append(_text(name, frame.left, y - 14, "name"))
            text = f"{name}: {text}"
        words.append(text)
        x, x1, x2 = map(frame.x, shares)
        parts.append(_tag("line", class_=f"reach of-{index}", x1=x1, x2=x2, y1=y, y2=y))
        parts.append(_tag("circle", cx=x, cy=y, r=5.5, class_=f"dot of-{index}"))
    size = WIDTH, frame.bottom + 22
    return _picture("interval", t("chart.interval"), "; ".join(words), size, parts)


def pairs(rows: Sequence[tuple[str, float, float]]) -> Markup:
    """The recalls of two models, (class, first, second), as two dots a row on one scale."""
    least = floor(min(min(first, second) for _, first, second in rows))
    left = 10 + min(6.6 * max(len(name) for name, _, _ in rows), 84)
    bottom = 24 * len(rows) + 4
    frame = Frame(left + 10, 0, WIDTH - 16, bottom, (least, 1), (0, 1))
    parts = _across(frame, least)
    for index, (name, *shares) in enumerate(rows):
        y = 24 * index + 14
        first, second = map(frame.x, shares)
        parts += [
            _text(name[:13], left - 4, y + 4, "name", anchor="end"),
            _tag("line", x1=first, x2=second, y1=y, y2=y, class_="between"),
            _tag("circle", cx=first, cy=y, r=6, class_="dot of-0"),
            _tag("circle", cx=second, cy=y, r=4, class_="dot of-1"),
        ]
    return _picture(
        "pairs", t("chart.recalls"), t("chart.recalls_text"), (WIDTH, bottom + 22), parts
    )


def _across(frame: Frame, least: float) -> list[Markup]:
    """An axis of shares from `least` to 1 below `frame`, with lines up to its top."""
    steps = FLOORS[least]
    digits = 1 if least >= 0.98 else 0
    parts = []
    for step in range(steps + 1):
        share = least + (1 - least) * step / steps
        x = frame.x(share)
        parts.append(_tag("line", x1=x, x2=x, y1=frame.top, y2=frame.bottom, class_="grid"))
        anchor = "end" if step == steps else "middle" if step else "start"
        edge = x + (12 if step == steps else 0 if step else -8)
        parts.append(_text(percent(share, digits), edge, frame.bottom + 16, "tick", anchor=anchor))
    return parts


def training(history: Sequence[Epoch], what: str, best: int) -> Markup:
    """The "accuracy" or "loss" of each epoch as two lines; `best` is an epoch, counted from 1."""
    lines = {
        "training": [getattr(epoch, f"train_{what}") for epoch in history],
        "validation": [getattr(epoch, f"validation_{what}") for epoch in history],
    }
    values = lines["training"] + lines["validation"]
    share = what == "accuracy"
    least = min(0.98, *values) if share else min(0, *values)
    ticks = _ticks(least, max(values), most=1 if share else None)
    frame = Frame(44, 34, WIDTH - 10, 184, (1, max(2, len(history))), (ticks[0], ticks[-1]))
    parts = [*_up(frame, ticks, what), *_epochs(frame, len(history))]
    names = t("chart.training"), t("chart.validation")
    for x, kind, name in zip((44, 128), lines, names, strict=True):
        parts.append(_tag("line", x1=x, x2=x + 18, y1=12, y2=12, class_=f"line {kind}"))
        parts.append(_text(name, x + 24, 16, "name"))
    if 1 <= best <= len(history):
        parts += _best(frame, best, lines["validation"][best - 1], at_top=not share)
    for kind, line in lines.items():
        points = " ".join(f"{frame.x(at)},{frame.y(value)}" for at, value in enumerate(line, 1))
        parts.append(_tag("polyline", points=points, class_=f"line {kind}"))
    show = percent if share else partial(number, digits=3)
    words = t(
        "chart.training_text",
        count=len(history),
        train_first=show(lines["training"][0]),
        train_last=show(lines["training"][-1]),
        first=show(lines["validation"][0]),
        last=show(lines["validation"][-1]),
    )
    title = t("chart.accuracy") if share else t("chart.loss")
    return _picture(f"curve-{what}", title, words, (WIDTH, 218), parts)


def _up(frame: Frame, ticks: Sequence[float], what: str) -> list[Markup]:
    digits = max(0, math.ceil(-math.log10(ticks[1] - ticks[0]) - 1e-9))
    parts = []
    for tick in ticks:
        y = frame.y(tick)
        text = percent(tick, max(0, digits - 2)) if what == "accuracy" else number(tick, digits)
        parts.append(_tag("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_="grid"))
        parts.append(_text(text, frame.left - 6, y + 4, "tick", anchor="end"))
    return parts


def _epochs(frame: Frame, count: int) -> list[Markup]:
    step = next((each for each in (1, 2, 5, 10, 20, 50, 100) if count <= 8 * each), -(-count // 8))
    shown = [*([1] if step != 2 else []), *range(step if step > 1 else 2, count + 1, step)]
    below, middle = frame.bottom + 16, (frame.left + frame.right) / 2
    return [
        *(_text(str(epoch), frame.x(epoch), below, "tick", anchor="middle") for epoch in shown),
        _text(t("chart.epoch"), middle, frame.bottom + 31, "axis", anchor="middle"),
    ]


def _best(frame: Frame, epoch: int, value: float, *, at_top: bool) -> list[Markup]:
    x, y = frame.x(epoch), frame.top + 12 if at_top else frame.bottom - 7
    shift, anchor = (6, "start") if x < (frame.left + frame.right) / 2 else (-6, "end")
    return [
        _tag("line", x1=x, x2=x, y1=frame.top, y2=frame.bottom, class_="mark"),
        _tag("circle", cx=x, cy=frame.y(value), r=4.5, class_="dot of-1"),
        _text(t("chart.kept", epoch=epoch), x + shift, y, "name", anchor=anchor),
    ]


def precision_recall(points: Sequence[Point], name: str, number: int, least: float) -> Markup:
    """A class's curve of [recall, precision] points, both axes from `least` to 1."""
    frame = Frame(42, 8, 156, 122, (least, 1), (least, 1))
    width, height = frame.right - frame.left, frame.bottom - frame.top
    inner = Frame(0, 0, width, height, frame.xs, frame.ys)
    path = " ".join(f"{inner.x(recall)},{inner.y(precision)}" for recall, precision in points)
    # An inner picture of its own cuts off what lies below the axes.
    curve = _tag(
        "svg",
        _tag("polygon", points=f"{inner.x(0)},{height} {path} {width},{height}", class_="area"),
        _tag("polyline", points=path, class_="line validation"),
        x=frame.left, y=frame.top - 3, width=width + 3, height=height + 3,
        viewBox=f"0 -3 {width + 3} {height + 3}", role="presentation",
    )  # fmt: skip
    ends = {"x1": frame.left, "y1": frame.top, "x2": frame.right, "y2": frame.bottom}
    from_, to, below = percent(least, 0), percent(1, 0), frame.bottom + 13
    across, down = (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2
    parts = [
        _tag("line", **{**ends, "x2": frame.left}, class_="grid"),
        _tag("line", **{**ends, "y1": frame.bottom}, class_="grid"),
        curve,
        _text(from_, frame.left, below, "tick"),
        _text(t("chart.recall"), across, below, "axis", anchor="middle"),
        _text(to, frame.right, below, "tick", anchor="end"),
        _text(from_, frame.left - 5, frame.bottom, "tick", anchor="end"),
        _text(t("chart.precision"), frame.left - 9, down, "axis", anchor="middle", turn=-90),
        _text(to, frame.left - 5, frame.top + 8, "tick", anchor="end"),
    ]
    description = t("chart.curve_text", low=from_, high=to)
    title = t("chart.curve", label=name)
    return _picture(f"curve-{number}", title, description, (160, 138), parts)


def reliability(points: Sequence[Point]) -> Markup:
    """The share that is right against the score, points of [score, share], beside the diagonal of
    a score that can be taken at its word.
    """
    frame = Frame(48, 8, 280, 208, (0, 1), (0, 1))
    ticks = (0, 0.25, 0.5, 0.75, 1)
    across, down = (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2
    ends = {"x1": frame.x(0), "y1": frame.y(0), "x2": frame.x(1), "y2": frame.y(1)}
    path = " ".join(f"{frame.x(score)},{frame.y(right)}" for score, right in points)
    parts = [
        *_up(frame, ticks, "accuracy"),
        *(
            _text(percent(e, 0), frame.x(e), frame.bottom + 14, "tick", anchor="middle")
            for e in ticks
        ),
        _tag("line", **ends, class_="mark"),
        _tag("polyline", points=path, class_="line validation"),
        *(
            _tag("circle", cx=frame.x(x), cy=frame.y(y), r=3.5, class_="dot of-1")
            for x, y in points
        ),
        _text(t("chart.score"), across, frame.bottom + 30, "axis", anchor="middle"),
        _text(t("chart.right"), frame.left - 36, down, "axis", anchor="middle", turn=-90),
    ]
    return _picture(
        "reliability", t("chart.reliability"), t("chart.reliability_text"), (300, 244), parts
    )


def _ticks(low: float, high: float, most: float | None = None) -> list[float]:
    """Four to seven round values that hold `low` and `high` between them, none above `most`."""
    spread = (high - low) or abs(high) or 1
    power: float = 10 ** math.floor(math.log10(spread / 4))
    step = power * next(each for each in (1, 2, 5, 10) if spread / 4 <= each * power * 1.25)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]
    return [tick for tick in ticks if most is None or tick <= most + 1e-9] or ticks


def _picture(
    name: str, title: str, text: str, size: tuple[float, float], parts: Iterable[Markup]
) -> Markup:
    """A chart with its texts; `size` is its width and height."""
    return _tag(
        "svg",
        _tag("title", title, id=f"{name}-title"),
        _tag("desc", text, id=f"{name}-desc"),
        *parts,
        class_=f"chart {name}", viewBox=f"0 0 {size[0]} {round(size[1], 2)}", role="img",
        aria_labelledby=f"{name}-title", aria_describedby=f"{name}-desc",
    )  # fmt: skip


def _text(text: str, x: float, y: float, kind: str, *, anchor: str = "", turn: int = 0) -> Markup:
    place: dict[str, object] = {"x": x, "y": y}
    if turn:
        place = {"transform": f"translate({round(x, 2)} {round(y, 2)}) rotate({turn})"}
    anchored = {"text_anchor": anchor} if anchor else {}
    return _tag("text", text, **place, class_=kind, **anchored)


def _tag(element: str, *content: str, **attributes: object) -> Markup:
    """An element; `class_` is class and `text_anchor` text-anchor.

    What is not markup is escaped; fractions are rounded to two digits.
    """
    given = [
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-"), round(it, 2) if isinstance(it, float) else it
        )
        for key, it in attributes.items()
    ]
    return Markup("<{0}{1}>{2}</{0}>").format(element, Markup().join(given), Markup().join(content))

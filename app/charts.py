"""Charts as inline SVG: real text, a title and a description each, colours by CSS classes.

The classes are those of static/css/models.css; the content security policy admits no style in the
markup. Lengths are in user units of a picture that is `WIDTH` wide and scales with its column.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

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


def matrix(counts: Sequence[Sequence[int]], labels: Sequence[str], description: str) -> Markup:
    """A confusion matrix: a row a true label; what is right in one colour, mistakes in another."""
    named = len(labels) <= MOST_NAMED
    slanted = named and max(map(len, labels)) > 3
    left = 20 + (min(6.2 * max(map(len, labels)), 84) if named else 0)
    top = (66 if slanted else 36) if named else 18
    side = (WIDTH - left - (16 if slanted else 2)) / len(labels)
    parts = [
        _text(
            t("chart.predicted"), left + side * len(labels) / 2, 11, "axis", text_anchor="middle"
        ),
        _turned(
            t("chart.true"), 10, top + side * len(labels) / 2, -90, "axis", text_anchor="middle"
        ),
    ]
    if named:
        parts += _matrix_names(labels, left, top, side, slanted=slanted)
    parts += _cells(counts, labels, left, top, side, named=named)
    height = top + side * len(labels) + 2
    return _picture("matrix", t("chart.matrix"), description, height, parts)


def _matrix_names(
    labels: Sequence[str], left: float, top: float, side: float, *, slanted: bool
) -> list[Markup]:
    parts = []
    for index, label in enumerate(labels):
        middle = (index + 0.5) * side
        name = label if len(label) <= 13 else label[:12] + "…"
        parts.append(_text(name, left - 6, top + middle + 4, "name", text_anchor="end"))
        if slanted:
            parts.append(_turned(name, left + middle, top - 6, -35, "name"))
        else:
            parts.append(_text(name, left + middle, top - 7, "name", text_anchor="middle"))
    return parts


def _cells(
    counts: Sequence[Sequence[int]],
    labels: Sequence[str],
    left: float,
    top: float,
    side: float,
    *,
    named: bool,
) -> Iterable[Markup]:
    most = max(
        (n for at, row in enumerate(counts) for to, n in enumerate(row) if at != to), default=0
    )
    for at, row in enumerate(counts):
        for to, count in enumerate(row):
            kind, strength = _shade(count, sum(row) if at == to else most, right=at == to)
            x, y = left + to * side, top + at * side
            rect = _tag(
                "rect", x=_short(x + 0.75), y=_short(y + 0.75), width=_short(side - 1.5),
                height=_short(side - 1.5), rx=min(4, _short(side / 8)), class_=f"cell {kind}",
                fill_opacity=strength,
            )  # fmt: skip
            said = mistake(labels[at], labels[to])
            if at == to:
                said = t("chart.right", label=labels[at])
            title = t("chart.cell", what=said, count=count, total=sum(row))
            parts = [_tag("title", escape(title)), rect]
            if named and count:
                middle = x + side / 2, y + side / 2 + 4
                parts.append(_text(str(count), *middle, "count", text_anchor="middle"))
            yield _tag("g", *parts)


def mistake(true: str, predicted: str) -> str:
    """In words, that a class was taken for another."""
    return t("chart.mistake", true=true, predicted=predicted)


def _shade(count: int, most: int, *, right: bool) -> tuple[str, float]:
    """A cell's class and the strength of its colour, under which its number stays readable."""
    if not count:
        return "none", 1
    share = math.sqrt(count / most)
    return (
        ("right", round(0.08 + 0.32 * share, 3))
        if right
        else ("miss", round(0.15 + 0.3 * share, 3))
    )


def fingerprint(counts: Sequence[Sequence[int]]) -> Markup:
    """A confusion matrix as an ornament: no text, and hidden from screen readers."""
    side = 100 / len(counts)
    cells = _cells(counts, [""] * len(counts), 0, 0, side, named=False)
    return _tag("svg", *cells, class_="fingerprint", viewBox="0 0 100 100", aria_hidden="true")


def intervals(rows: Sequence[tuple[str, float, float, float]], description: str) -> Markup:
    """Accuracies (name, accuracy, low, high) on one scale, each with its 95 % interval."""
    least = floor(min(low for _, _, low, _ in rows))
    row_height = 44 if len(rows) > 1 else 26
    bottom = row_height * len(rows)
    frame = Frame(10, 0, WIDTH - 16, bottom, (least, 1), (0, 1))
    parts = _across(frame, least)
    for index, (name, accuracy, low, high) in enumerate(rows):
        y = (index + 1) * row_height - 13
        if len(rows) > 1:
            parts.append(_text(name, frame.left, y - 14, "name"))
        ends = {"x1": frame.x(low), "x2": frame.x(high), "y1": y, "y2": y}
        parts.append(_tag("line", class_=f"reach of-{index}", **ends))
        parts.append(_tag("circle", cx=frame.x(accuracy), cy=y, r=5.5, class_=f"dot of-{index}"))
    return _picture("interval", t("chart.interval"), description, bottom + 22, parts)


def pairs(rows: Sequence[tuple[str, float, float]], description: str) -> Markup:
    """Two shares a row (name, first, second), as two dots on one scale."""
    least = floor(min(min(first, second) for _, first, second in rows))
    left = 10 + min(6.6 * max(len(name) for name, _, _ in rows), 84)
    bottom = 24 * len(rows) + 4
    frame = Frame(left + 10, 0, WIDTH - 16, bottom, (least, 1), (0, 1))
    parts = _across(frame, least)
    for index, (name, *shares) in enumerate(rows):
        y = 24 * index + 14
        first, second = map(frame.x, shares)
        parts.append(_text(name[:13], left - 4, y + 4, "name", text_anchor="end"))
        parts.append(_tag("line", x1=first, x2=second, y1=y, y2=y, class_="between"))
        parts += [
            _tag("circle", cx=x, cy=y, r=radius, class_=f"dot of-{which}")
            for which, x, radius in ((0, first, 6), (1, second, 4))
        ]
    return _picture("pairs", t("chart.recalls"), description, bottom + 22, parts)


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
        parts.append(
            _text(percent(share, digits), edge, frame.bottom + 16, "tick", text_anchor=anchor)
        )
    return parts


def training(
    history: Sequence[tuple[float, float]], what: str, best: int, description: str
) -> Markup:
    """A measure of each epoch, (training, validation), as two lines; `best` is an epoch from 1."""
    values = [value for epoch in history for value in epoch]
    share = what == "accuracy"
    least = min(0.98, *values) if share else min(0, *values)
    ticks = _ticks(least, max(values), most=1 if share else None)
    frame = Frame(44, 34, WIDTH - 10, 184, (1, max(2, len(history))), (ticks[0], ticks[-1]))
    parts = [*_up(frame, ticks, what), *_epochs(frame, len(history)), *_legend()]
    if 1 <= best <= len(history):
        parts += _best(frame, best, history[best - 1][1], at_top=what == "loss")
    for index, kind in enumerate(("training", "validation")):
        points = " ".join(
            f"{frame.x(at)},{frame.y(epoch[index])}" for at, epoch in enumerate(history, 1)
        )
        parts.append(_tag("polyline", points=points, class_=f"line {kind}"))
    title = t("chart.accuracy") if share else t("chart.loss")
    return _picture(f"curve-{what}", title, description, 218, parts)


def _up(frame: Frame, ticks: Sequence[float], what: str) -> list[Markup]:
    digits = max(0, math.ceil(-math.log10(ticks[1] - ticks[0]) - 1e-9))
    parts = []
    for tick in ticks:
        y = frame.y(tick)
        text = percent(tick, max(0, digits - 2)) if what == "accuracy" else number(tick, digits)
        parts.append(_tag("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_="grid"))
        parts.append(_text(text, frame.left - 6, y + 4, "tick", text_anchor="end"))
    return parts


def _epochs(frame: Frame, count: int) -> list[Markup]:
    step = next((each for each in (1, 2, 5, 10, 20, 50, 100) if count <= 8 * each), -(-count // 8))
    shown = [*([1] if step != 2 else []), *range(step if step > 1 else 2, count + 1, step)]
    parts = [
        _text(str(epoch), frame.x(epoch), frame.bottom + 16, "tick", text_anchor="middle")
        for epoch in shown
    ]
    middle = (frame.left + frame.right) / 2
    return [
        *parts,
        _text(t("chart.epoch"), middle, frame.bottom + 31, "axis", text_anchor="middle"),
    ]


def _legend() -> list[Markup]:
    parts = []
    names = {"training": t("chart.training"), "validation": t("chart.validation")}
    for index, (kind, name) in enumerate(names.items()):
        x = 44 + 84 * index
        parts.append(_tag("line", x1=x, x2=x + 18, y1=12, y2=12, class_=f"line {kind}"))
        parts.append(_text(name, x + 24, 16, "name"))
    return parts


def _best(frame: Frame, epoch: int, value: float, *, at_top: bool) -> list[Markup]:
    x = frame.x(epoch)
    after = x < (frame.left + frame.right) / 2
    place = x + (6 if after else -6), (frame.top + 12 if at_top else frame.bottom - 7)
    return [
        _tag("line", x1=x, x2=x, y1=frame.top, y2=frame.bottom, class_="mark"),
        _tag("circle", cx=x, cy=frame.y(value), r=4.5, class_="dot of-1"),
        _text(
            t("chart.kept", epoch=epoch), *place, "name", text_anchor="start" if after else "end"
        ),
    ]


def precision_recall(points: Sequence[Point], name: str, number: int, least: float) -> Markup:
    """A class's curve of [recall, precision] points, both axes from `least` to 1."""
    frame = Frame(38, 8, 156, 122, (least, 1), (least, 1))
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
    from_, to = percent(least, 0), percent(1, 0)
    across, down = (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2
    parts = [
        _tag("line", **{**ends, "x2": frame.left}, class_="grid"),
        _tag("line", **{**ends, "y1": frame.bottom}, class_="grid"),
        curve,
        _text(from_, frame.left, frame.bottom + 13, "tick"),
        _text(t("chart.recall"), across, frame.bottom + 13, "axis", text_anchor="middle"),
        _text(to, frame.right, frame.bottom + 13, "tick", text_anchor="end"),
        _text(from_, frame.left - 5, frame.bottom, "tick", text_anchor="end"),
        _turned(t("chart.precision"), frame.left - 9, down, -90, "axis", text_anchor="middle"),
        _text(to, frame.left - 5, frame.top + 8, "tick", text_anchor="end"),
    ]
    description = t("chart.curve_text", low=from_, high=to)
    title = t("chart.curve", label=name)
    return _picture(f"curve-{number}", title, description, 138, parts, width=160)


def _ticks(low: float, high: float, most: float | None = None) -> list[float]:
    """Four to seven round values that hold `low` and `high` between them, none above `most`."""
    spread = (high - low) or abs(high) or 1
    power: float = 10 ** math.floor(math.log10(spread / 4))
    step = power * next(each for each in (1, 2, 5, 10) if spread / 4 <= each * power * 1.25)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]
    return [tick for tick in ticks if most is None or tick <= most + 1e-9] or ticks


def _picture(
    name: str,
    title: str,
    description: str,
    height: float,
    parts: Iterable[Markup],
    *,
    width: float = WIDTH,
) -> Markup:
    return _tag(
        "svg",
        _tag("title", escape(title), id=f"{name}-title"),
        _tag("desc", escape(description), id=f"{name}-desc"),
        *parts,
        class_=f"chart {name}", viewBox=f"0 0 {width} {_short(height)}", role="img",
        aria_labelledby=f"{name}-title", aria_describedby=f"{name}-desc",
    )  # fmt: skip


def _text(text: str, x: float, y: float, kind: str, **attributes: object) -> Markup:
    return _tag("text", escape(text), x=_short(x), y=_short(y), class_=kind, **attributes)


def _turned(text: str, x: float, y: float, angle: int, kind: str, **attributes: object) -> Markup:
    turn = f"translate({_short(x)} {_short(y)}) rotate({angle})"
    return _tag("text", escape(text), transform=turn, class_=kind, **attributes)


def _short(value: float) -> float:
    return round(value, 2)


def _tag(element: str, *content: Markup, **attributes: object) -> Markup:
    """An element; attributes are escaped, `class_` is class and `text_anchor` text-anchor."""
    given = [
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
    ]
    return Markup("<{0}{1}>{2}</{0}>").format(element, Markup().join(given), Markup().join(content))

"""What is no digit, made: doodles, and digits side by side, on each other and in parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Stroke = NDArray[np.float64]  # (points, 2): x and y, which grows downwards
Random = np.random.Generator
Strokes = Sequence[Stroke]


def make(
    figures: Sequence[tuple[str, Strokes, str]], count: int, random: Random
) -> list[tuple[Strokes, str]]:
    """`count` strokes that show no single digit, each with the donor of what it was made from.

    `figures` are (label, strokes, donor). Half are doodles, the others made of one donor's digits.
    """
    by_donor: dict[str, list[tuple[str, Strokes]]] = {}
    for label, strokes, donor in figures:
        if label.isdigit():
            by_donor.setdefault(donor, []).append((label, strokes))
    donors = sorted(by_donor)
    made: list[tuple[Strokes, str]] = []
    while donors and len(made) < count:
        donor = donors[len(made) % len(donors)]
        kind = random.random()
        if kind < 0.5:
            shape = DOODLES[int(random.integers(len(DOODLES)))](random)
            made.append(([shaky(stroke, random) for stroke in shape], donor))
        elif kind < 0.85:
            left, right = random.integers(len(by_donor[donor]), size=2)
            made.append((pair(by_donor[donor][left][1], by_donor[donor][right][1], random), donor))
        else:
            label, strokes = by_donor[donor][random.integers(len(by_donor[donor]))]
            if (part := part_of(label, strokes, random)) is not None:
                made.append((part, donor))
    return made


def pair(left: Strokes, right: Strokes, random: Random) -> Strokes:
    """Two digits side by side, apart or touching, or three quarters of the way over each other."""
    one, other = (_scaled(strokes) for strokes in (left, right))
    other = [stroke * random.uniform(0.75, 1.25) for stroke in other]
    width = np.concatenate(one)[:, 0].max()
    gap = random.uniform(-0.15, 0.25)
    moved = np.array([width + gap, random.uniform(-0.15, 0.15)])
    return [*one, *(stroke + moved for stroke in other)]


def part_of(label: str, strokes: Strokes, random: Random) -> Strokes | None:
    """A part of a digit that is no digit itself, or none where it has none: the angle of a 4, a
    bar, or two fifths of a long stroke.
    """
    held = [stroke for stroke in strokes if len(stroke) > 4]
    if not held:
        return None
    if label == "4" and len(strokes) > 1:
        return [strokes[0]] if np.ptp(strokes[0][:, 0]) > 0.5 * np.ptp(strokes[0][:, 1]) else None
    if label in "57" and len(strokes) > 1:
        bars = [each for each in strokes if np.ptp(each[:, 0]) > 3 * np.ptp(each[:, 1])]
        return bars[:1] or None
    if label not in "23568":
        return None
    stroke = max(held, key=len)
    length = np.concatenate([[0], np.hypot(*np.diff(stroke, axis=0).T).cumsum()])
    first = random.uniform(0, 0.6)
    inside = (length >= first * length[-1]) & (length <= (first + 0.4) * length[-1])
    cut = stroke[inside]
    if len(cut) < 3 or np.ptp(cut[:, 0]) < 1.1 * np.ptp(cut[:, 1]):
        return None  # as straight and upright as a 1
    return [cut]


def _scaled(strokes: Strokes) -> list[Stroke]:
    """The strokes with their box's top left corner at 0 and a height of 1."""
    points = np.concatenate(list(strokes))
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    factor = 1 / max(size[1], 0.6 * size[0], 1e-6)
    return [(stroke - low) * factor for stroke in strokes]


def shaky(stroke: Stroke, random: Random) -> Stroke:
    """The stroke with a hand's smooth errors, which are larger the larger the stroke is."""
    time = np.linspace(0, 1, len(stroke))[:, None]
    waves = sum(
        random.normal(0, 0.04 / order, 2) * np.sin(np.pi * order * time + random.uniform(0, 6))
        for order in range(1, 6)
    )
    return np.asarray(stroke + waves * max(float(np.ptp(stroke, axis=0).max()), 0.2))


def _arc(
    x: float, y: float, radius: float, start: float = 0, end: float = 1, *, flat: float = 1
) -> Stroke:
    """An arc round (x, y), its angles in turns, clockwise from the right."""
    angle = 2 * np.pi * np.linspace(start, end, max(8, int(40 * abs(end - start))))
    return np.stack([x + radius * np.cos(angle), y + radius * flat * np.sin(angle)], axis=1)


def _line(*points: tuple[float, float]) -> Stroke:
    """Straight lines from point to point."""
    corners = np.array(points, float)
    time = np.linspace(0, len(corners) - 1, 8 * (len(corners) - 1) + 1)
    return np.stack([np.interp(time, range(len(corners)), corners[:, at]) for at in (0, 1)], axis=1)


def _smiley(random: Random) -> Strokes:
    mouth = _arc(0, 0, random.uniform(0.5, 0.65), 0.1, 0.4)
    if random.random() < 0.3:
        mouth = mouth * (1, -1) + (0, 0.8)
    size = random.uniform(0.03, 0.12)
    eyes = [_arc(side * 0.35, -0.3, size) for side in (-1, 1)]
    nose = [_line((0, -0.15), (0.06, 0.15))] if random.random() < 0.3 else []
    return [_arc(0, 0, 1), *eyes, mouth, *nose]


def _heart(_random: Random) -> Strokes:
    time = np.linspace(0, 2 * np.pi, 50)
    x = 16 * np.sin(time) ** 3
    y = -(13 * np.cos(time) - 5 * np.cos(2 * time) - 2 * np.cos(3 * time) - np.cos(4 * time))
    return [np.stack([x, y], axis=1) / 16]


def _star(random: Random) -> Strokes:
    if random.random() < 0.5:  # in one go
        angle = 2 * np.pi * (np.arange(6) * 2 / 5 - 0.25)
        return [_line(*zip(np.cos(angle), np.sin(angle), strict=True))]
    angle = 2 * np.pi * (np.arange(11) / 10 - 0.25)
    radius = np.where(np.arange(11) % 2, random.uniform(0.35, 0.5), 1)
    return [_line(*zip(radius * np.cos(angle), radius * np.sin(angle), strict=True))]


def _arrow(random: Random) -> Strokes:
    head = random.uniform(0.3, 0.6)
    strokes = [_line((-1, 0), (1, 0)), _line((1 - head, -head), (1, 0), (1 - head, head))]
    turn = random.choice([0, 0.5, 0.25, 0.75]) * 2 * np.pi + random.normal(0, 0.3)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return [stroke @ matrix.T for stroke in strokes]


def _scribble(random: Random) -> Strokes:
    count = int(random.integers(7, 22))
    points = random.uniform(-1, 1, (count, 2)) * (1, random.uniform(0.4, 1))
    time = np.linspace(0, count - 1, 12 * count)
    smooth = np.stack([np.interp(time, range(count), points[:, at]) for at in (0, 1)], axis=1)
    window = np.ones(9) / 9
    return [np.stack([np.convolve(smooth[:, at], window, "valid") for at in (0, 1)], axis=1)]


def _hatching(random: Random) -> Strokes:
    count = int(random.integers(4, 11))
    x = np.repeat(np.linspace(-1, 1, count), 2)
    y = np.tile([-1.0, 1, 1, -1], count)[: len(x)] * random.uniform(0.5, 1)
    if random.random() < 0.5:
        return [_line(*zip(x, y, strict=True))]
    return [_line((left, -0.8), (left + 0.3, 0.8)) for left in np.linspace(-1, 1, count)]


def _spiral(random: Random) -> Strokes:
    turns = random.uniform(2.5, 5)
    angle = 2 * np.pi * np.linspace(0, turns, int(40 * turns)) * random.choice([-1, 1])
    radius = np.linspace(0.05, 1, len(angle))
    return [np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)]


def _blot(random: Random) -> Strokes:
    size = random.uniform(0.6, 1, 2)
    rings = [_arc(0, 0, size[0] * share, flat=size[1]) for share in np.linspace(0.04, 1, 12)]
    drops = [
        _arc(x, y, random.uniform(0.02, 0.12))
        for x, y in random.uniform(-1.4, 1.4, (random.integers(0, 4), 2))
    ]
    return [*rings, *drops]


def _zigzag(random: Random) -> Strokes:
    count = int(random.integers(5, 12))
    height = random.uniform(0.15, 0.6)
    points = [(at, height * (-1) ** at) for at in range(count)]
    if random.random() < 0.4:
        time = np.linspace(0, 2 * np.pi * random.uniform(1.5, 4), 60)
        return [np.stack([time, random.uniform(0.4, 1.5) * np.sin(time)], axis=1)]
    return [_line(*points)]


def _house(random: Random) -> Strokes:
    walls = _line((-0.8, 0), (-0.8, 1), (0.8, 1), (0.8, 0), (-0.8, 0))
    door = [_line((-0.1, 1), (-0.1, 0.5), (0.25, 0.5), (0.25, 1))] if random.random() < 0.6 else []
    return [walls, _line((-0.8, 0), (0, -0.8), (0.8, 0)), *door]


def _flower(random: Random) -> Strokes:
    count = int(random.integers(4, 9))
    around = 2 * np.pi * np.arange(count) / count
    if random.random() < 0.4:  # the sun
        rays = [_line((0.6 * np.cos(a), 0.6 * np.sin(a)), (np.cos(a), np.sin(a))) for a in around]
        return [_arc(0, 0, 0.45), *rays]
    petals = [_arc(0.6 * np.cos(a), 0.6 * np.sin(a), 1.4 / count) for a in around]
    stem = [_line((0, 1), (0, 2))] if random.random() < 0.5 else []
    return [_arc(0, 0, 0.3), *petals, *stem]


def _person(random: Random) -> Strokes:
    arms = random.uniform(-0.4, 0.3)
    return [
        _arc(0, -0.75, 0.25), _line((0, -0.5), (0, 0.3)),
        _line((-0.5, arms), (0, -0.2), (0.5, arms)), _line((-0.4, 1), (0, 0.3), (0.4, 1)),
    ]  # fmt: skip


def _shape(random: Random) -> Strokes:
    kind = random.integers(6)
    if kind == 0:
        return [_line((-1, 0.8), (0, -0.9), (1, 0.8), (-1, 0.8))]  # a triangle
    if kind == 1:
        return [_line((-1, 0), (0, -1), (1, 0), (0, 1), (-1, 0))]  # a diamond
    if kind == 2:
        return [_line((-1, 0.1), (-0.4, 0.7), (1, -0.8))]  # a tick
    if kind == 3:
        return [_line((-1, -1), (1, 1)), _line((1, -1), (-1, 1))]  # a cross
    if kind == 4:
        return [_arc(0, 0, 1), _line((-1.2, 0), (1.2, 0)), _line((0, -1.2), (0, 1.2))]
    return [_line((-1, 0), (1, 0)), _line((0, -1), (0, 1))]  # a plus


def _dots(random: Random) -> Strokes:
    count = int(random.integers(4, 12))
    places = random.uniform(-1, 1, (count, 2))
    return [_arc(x, y, random.uniform(0.02, 0.08)) for x, y in places]


def _cloud(random: Random) -> Strokes:
    count = int(random.integers(5, 9))
    around = np.arange(count) / count
    return [
        _arc(np.cos(2 * np.pi * a), 0.6 * np.sin(2 * np.pi * a), 0.45, a - 0.25, a + 0.25)
        for a in around
    ]


def _letters(random: Random) -> Strokes:
    """Joined loops, as of words that cannot be read."""
    time = np.linspace(0, 2 * np.pi * random.integers(3, 7), 160)
    height = 1 + random.uniform(0, 0.6) * np.sin(time * random.uniform(0.2, 0.6))
    x = 0.25 * time + random.uniform(0.6, 1) * np.sin(time)
    return [np.stack([x, height * np.cos(time)], axis=1)]


DOODLES: Sequence[Callable[[Random], Strokes]] = (
    _smiley, _smiley, _heart, _star, _arrow, _scribble, _scribble, _hatching, _spiral, _blot,
    _zigzag, _house, _flower, _person, _shape, _dots, _cloud, _letters,
)  # fmt: skip

"""Three hands writing the ten digits, as strokes that a mouse, a finger or a renderer can follow.

`HANDS[hand][digit]` is a list of strokes, each a list of points (x, y) within the unit square,
y downwards, in the order in which the pen meets them.
"""

from __future__ import annotations

import math

Point = tuple[float, float]
Stroke = list[Point]
Glyph = list[Stroke]


def arc(centre: Point, radii: Point, start: float, end: float) -> Stroke:
    """Points on an ellipse, every 30° or less; 0° is at its right and 90° at its bottom."""
    steps = max(2, math.ceil(abs(end - start) / 30))
    angles = (math.radians(start + (end - start) * step / steps) for step in range(steps + 1))
    (x, y), (rx, ry) = centre, radii
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


def slanted(glyph: Glyph, by: float) -> Glyph:
    """The glyph leaning to the right by `by` of its height, made narrower to stay in its square."""
    squeeze = 1 - by
    return [
        [(0.5 + squeeze * (x - 0.5) + by * (0.5 - y), y) for x, y in stroke] for stroke in glyph
    ]


def placed(glyph: Glyph, left: float, top: float, side: float) -> Glyph:
    """The glyph moved and scaled from the unit square to the given one."""
    return [[(left + side * x, top + side * y) for x, y in stroke] for stroke in glyph]


# As taught at school: upright, few strokes.
PLAIN: dict[int, Glyph] = {
    0: [arc((0.5, 0.5), (0.32, 0.5), -90, -450)],
    1: [[(0.5, 0.0), (0.5, 1.0)]],
    2: [[*arc((0.5, 0.29), (0.3, 0.29), 190, 400), (0.2, 1.0), (0.84, 1.0)]],
    3: [[*arc((0.46, 0.25), (0.28, 0.25), 205, 440), *arc((0.46, 0.74), (0.33, 0.26), -80, 155)]],
    4: [[(0.6, 0.0), (0.12, 0.66), (0.9, 0.66)], [(0.66, 0.36), (0.66, 1.0)]],
    5: [[(0.8, 0.0), (0.28, 0.0), (0.24, 0.44), *arc((0.46, 0.68), (0.35, 0.32), -128, 150)]],
    6: [
        [
            (0.68, 0.0),
            (0.46, 0.16),
            (0.3, 0.4),
            *arc((0.5, 0.7), (0.29, 0.3), 180, -180),
        ]
    ],
    7: [[(0.18, 0.0), (0.84, 0.0), (0.42, 1.0)]],
    8: [[*arc((0.5, 0.25), (0.27, 0.25), 90, 450), *arc((0.5, 0.75), (0.33, 0.25), -90, 270)]],
    9: [[*arc((0.47, 0.3), (0.29, 0.3), -10, -360), (0.76, 0.45), (0.72, 1.0)]],
}

# As on the Continent: upstrokes, serifs, a crossed seven, an open four, a looped two.
EUROPEAN: dict[int, Glyph] = {
    0: [arc((0.5, 0.5), (0.42, 0.48), -60, 310)],
    1: [[(0.22, 0.34), (0.58, 0.0), (0.58, 1.0)]],
    2: [
        [
            *arc((0.5, 0.27), (0.28, 0.27), 200, 400),
            (0.56, 0.66),
            (0.36, 0.9),
            *arc((0.24, 0.88), (0.12, 0.1), 30, 270),
            (0.42, 0.86),
            (0.62, 0.98),
            (0.88, 0.92),
        ]
    ],
    3: [[(0.2, 0.0), (0.8, 0.0), (0.46, 0.38), *arc((0.46, 0.69), (0.35, 0.31), -80, 150)]],
    4: [[(0.26, 0.0), (0.18, 0.56), (0.88, 0.56)], [(0.74, 0.14), (0.68, 1.0)]],
    5: [
        [
            (0.84, 0.03),
            (0.36, 0.0),
            (0.28, 0.4),
            (0.5, 0.36),
            *arc((0.48, 0.68), (0.33, 0.3), -60, 110),
            (0.16, 0.92),
        ]
    ],
    6: [[(0.5, 0.0), (0.32, 0.3), *arc((0.5, 0.74), (0.3, 0.26), 190, -170), (0.24, 0.66)]],
    7: [[(0.16, 0.14), (0.18, 0.0), (0.84, 0.0), (0.4, 1.0)], [(0.32, 0.5), (0.78, 0.5)]],
    8: [
        [
            (0.5 + 0.33 * math.sin(2 * turn), 0.5 - 0.5 * math.cos(turn))
            for turn in (math.tau * step / 32 for step in range(33))
        ]
    ],
    9: [
        [
            *arc((0.5, 0.28), (0.3, 0.28), 0, -360),
            (0.8, 0.55),
            *arc((0.5, 0.72), (0.3, 0.28), 0, 140),
        ]
    ],
}

# In haste: leaning, pieces lifted and added, a slashed zero, a one with a foot.
SLANTED: dict[int, Glyph] = {
    0: [arc((0.5, 0.5), (0.34, 0.5), -80, -440), [(0.76, 0.12), (0.26, 0.86)]],
    1: slanted([[(0.3, 0.2), (0.54, 0.0), (0.54, 1.0)], [(0.32, 1.0), (0.78, 1.0)]], 0.1),
    2: slanted(
        [[(0.2, 0.2), *arc((0.48, 0.27), (0.3, 0.26), 220, 390), (0.16, 0.98), (0.9, 0.94)]], 0.2
    ),
    3: slanted(
        [
            [
                *arc((0.5, 0.22), (0.24, 0.22), 210, 420),
                (0.44, 0.46),
                *arc((0.46, 0.74), (0.3, 0.26), -75, 170),
            ]
        ],
        0.2,
    ),
    4: slanted([[(0.66, 0.0), (0.12, 0.7), (0.94, 0.7)], [(0.66, 0.0), (0.66, 1.0)]], 0.1),
    5: slanted(
        [
            [(0.3, 0.02), (0.26, 0.42), *arc((0.44, 0.69), (0.36, 0.31), -115, 145)],
            [(0.3, 0.02), (0.88, 0.0)],
        ],
        0.15,
    ),
    6: slanted([[(0.6, 0.0), (0.34, 0.34), *arc((0.48, 0.74), (0.24, 0.26), 195, -190)]], 0.2),
    7: slanted([[(0.16, 0.04), (0.5, 0.06), (0.86, 0.0), (0.6, 0.38), (0.5, 1.0)]], 0.2),
    8: slanted(
        [arc((0.5, 0.24), (0.24, 0.24), 60, 420), arc((0.5, 0.74), (0.29, 0.26), -90, 270)], 0.2
    ),
    9: slanted([[*arc((0.46, 0.28), (0.28, 0.28), -10, -370), (0.7, 0.6), (0.56, 1.0)]], 0.15),
}

HANDS: dict[str, dict[int, Glyph]] = {"plain": PLAIN, "european": EUROPEAN, "slanted": SLANTED}

"""What the served model says where ink is round, under or beside digits: signs, points, circles.

    python benchmarks/marks_beside_digits.py --data DIR [--donors NAME …] [--count 100]

DIR holds strokes as `training.datasets.strokes` reads them: digits, letters and signs. Each
picture is drawn from them and sent through `/api/predict` inside this process. Prints a Markdown
table. With a sign, letters or a second line, an answer is right whose verdict is not `sure`; with a
circle, box or underline, one with the right digits.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from digits_in_a_row import inked
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app import create_app
from training.datasets import strokes

Points = NDArray[np.float64]  # (N, 2): x and y, which grows downwards
LETTERS = "mnahkepdrxtyw"


class Sheet:
    """Strokes on one line, from left to right; sizes in the height of its digits."""

    def __init__(self, figures: Sequence[strokes.Figure], random: np.random.Generator) -> None:
        self.figures, self.random = figures, random
        self.height, self.pen = random.uniform(110, 190), random.uniform(3, 9)
        self.x, self.base = 0.0, 0.0
        self.lines: list[Points] = []
        self.digits = ""

    def write(self, labels: str, least: float = 0.9, most: float = 1.1, up: float = 0) -> None:
        """A figure of one of the labels, `up` above the line."""
        chosen = [each for each in self.figures if each.label in labels]
        figure = chosen[self.random.integers(len(chosen))]
        points = np.concatenate(figure.strokes)
        low, size = points.min(axis=0), np.ptp(points, axis=0)
        height = self.height * self.random.uniform(least, most)
        factor = height / max(size[1], 0.6 * size[0], 1)
        corner = [self.x, self.base - up * self.height - size[1] * factor]
        self.lines += [(np.asarray(each) - low) * factor + corner for each in figure.strokes]
        self.x += size[0] * factor
        if figure.label.isdigit():
            self.digits += figure.label

    def digit(self) -> None:
        """Any digit."""
        self.write("0123456789")

    def gap(self, least: float = 0.15, most: float = 0.5) -> None:
        """Room, beyond what the pen takes."""
        self.x += self.height * self.random.uniform(least, most) + 2 * self.pen

    def tap(self) -> None:
        """A point on the line, as large as the pen or twice that."""
        radius = self.pen * self.random.uniform(0.2, 1)
        self.line(0, 2 * np.pi, (self.x + radius, self.base - radius), (radius, radius))
        self.x += 2 * radius

    def line(
        self, start: float, end: float, middle: Sequence[float], radii: Sequence[float]
    ) -> None:
        """A part of an ellipse, from one angle to another."""
        angles = np.linspace(start, end, 60)
        self.lines.append(
            np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array(radii) + np.array(middle)
        )

    def minus(self) -> None:
        """A short stroke at half the height."""
        width = self.height * self.random.uniform(0.25, 0.55)
        y = self.base - self.height * self.random.uniform(0.4, 0.6)
        rise = width * self.random.uniform(-0.08, 0.08)
        self.lines.append(np.array([[self.x, y], [self.x + width, y + rise]]))
        self.x += width

    def new_line(self) -> None:
        """What follows is written below."""
        self.x = self.height * self.random.uniform(-0.1, 0.1)
        self.base += self.height * self.random.uniform(1.25, 1.6)

    def box(self) -> tuple[Points, Points]:
        """The least and the greatest x and y."""
        points = np.concatenate(self.lines)
        return points.min(axis=0), points.max(axis=0)

    def circle(self) -> None:
        """Round all that is written; it may not close."""
        low, high = self.box()
        radii = ((high - low) * 0.625 + 4 * self.pen) * self.random.uniform(1, 1.3)
        start = self.random.uniform(0, 6)
        end = start + 2 * np.pi * self.random.uniform(0.97, 1.05)
        self.line(start, end, (low + high) / 2, np.maximum(radii, 0.7 * radii.max()))

    def frame(self) -> None:
        """A drawn box round all that is written."""
        low, high = self.box()
        low = low - 5 * self.pen - self.random.uniform(0, 40, 2)
        high = high + 5 * self.pen + self.random.uniform(0, 40, 2)
        corners = np.array([low, [high[0], low[1]], high, [low[0], high[1]], low])
        self.lines.append(corners + self.random.uniform(-4, 4, (5, 2)))

    def underline(self) -> None:
        """Under all that is written."""
        low, high = self.box()
        y = high[1] + 4 * self.pen + self.random.uniform(4, 30)
        more = (high[0] - low[0]) * self.random.uniform(0.05, 0.35)
        self.lines.append(np.array([[low[0] - more, y], [high[0] + more, y]]))

    def png(self) -> bytes:
        """The sheet, dark on light."""
        low, high = self.box()
        width, height = (round(side) for side in high - low + 120)
        buffer = io.BytesIO()
        inked([each - low + 60 for each in self.lines], self.pen, (width, height)).save(
            buffer, "PNG"
        )
        return buffer.getvalue()


def told(answer: dict[str, str], wanted: str) -> bool:
    return answer["verdict"] != "sure"


def read(answer: dict[str, str], wanted: str) -> bool:
    return answer["label"] == wanted


Step = Callable[[Sheet], None]
Right = Callable[[dict[str, str], str], bool]
KINDS: dict[str, tuple[Right, tuple[Step, ...]]] = {
    "a minus before": (told, (Sheet.minus, Sheet.gap, Sheet.digit)),
    "a plus before": (
        told,
        (lambda sheet: sheet.write("+", 0.35, 0.7, up=0.2), Sheet.gap, Sheet.digit),
    ),
    "an equals sign after": (
        told,
        (Sheet.digit, Sheet.gap, lambda sheet: sheet.write("=", 0.3, 0.6, up=0.2)),
    ),
    "a point after": (told, (Sheet.digit, lambda sheet: sheet.gap(0.05, 0.25), Sheet.tap)),
    "a point between two": (
        told,
        (
            Sheet.digit,
            lambda sheet: sheet.gap(0.05, 0.2),
            Sheet.tap,
            lambda sheet: sheet.gap(0.05, 0.2),
            Sheet.digit,
        ),
    ),
    "two small letters after": (
        told,
        (
            Sheet.digit,
            Sheet.gap,
            lambda sheet: sheet.write(LETTERS, 0.4, 0.6),
            lambda sheet: sheet.gap(0.05, 0.15),
            lambda sheet: sheet.write(LETTERS, 0.4, 0.6),
        ),
    ),
    "a letter after, as high": (
        told,
        (Sheet.digit, Sheet.gap, lambda sheet: sheet.write(LETTERS, 0.7, 1)),
    ),
    "two lines of two": (
        told,
        (
            Sheet.digit,
            Sheet.gap,
            Sheet.digit,
            Sheet.new_line,
            Sheet.digit,
            Sheet.gap,
            Sheet.digit,
        ),
    ),
    "one over the other": (told, (Sheet.digit, Sheet.new_line, Sheet.digit)),
    "one in a circle": (read, (Sheet.digit, Sheet.circle)),
    "two in a circle": (read, (Sheet.digit, Sheet.gap, Sheet.digit, Sheet.circle)),
    "one in a drawn box": (read, (Sheet.digit, Sheet.frame)),
    "one underlined": (read, (Sheet.digit, Sheet.underline)),
    "one alone": (read, (Sheet.digit,)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--donors", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--count", type=int, default=100, metavar="N")
    arguments = parser.parse_args()
    figures = [
        each
        for each in strokes.read(arguments.data)
        if not arguments.donors or each.donor in arguments.donors
    ]
    client = create_app().test_client()
    print("| digits | right | wrong, and `sure` |\n| --- | --- | --- |")
    for name, (is_right, steps) in KINDS.items():
        random = np.random.default_rng(5)
        right, sure = 0, 0
        for _ in range(arguments.count):
            sheet = Sheet(figures, random)
            for step in steps:
                step(sheet)
            answer = client.post(
                "/api/predict", data=sheet.png(), content_type="image/png"
            ).get_json()["results"][0]
            fine = is_right(answer, sheet.digits)
            right += fine
            sure += not fine and answer["verdict"] == "sure"
        print(f"| {name} | {right / arguments.count:.1%} | {sure} |", flush=True)


if __name__ == "__main__":
    main()

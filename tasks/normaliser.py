"""The digit normaliser: turns any picture of a digit into 28×28 pixels like MNIST's.

Training, serving and tests share it, so that a network sees the same pictures everywhere.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise, permutations
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image, ImageFilter

SIZE = 28  # side of the result, pixels
BOX = 20  # the digit's longer side in it, pixels
STROKE = (1.8, 3.6)  # a mean stroke width outside this range is dilated or eroded into it, pixels
WORKING = 192  # the longer side for finding strokes, pixels
DESK = 96  # the same for finding a sheet of paper
CLOSER = 144  # the same where most of the picture is the digit
FINE = 4  # stroke width is corrected at this many times the final resolution
PEAK = 20  # the mean of so many strongest pixels is the peak strength
SMALL = 48  # a longer side below which strokes are as fine as noise, pixels
LONG = 3  # times as long as wide: such a picture may hold a row of many digits
FINER = 4  # times as large for many digits
MOST_DIGITS = 16  # of a number
ONE_DIGIT = 0.3  # the widest gap in an open 4, in its height
MOST_LINES = 12  # ruled lines that are removed in each direction
LEAST_LINE = 0.2  # the least length of a printed line, in the picture's side
SLOPES = np.linspace(-0.08, 0.08, 9).tolist()  # of printed lines
SPECK = 0.03  # of the largest part's ink: what is smaller belongs to no digit
DOT = 0.004  # the same of the points beside digits, in a drawing
NEAR, FAR = 0.3, 3.0  # where a digit's parts lie, and what is beside it in a drawing, in its size
FAINTEST = 10.0  # grey levels (of 255) by which strokes must differ from the background

PREPROCESSING = {"method": "ink", "size": SIZE, "box": BOX, "stroke": list(STROKE)}

# By this curve, blurred or enlarged strokes get crisp edges as in MNIST.
CRISP = [round(min(max((value / 255 - 0.2) / 0.5, 0), 1) * 255) for value in range(256)]

Grey = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]


class BlankError(ValueError):
    """A picture without strokes."""


@dataclass(frozen=True)
class Digit:
    """White strokes on black, uint8 (28, 28), and their box: left, top, right, bottom."""

    pixels: NDArray[np.uint8]
    box: Box


@dataclass(frozen=True)
class Reading:
    """What strokes may be: one digit, `whole`, or a number of `pieces` from left to right.

    `pairs` holds two pieces as one digit, by the number of the first, where they may be the two
    parts of an open 4. `gaps` (len(pieces) - 1,) is the room between pieces, in heights of the
    whole. `beside` says that there is ink that is no part of them: a point, a sign, another line.
    """

    whole: Digit
    pieces: Sequence[Digit] = ()
    pairs: Mapping[int, Digit] = field(default_factory=dict)
    gaps: Sequence[float] = ()
    beside: bool = False


def normalise(image: Image.Image) -> NDArray[np.uint8]:
    """All strokes in `image` as one digit: uint8 (28, 28). Raises `BlankError`."""
    return read(image).whole.pixels


def read(image: Image.Image) -> Reading:
    """What the strokes in `image` may be: a digit or, if they are apart, a number.

    `image` is upright, of mode L, RGB or RGBA and any size; strokes may be darker or lighter
    than the background, which may be uneven or transparent. A digit is scaled to fit 20×20 pixels
    and its centre of mass put in the middle, as LeCun et al. (1998) made MNIST, and strokes
    that are thinner or thicker than MNIST's are corrected. Raises `BlankError` if no strokes
    are found.
    """
    grey = _grey(image)
    normal = _normal(grey)
    if normal:
        return Reading(normal)
    sheet = _sheet(grey)
    if sheet is not None:
        with contextlib.suppress(BlankError):
            return _read(*sheet)
    return _read(grey, (0, 0, *grey.size))


def _read(grey: Image.Image, near: Box) -> Reading:
    """What the strokes in the part `near` of a one-channel picture may be."""
    closer = CLOSER
    try:
        ink, box, light = _find(_working_size(grey.crop(near), WORKING))
    except BlankError:
        if max(grey.size) < LONG * min(grey.size):
            raise
        # The strokes of a long row may be so dense that they count as noise at that size.
        closer = FINER * WORKING
        ink, box, light = _find(_working_size(grey.crop(near), closer))
    factor = (near[2] - near[0]) / ink.shape[1]
    if factor > 1 and max(box[2] - box[0], box[3] - box[1]) < BOX * FINE:
        # Look again, closer, at a square round the digit.
        left, top, right, bottom = (edge * factor for edge in box)
        reach = 0.8 * max(right - left, bottom - top) + 2 * factor
        x, y = near[0] + (left + right) / 2, near[1] + (top + bottom) / 2
        near = (
            max(round(x - reach), near[0]),
            max(round(y - reach), near[1]),
            min(round(x + reach), near[2]),
            min(round(y + reach), near[3]),
        )
        ink, box, light = _find(_working_size(grey.crop(near), closer), light=light)
    ink, place = _trimmed(ink, near)
    layout = lay_out(ink)
    if len(layout.pieces) > 1:
        # Each digit at the size that a single digit would have.
        with contextlib.suppress(BlankError):
            longest = CLOSER * min(len(layout.pieces), FINER)
            ink, _, _ = _find(_working_size(grey.crop(near), longest), light=light)
            ink, place_again = _trimmed(ink, near)
            again = lay_out(ink)
            if len(again.pieces) == len(layout.pieces):
                layout, place = again, place_again
    ink = layout.ink
    whole = _digit_of(ink, _box(ink > 0.2), place)
    if len(layout.pieces) < 2:
        return Reading(whole, beside=layout.beside)
    boxes = [_box(piece) for piece in layout.pieces]
    height = float(np.ptp([edge for box in boxes for edge in box[1::2]]))
    gaps = [(right[0] - left[2]) / height for left, right in pairwise(boxes)]

    def digit(piece: Mask) -> Digit:
        return _digit_of(ink * _grown(piece), _box(piece), place)

    pieces = [digit(piece) for piece in layout.pieces]
    pairs = {
        number: digit(left | right)
        for number, (left, right) in enumerate(pairwise(layout.pieces))
        if gaps[number] < ONE_DIGIT and _may_be_four(boxes[number], boxes[number + 1])
    }
    return Reading(whole, pieces, pairs, gaps, layout.beside)


def _may_be_four(left: Box, right: Box) -> bool:
    """Whether boxes lie as the two parts of an open 4: its angle ends above its stem's foot."""
    width, height = right[2] - left[0], max(left[3], right[3]) - min(left[1], right[1])
    return width < 1.1 * height and left[3] < right[3] - 0.08 * height


def _normal(grey: Image.Image) -> Digit | None:
    """The digit of a picture that already has MNIST's form, unchanged, or none."""
    if grey.size != (SIZE, SIZE):
        return None
    pixels = np.asarray(grey)
    mask = pixels > 0
    if not mask.any() or mask.mean() > 0.5 or pixels.max() < 128:
        return None
    left, top, right, bottom = box = _box(mask)
    places = np.arange(SIZE) + 0.5
    x, y = (float(pixels.sum(axis=axis) @ places) / float(pixels.sum()) for axis in (0, 1))
    if max(right - left, bottom - top) not in (BOX - 1, BOX) or max(abs(x - 14), abs(y - 14)) > 1:
        return None
    return Digit(pixels.copy(), box)


@dataclass(frozen=True)
class _Place:
    """Where a part of a scaled picture lies in the original: `left` and `top` are its corner in the
    scaled one, whose own corner is at `x`, `y` of the original and which is `factor` times smaller.
    """

    left: int
    top: int
    x: int
    y: int
    factor: float

    def box(self, inner: Box) -> Box:
        """A box in the part as one in the original."""
        left, right = (round(self.x + (self.left + edge) * self.factor) for edge in inner[::2])
        top, bottom = (round(self.y + (self.top + edge) * self.factor) for edge in inner[1::2])
        return left, top, right, bottom


def _trimmed(ink: Grey, near: Box) -> tuple[Grey, _Place]:
    """The part of `ink` that is not empty, and its place; `ink` is the part `near` of a picture."""
    left, top, right, bottom = _box(ink > 0)
    factor = (near[2] - near[0]) / ink.shape[1]
    return ink[top:bottom, left:right], _Place(left, top, near[0], near[1], factor)


def _digit_of(ink: Grey, box: Box, place: _Place) -> Digit:
    """The digit in `box` of `ink`, which lies at `place`."""
    left, top, right, bottom = box
    return Digit(_centre(_even_strokes(ink[top:bottom, left:right])), place.box(box))


@dataclass(frozen=True)
class Layout:
    """The `ink` of digits, where each of them is, from left to right, and whether there is other
    ink `beside` them that was left out; fewer than two `pieces` if they are not in a row."""

    ink: Grey
    pieces: Sequence[Mask]
    beside: bool


def lay_out(ink: Grey) -> Layout:
    """Tells digits from what is round, under and beside them.

    Each part at least half as high as the highest is a digit or half of one. Frames and
    underlines are left out. A small part, such as a 5's bar, belongs to the digit that it is above
    or below or nearest to, unless it lies between or beside the digits as a point or sign does.
    """
    labels, boxes = _components(ink > 0.2)
    areas = np.bincount(labels.ravel(), minlength=len(boxes))
    areas[0] = 0
    left, top, right, bottom = boxes.T
    kept = (areas > 0) & ~_frames(labels, boxes, areas)
    for upper, lower in _halves(boxes, kept):
        labels = np.where(labels == lower, upper, labels)
        areas[upper] += areas[lower]
        areas[lower] = 0
        kept[lower] = False
        left[upper], right[upper] = min(left[[upper, lower]]), max(right[[upper, lower]])
        bottom[upper] = bottom[lower]
    heights = bottom - top
    high = heights[kept].max()
    tall = kept & (heights >= 0.5 * high) & (areas >= 0.05 * areas[kept].max())
    lines = _lines(np.stack([top[tall], bottom[tall]], axis=1))
    width = right[tall].max() - left[tall].min()
    under = kept & ~tall & (heights < 0.3 * high) & (right - left > 0.7 * width)
    kept &= ~under | (top <= bottom[tall].max() - 0.05 * high)
    tall_at = np.flatnonzero(tall)
    tall_at = tall_at[np.argsort(left[tall_at] + right[tall_at], kind="stable")]
    # How far to the right of one and to the left of the other, or below 0: over each other.
    apart = np.maximum(left[tall_at] - right[:, np.newaxis], left[:, np.newaxis] - right[tall_at])
    beside = kept & ~tall & _are_alone(boxes, boxes[tall_at], apart)
    beside &= areas > 0.5 * _stroke_width(ink) ** 2
    kept &= ~beside & (areas > SPECK * areas.max())
    clean: Grey = ink if kept[areas > 0].all() else ink * _grown(np.asarray(kept[labels], bool))
    others = bool(beside.any()) or lines > 1
    shared = bottom[tall].min() - top[tall].max()
    if not 2 <= len(tall_at) <= MOST_DIGITS or shared < 0.3 * heights[tall].min():
        return Layout(clean, [], others)
    middles = (left + right) / 2
    nearness = np.maximum(apart, 0.01 * np.abs(middles[:, np.newaxis] - middles[tall_at]))
    owner = nearness.argmin(axis=1)
    owner[tall_at] = np.arange(len(tall_at))
    owner[~kept] = -1
    owners = owner[labels]
    pieces = [np.asarray(owners == number, bool) for number in range(len(tall_at))]
    return Layout(clean, pieces, others)


def _frames(labels: NDArray[np.int32], boxes: NDArray[np.intp], areas: NDArray[np.intp]) -> Mask:
    """Which parts are a circle or box round others."""
    left, top, right, bottom = boxes.T
    widths, heights = right - left, bottom - top
    found = np.zeros(len(boxes), bool)
    for frame in np.flatnonzero((areas > 0) & (areas >= 0.05 * areas.max())):
        inside = (areas > 0) & ~found & (left > left[frame]) & (right < right[frame])
        inside &= (top > top[frame]) & (bottom < bottom[frame])
        inside &= heights >= 0.25 * heights[frame]
        if not inside.any() or areas[frame] > 0.4 * widths[frame] * heights[frame]:
            continue
        # A slash in a zero is no digit in a frame; it reaches further across than a 1 does.
        slash = inside.argmax()
        across = widths[frame] < 0.85 * heights[frame] and widths[slash] > 0.5 * widths[frame]
        found[frame] = not (across and inside.sum() == 1 and _is_straight(labels == slash))
    return found


def _are_alone(boxes: NDArray[np.intp], digits: NDArray[np.intp], apart: NDArray[np.intp]) -> Mask:
    """Which parts lie between or beside the `digits`' boxes, `apart` from each: (parts, digits)."""
    left, top, right, bottom = boxes.T
    heights, high = bottom - top, (digits[:, 3] - digits[:, 1]).max()
    alone = (apart > -0.3 * np.minimum(right - left, high)[:, np.newaxis]).all(axis=1)
    # A 5's bar that does not reach back over the 5 is at its top.
    alone &= (top + bottom) / 2 > digits[:, 1].min() + 0.3 * high
    # The angle of an open 4 is at the left of its stem.
    stems = digits[digits[:, 2] - digits[:, 0] < 0.35 * (digits[:, 3] - digits[:, 1]), 0]
    before = (stems - right[:, np.newaxis]) / high
    angle = (heights >= 0.3 * high) & ((before > -0.3) & (before < 0.15)).any(axis=1)
    return np.asarray(alone & ~angle, bool)


def _halves(boxes: NDArray[np.intp], kept: Mask) -> list[tuple[int, int]]:
    """Which of the `kept` parts are the upper and the lower half of a digit beside a whole one."""
    high = int((boxes[kept, 3] - boxes[kept, 1]).max())
    found: list[tuple[int, int]] = []
    heights = boxes[:, 3] - boxes[:, 1]
    parts = np.flatnonzero(kept & (heights > 0.25 * high) & (heights < 0.7 * high))
    for upper, lower in permutations(parts.tolist(), 2):
        (left, top, right, middle), (left_too, below, right_too, bottom) = boxes[[upper, lower]]
        shared = min(right, right_too) - max(left, left_too)
        close = -0.3 * high < below - middle < 0.12 * high and top < below and middle < bottom
        whole = 0.6 * high < bottom - top < 1.2 * high
        if close and whole and shared > 0.6 * min(right - left, right_too - left_too):
            found.append((upper, lower))
    return found


def _is_straight(mask: Mask) -> bool:
    """Whether `mask` is one straight stroke."""
    spread = np.linalg.eigvalsh(np.cov(np.stack(np.nonzero(mask))))
    return bool(spread[0] < 0.02 * spread[1])


def _lines(spans: NDArray[np.intp]) -> int:
    """In how many lines parts are written whose tops and bottoms are `spans`, (N, 2)."""
    spans = spans[np.argsort(spans[:, 0])]
    below = np.maximum.accumulate(spans[:, 1])[:-1]
    # The halves of a broken digit are closer than two lines.
    least = (0.06 if len(spans) > 2 else 0.12) * (spans[:, 1].max() - spans[0, 0])
    return 1 + int(np.sum(spans[1:, 0] - below > least))


def _grey(image: Image.Image) -> Image.Image:
    """The channel with the strongest contrast, on an opaque background."""
    if image.mode == "RGBA":
        image = _on_contrasting_ground(image)
    if image.mode != "RGB":
        return image.convert("L")
    small = image.reduce(max(1, max(image.size) // 128))
    spread = [_spread(channel) for channel in (small.convert("L"), *small.split())]
    best = int(np.argmax(spread))
    # Luma has the least noise: another channel must have clearly more contrast.
    if best == 0 or spread[best] < 1.5 * spread[0]:
        return image.convert("L")
    return image.getchannel(best - 1)


def _spread(channel: Image.Image) -> int:
    """The grey levels between the darkest and the lightest hundredth of a picture."""
    below = np.cumsum(channel.histogram())
    return int(np.searchsorted(below, 0.99 * below[-1]) - np.searchsorted(below, 0.01 * below[-1]))


def _on_contrasting_ground(image: Image.Image) -> Image.Image:
    """Lays a transparent drawing on white, or on black where its own colour is light."""
    if image.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB")
    factor = max(1, max(image.size) // 128)
    size = max(1, image.width // factor), max(1, image.height // factor)
    small = image.resize(size, Image.Resampling.NEAREST)
    alpha = np.asarray(small.getchannel("A"), np.float32)
    light = np.asarray(small.convert("L"), np.float32)
    lightness = float((light * alpha).sum()) / max(float(alpha.sum()), 1)
    ground = Image.new("RGBA", image.size, "white" if lightness < 128 else "black")
    return Image.alpha_composite(ground, image).convert("RGB")


def _working_size(grey: Image.Image, longest: int) -> Image.Image:
    factor = longest / max(grey.size)
    if factor >= 1:
        return grey
    size = (max(1, round(grey.width * factor)), max(1, round(grey.height * factor)))
    return grey.resize(size, Image.Resampling.BOX)


def _find(image: Image.Image, *, light: bool | None = None) -> tuple[Grey, Box, bool | None]:
    """The strokes of a one-channel picture, 0..1, their box (left, top, right, bottom), and
    whether they are lighter than the background, if that had to be found out. `light` says so."""
    strength, noise, light = _strength(np.asarray(image), light)
    reach = FAR if noise == 0 and max(strength.shape) >= SMALL else NEAR
    height, width = strength.shape
    left, top, right, bottom = _box(strength > 0) if strength.any() else (0, 0, width, height)
    room = 3  # pixels: what lies so far inside does not touch the border
    if noise or min(left, top, width - right, height - bottom) < room:
        return *_ink_in(strength, noise, reach), light
    # The even ground of a drawing is left out.
    left, top = left - room, top - room
    part = np.s_[top : bottom + room, left : right + room]
    ink = np.zeros_like(strength)
    ink[part], box = _ink_in(strength[part], noise, reach)
    return ink, (box[0] + left, box[1] + top, box[2] + left, box[3] + top), light


def _ink_in(strength: Grey, noise: float, reach: float) -> tuple[Grey, Box]:
    """The strokes, 0..1, and their box, in a picture that differs by `strength` from its ground."""
    least = max(9 * noise, FAINTEST)
    mask, level = _digit(strength, least, reach)
    # What a box in a drawing holds is told from it later.
    seeks_lines = _at_border(mask) or (noise > 0 and _is_framed(mask))
    lines, grid = np.zeros_like(mask), False
    if seeks_lines and min(mask.shape) >= SMALL:
        lines, grid = _printed_lines(strength, level, least)
    at_edge = _edge_of_the_paper(strength, least)
    desk = np.zeros_like(at_edge)
    if at_edge.any():
        with contextlib.suppress(BlankError):
            inner, inner_level = _digit(np.where(at_edge, 0, strength), least)
            # A digit that fills the picture touches the border too: the rest must be a digit.
            if inner_level > 0.35 * level and _extent(inner) > 0.1 * max(inner.shape):
                mask, level, desk = inner, inner_level, at_edge
    if lines.any():
        with contextlib.suppress(BlankError):
            rest = np.where(lines | desk, 0, strength)
            inner, inner_level = _digit(rest, least)
            touching = _touching_border(inner)
            if 0 < touching.sum() < 0.5 * inner.sum():
                rest = np.where(_grown(touching), 0, rest)
                inner, inner_level = _digit(rest, least)
            # In a tight crop, the digit's own strokes cross the picture too.
            if (grid or not _at_border(inner)) and _extent(inner) > 0.1 * max(inner.shape):
                strength, mask, level = rest, inner, inner_level
    ground = min(2.5 * noise, 0.3 * level)
    ink = np.clip((strength - ground) / (level - ground), 0, 1) * _grown(mask)
    pale = mask & ~_grown(_grown(strength > 0.45 * level))
    if pale.any():
        # Pale parts that are not the soft edge of a strong stroke: there the pen ran dry.
        ink = np.where(_grown(pale), np.sqrt(ink), ink)
    return ink, _box(ink > 0.2)


def _digit(strength: Grey, least: float, reach: float = NEAR) -> tuple[Mask, float]:
    """The mask of the digit with the parts within `reach`, in its size, and its typical strength.

    Raises `BlankError`.
    """
    strongest = strength[strength > 0.5 * strength.max()]
    if strongest.size < PEAK:
        strongest = strength.ravel()
    if strongest.size > PEAK:
        strongest = np.partition(strongest, -PEAK)[-PEAK:]
    strong = strength > max(0.5 * float(strongest.mean()), least)
    if not strong.any():
        raise BlankError("no strokes found")
    stronger = strength[strong]
    part = int(0.6 * (stronger.size - 1))
    level = float(np.partition(stronger, part)[part])
    # Between the strength of strokes and that of ruled lines, which is at most a third of it.
    strong = strength > 0.5 * level
    mask = _main_parts(strength > max(0.45 * level, 0.6 * least), strong, reach)
    # A stroke's faint parts are added, unless they lead away, as ruled lines do.
    whole = _main_parts(strength > max(0.25 * level, 0.6 * least), strong, reach)
    leads_away = _at_border(whole) and not _at_border(mask)
    if _extent(whole) <= 1.4 * _extent(mask) and not leads_away:
        mask = whole
    if least > FAINTEST and (mask.sum() < 12 or _extent(mask) < 6):
        raise BlankError("nothing but noise found")
    return mask, level


def _extent(mask: Mask) -> int:
    """The longer side of the box round `mask`, pixels."""
    left, top, right, bottom = _box(mask)
    return max(right - left, bottom - top)


def _box(mask: Mask) -> Box:
    """The box (left, top, right, bottom) round `mask`, which is not empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _edge_of_the_paper(strength: Grey, least: float) -> Mask:
    """Dark parts along the picture's border: the desk beside the paper, a shadow, a frame."""
    dark = strength > max(0.3 * float(strength.max()), least)
    border = np.concatenate([dark[0], dark[-1], dark[:, 0], dark[:, -1]])
    if not border.any():
        return np.zeros_like(dark)
    labels, boxes = _components(dark)
    sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    along = np.bincount(border, minlength=len(boxes)) > 0.25 * sides
    along[0] = False
    return _grown(_grown(np.asarray(along[labels], bool)))


@dataclass(frozen=True)
class _Line:
    """A straight dark line from left to right: its row at each of the picture's columns, the
    `first` and `last` column it covers, and its `width` in pixels."""

    path: NDArray[np.intp]
    first: int
    last: int
    width: float


def _is_framed(mask: Mask) -> bool:
    """Whether `mask` runs along three sides of the box round it at least, as a printed box does."""
    left, top, right, bottom = _box(mask)
    part = mask[top:bottom, left:right]
    down, across = (max(1, round(0.15 * side)) for side in part.shape)
    sides = part[:down].T, part[-down:].T, part[:, :across], part[:, -across:]
    return sum(float(side.any(axis=1).mean()) > 0.8 for side in sides) >= 3


def _printed_lines(strength: Grey, level: float, least: float) -> tuple[Mask, bool]:
    """Lines across the picture and those of grids and boxes, as on ruled paper and in forms, and
    whether they are a grid or a box, too many for the strokes of a digit.

    `level` is the strength of the supposed digit. Where another stroke crosses a line, the line
    is kept.
    """
    dark = strength > max(0.2 * level, 0.6 * least)
    strong = strength > 0.45 * level
    pictures = dark, np.ascontiguousarray(dark.T)
    found = _straight_lines(dark, strong), _straight_lines(pictures[1], strong.T)
    # Each end of a printed line lies on another one or on the border: a digit's bars end freely.
    before = -1
    while (count := len(found[0]) + len(found[1])) != before:
        before = count
        across = [line for line in found[0] if _is_closed(line, found[1], dark.shape[1])]
        found = across, [line for line in found[1] if _is_closed(line, across, dark.shape[0])]
    bands = tuple(np.zeros(each.shape, bool) for each in pictures)
    crossed = tuple(np.zeros(each.shape, bool) for each in pictures)
    for way, picture in enumerate(pictures):
        rows, columns = (np.arange(side) for side in picture.shape)
        for line in found[way]:
            start, end = _run(picture, line.path)
            around = np.abs(rows[:, None] - line.path) <= line.width / 2 + 2
            around &= (columns >= line.first - 2) & (columns <= line.last + 2)
            bands[way][around] = True
            crossed[way][around & (end - start > 1.5 * line.width + 1)] = True
    rows_of, columns_of = bands[0], bands[1].T
    lines = (rows_of & ~crossed[0]) | (columns_of & ~crossed[1].T)
    # Where printed lines cross each other, no stroke does.
    lines |= _grown(_grown(rows_of)) & _grown(_grown(columns_of))
    return lines, count > 2 and min(len(each) for each in found) > 0


def _is_closed(line: _Line, others: Sequence[_Line], width: int) -> bool:
    """Whether both ends of `line` lie on the picture's border or on `others`, which go down."""
    room = 4 + line.width

    def held(end: int) -> bool:
        row = int(line.path[end])
        return min(end, width - 1 - end) <= width / 32 or any(
            abs(int(other.path[min(row, len(other.path) - 1)]) - end) <= room + other.width
            and other.first - room <= row <= other.last + room
            for other in others
        )

    return held(line.first) and held(line.last)


def _straight_lines(dark: Mask, strong: Mask) -> list[_Line]:
    """The long, thin, mostly `strong` lines in `dark` from left to right, at up to 5 degrees."""
    height, width = dark.shape
    columns, rows = np.arange(width), np.arange(height)[:, np.newaxis]
    rest = dark.copy()
    strong = _grown(strong)
    found: list[_Line] = []
    for _ in range(3):  # one after another, lines at the same height
        thick = rest.copy()
        thick[1:] |= rest[:-1]
        thick[:-1] |= rest[1:]
        tilted = _tilted(thick)
        full = tilted
        for step in _steps(max(round(LEAST_LINE * width), 2)):
            full = full[:, step:] & full[:, :-step]
        slopes, hits = np.nonzero(full.any(axis=1))
        ends = np.where(tilted[slopes, :, hits], -1, columns)
        lengths = columns - np.maximum.accumulate(ends, axis=1)
        longest = lengths.argmax(axis=1)
        runs = list(
            zip(
                lengths[np.arange(len(hits)), longest].tolist(),
                longest.tolist(),
                hits.tolist(),
                [SLOPES[each] for each in slopes],
                strict=True,
            )
        )
        taken = np.zeros(height, bool)
        for length, last, row, slope in sorted(runs, reverse=True):
            if taken[row]:
                continue
            first = last - length + 1
            moved = np.round(slope * (columns - width / 2)).astype(np.intp)
            path = _on_dark(dark, (row + moved).clip(0, height - 1))
            top, bottom = _run(dark, path)
            here = slice(first, last + 1)
            line_width = max(float(np.median((bottom - top)[here])), 1)
            thin = (bottom > top) & (bottom - top <= 1.5 * line_width + 1)
            path = np.where(thin, (top + bottom - 1) // 2, path)
            rest[:, here] &= np.abs(rows - path[here]) > line_width / 2 + 2
            reach = 4 + round(line_width / 2)
            for place in (row, int(np.median(path[here]))):
                taken[max(place - reach, 0) : place + reach + 1] = True
            x, y = columns[here][thin[here]], path[here][thin[here]]
            if len(x) < 0.5 * length or line_width > 0.08 * max(dark.shape):
                continue
            x, y = x - x.mean(), y - y.mean()
            bent = np.sort(np.abs(y - x * ((x @ y) / max(float(x @ x), 1))))
            straight = bent[int(0.95 * (len(x) - 1))] < 0.6 + 2.4 * length / width
            if straight and strong[path, columns][here].mean() > 0.5:
                found.append(_Line(path, first, last, line_width))
        if not runs or len(found) > MOST_LINES:
            break
    return found


def _tilted(mask: Mask) -> Mask:
    """The rows that slope by each of `SLOPES`: (len(SLOPES), width, height), column by column."""
    height, width = mask.shape
    moves = _moves(width)
    most = int(moves.max())
    tall = np.empty((width, height + 2 * most), bool)  # beyond the edges they go on as they are
    tall[:, most : most + height] = mask.T
    tall[:, :most], tall[:, most + height :] = mask[:1].T, mask[-1:].T
    places = sliding_window_view(tall, height, axis=1)
    return np.asarray(places[np.arange(width), moves + most], bool)


@lru_cache(maxsize=16)
def _moves(width: int) -> NDArray[np.intp]:
    """By how many rows each of `SLOPES` is below the middle in each column; read-only."""
    columns = np.arange(width) - width / 2
    return np.round([slope * columns for slope in SLOPES]).astype(np.intp)


def _on_dark(dark: Mask, path: NDArray[np.intp]) -> NDArray[np.intp]:
    """`path` moved to a dark pixel at most 3 rows away, in each column that has one."""
    columns = np.arange(len(path))
    found = path.copy()
    for by in (3, -3, 2, -2, 1, -1, 0):
        moved = (path + by).clip(0, len(dark) - 1)
        found = np.where(dark[moved, columns], moved, found)
    return np.asarray(found, np.intp)


def _run(dark: Mask, path: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First row and row after the last of the run of `dark` that `path` crosses in each column.

    A run is followed for a tenth of the picture in each direction.
    """
    height, width = dark.shape
    columns = np.arange(width)
    steps = np.arange(max(dark.shape) // 10 + 3)[:, np.newaxis]

    def length(way: int) -> NDArray[np.intp]:
        rows = path + way * steps
        run = dark[rows.clip(0, height - 1), columns] & (rows >= 0) & (rows < height)
        run[-1] = False
        return np.asarray(run.argmin(axis=0), np.intp)

    return path - np.maximum(length(-1) - 1, 0), path + length(1)


def _touching_border(mask: Mask) -> Mask:
    """The parts of `mask` that touch the border of the picture."""
    labels, _ = _components(mask)
    at = np.concatenate([*labels[:2], *labels[-2:], *labels[:, :2].T, *labels[:, -2:].T])
    return np.isin(labels, at[at > 0])


def _at_border(mask: Mask) -> bool:
    """Whether `mask` touches the border of the picture."""
    return bool(mask[:2].any() or mask[-2:].any() or mask[:, :2].any() or mask[:, -2:].any())


def _strength(grey: Bytes, light: bool | None) -> tuple[Grey, float, bool | None]:
    """How far each pixel differs from the background, in grey levels, the noise, and `light`."""
    even = _even_ground(grey)
    if even is not None:
        return even, 0.0, light
    if light is None:
        light = _ink_is_light(grey)
    if light:
        grey = 255 - grey
    residual = _ground(grey) - grey
    noise = _noise(grey)
    # Strokes may cover most of a tight crop, so a low percentile stands for the background.
    centre = _quantile(residual[::2, ::2], 0.3) + 0.5 * noise
    return np.clip(residual - np.float32(centre), 0, None), noise, light


def _sheet(grey: Image.Image) -> tuple[Image.Image, Box] | None:
    """A sheet of paper on a desk: the picture with nothing but the sheet, and the sheet's box.

    None where the picture shows no such sheet: a rectangle that is lighter or darker than what is
    round it and large enough to hold a digit.
    """
    if max(grey.size) < DESK:
        return None
    small = np.asarray(_working_size(grey, DESK))
    parts = _paper(small)
    if parts is None:
        return None
    paper, filled = parts
    level = int(np.median(small[paper]))
    height, width = small.shape
    left, top, right, bottom = _box(filled)
    # What is round the paper is painted over by the light on the paper nearby.
    mask = Image.fromarray(np.pad(filled, 1).astype(np.uint8) * 255).filter(
        ImageFilter.MinFilter(5)
    )
    mask = mask.crop((1, 1, width + 1, height + 1))
    inner = np.asarray(mask) > 0
    near = Image.fromarray(np.where(inner, small, 0).astype(np.uint8))
    soft = [
        np.asarray(each.filter(ImageFilter.GaussianBlur(4)), np.float32) for each in (near, mask)
    ]
    paint = np.where(soft[1] > 40, 255 * soft[0] / np.maximum(soft[1], 1), level)
    painted = Image.fromarray(paint.clip(0, 255).astype(np.uint8))
    alone = Image.composite(
        grey,
        painted.resize(grey.size, Image.Resampling.BILINEAR),
        mask.resize(grey.size, Image.Resampling.NEAREST),
    )
    across, down = grey.width / width, grey.height / height
    edges = round(left * across), round(top * down), round(right * across), round(bottom * down)
    return alone, edges


def _paper(small: Bytes) -> tuple[Mask, Mask] | None:
    """Which pixels are a sheet's paper, and which are that or its ink, or none."""
    threshold, told_apart = _two_levels(small)
    light = small > threshold
    rim = np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]])
    other = light if rim.mean() < 0.5 else ~light
    if told_apart < 0.5 or not 0.05 < other.mean() < 0.9:
        return None
    labels, _ = _components(other)
    paper = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    least, most_ink, rectangular = 0.05 * small.size, 0.25, 0.85
    # Too little even with as much ink on it as may be: most drawn digits end here.
    part = 1 - most_ink
    if paper.sum() < part * least or _rectangularity(paper) < part * rectangular:
        return None
    holes, _ = _components(np.pad(~paper, 1, constant_values=True))
    filled = (holes != holes[0, 0])[1:-1, 1:-1]
    if (
        filled.sum() < least
        or (filled & ~paper).sum() > most_ink * filled.sum()
        or _rectangularity(filled) < rectangular
        or not _ends_sharply(small, filled)
    ):
        return None
    ground = np.bincount(small.ravel()).argmax()
    if (small == ground).mean() > 0.4 and (small[filled & ~paper] == ground).any():
        return None  # a thick digit, drawn: its holes have the colour of its ground
    return paper, filled


def _ends_sharply(grey: Bytes, part: Mask) -> bool:
    """Whether the step at the edge of `part` is sharp; a patch of light fades."""
    shape = Image.fromarray(part.astype(np.uint8))
    outer = (np.asarray(shape.filter(ImageFilter.MaxFilter(5))) > 0) & ~part
    inner = part & (np.asarray(shape.filter(ImageFilter.MinFilter(5))) == 0)
    if not outer.any() or not inner.any():
        return False
    step = abs(float(grey[inner].mean()) - float(grey[outer].mean()))
    return step > 0.6 * abs(float(grey[part].mean()) - float(grey[~part].mean()))


def _two_levels(grey: Bytes) -> tuple[int, float]:
    """The threshold that tells two levels best apart (Otsu, 1979), and the part of the variance
    that they explain, 0..1."""
    counts = np.bincount(grey.ravel(), minlength=256) / grey.size
    levels = np.arange(256)
    below, moment = np.cumsum(counts), np.cumsum(counts * levels)
    mean = moment[-1]
    between = (mean * below - moment) ** 2 / np.maximum(below * (1 - below), 1e-9)
    best = int(between.argmax())
    variance = float(counts @ (levels - mean) ** 2)
    return best, float(between[best]) / max(variance, 1e-9)


def _rectangularity(mask: Mask) -> float:
    """The part of the smallest rectangle round `mask`, at any tilt, that it fills."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    x, y = np.concatenate([first, last]), np.concatenate([rows, rows])
    angles = np.radians(np.arange(0, 90, 3))[:, np.newaxis]
    along = np.ptp(x * np.cos(angles) + y * np.sin(angles), axis=1) + 1
    across = np.ptp(y * np.cos(angles) - x * np.sin(angles), axis=1) + 1
    return float(mask.sum() / (along * across).min())


def _even_ground(grey: Bytes) -> Grey | None:
    """The same where most of the picture has one value, as a drawing has, or none."""
    counts = np.bincount(grey.ravel(), minlength=256)
    level = int(counts.argmax())
    darker, lighter = int(counts[:level].sum()), int(counts[level + 1 :].sum())
    if counts[level] < 0.5 * grey.size or min(darker, lighter) > 0.001 * grey.size:
        return None
    strength = grey.astype(np.float32) - level
    return np.clip(strength if lighter > darker else -strength, 0, None)


def _quantile(values: NDArray[np.uint8 | np.int16], part: float) -> int:
    """The value below which lies that `part` of `values`, none of which is negative."""
    below = np.cumsum(np.bincount(values.ravel()))
    return int(np.searchsorted(below, part * below[-1]))


def _noise(grey: Bytes) -> float:
    """The standard deviation of the noise, from second differences, which ignore slopes."""
    apart = 3  # pixels: the blur of a camera correlates neighbours
    if max(grey.shape) < SMALL or grey.shape[1] <= 2 * apart:
        return 0.0
    rows = grey[::2].astype(np.int16)
    left, right = rows[:, : -2 * apart : 2], rows[:, 2 * apart :: 2]
    across = np.abs(left - 2 * rows[:, apart:-apart:2] + right)
    return _quantile(across, 0.5) / (0.6745 * math.sqrt(6))


def _ink_is_light(grey: Bytes) -> bool:
    """Whether the pixels furthest from the background are lighter than it.

    The background is a quadratic surface through most of the picture's rim, for uneven light. It
    is fitted by iteratively reweighted least squares (Holland and Welsch, 1977), which ignores the
    strokes; the inside has a low weight, since strokes fill it in a tight crop.
    """
    factor = max(1, max(grey.shape) // 48)
    small = np.asarray(Image.fromarray(grey).reduce(factor))
    inside, terms = _frame(*small.shape)
    values = small.ravel().astype(float)
    rim = ~inside
    base = np.where(rim, 1.0, 0.1)
    surface = np.full_like(values, np.median(values[rim]))
    for _ in range(4):
        off = np.abs(values - surface)
        weighted = terms.T * (base / (1 + (off / (1.5 * np.median(off[rim]) + 2)) ** 2))
        factors = np.linalg.solve(weighted @ terms + 1e-6 * np.eye(6), weighted @ values)
        surface = terms @ factors
    uneven = values - surface
    level = np.median(uneven[rim])
    # A thin digit in a large picture is only a few pixels here, hence extremes, not percentiles.
    uneven.sort()
    return bool(uneven[-6:].mean() - level > level - uneven[:6].mean())


@lru_cache(maxsize=64)
def _frame(height: int, width: int) -> tuple[Mask, NDArray[np.float64]]:
    """Which pixels are not in the outer tenth on each side, (height × width,), and the terms of
    a quadratic surface at each, (height × width, 6); both read-only."""
    inside = np.zeros((height, width), bool)
    rows, columns = (max(1, side // 10) for side in (height, width))
    inside[rows:-rows, columns:-columns] = True
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    return inside.ravel(), terms.reshape(-1, 6)


def _ground(grey: Bytes) -> Bytes:
    """The paper under dark strokes: a closing (Serra, 1982) with a window wider than strokes."""
    reach = max(3, round(0.4 * min(grey.shape)) | 1)
    # The picture is extended, or the slope of the light would end at the border. Strokes that
    # touch the border are not extended, or they would be as wide as the background.
    framed = grey.copy()
    for line in (framed[:1], framed[-1:], framed[:, :1].T, framed[:, -1:].T):
        window = line.size | 1
        line[:] = _closed(np.pad(line, ((0, 0), (window - 1, window - 1)), "edge"), (1, window))
    outside = np.pad(framed, reach - 1, "edge")
    outside[reach - 1 : 1 - reach, reach - 1 : 1 - reach] = grey
    return _closed(outside, (reach, reach))


def _closed(grey: Bytes, reach: tuple[int, int]) -> Bytes:
    """A closing: what is darker and narrower than the window, of odd sides, is filled.

    Each side shrinks by twice its reach - 1.
    """
    return _extreme(_extreme(grey, reach, np.maximum), reach, np.minimum)


def _extreme(grey: NDArray[Any], reach: tuple[int, int], of_two: np.ufunc) -> NDArray[Any]:
    """The highest or lowest value in each window of `reach`; each side shrinks by reach - 1."""
    down, across = reach
    for step in _steps(down):
        grey = of_two(grey[step:], grey[:-step])
    for step in _steps(across):
        grey = of_two(grey[:, step:], grey[:, :-step])
    return grey


def _steps(window: int) -> list[int]:
    """By how much to move a picture over itself, again and again, to cover `window` pixels."""
    steps, done = [], 1
    while done < window:
        steps.append(min(done, window - done))
        done += steps[-1]
    return steps


def _main_parts(mask: Mask, strong: Mask, reach: float) -> Mask:
    """The largest part of `mask` and what belongs to it, without specks and distant parts.

    Small parts belong to it within `reach`, in the size of the largest.
    """
    least = DOT if reach == FAR else SPECK
    labels, boxes = _components(mask)
    areas = np.bincount(labels[strong], minlength=len(boxes)).astype(float)
    areas[0] = 0
    main = int(areas.argmax())
    left, top, right, bottom = boxes[main]
    height = bottom - top
    # A thin digit of the same number, a 1, may be further away than a part of a digit.
    in_row = np.minimum(boxes[:, 3], bottom) - np.maximum(boxes[:, 1], top) > 0.6 * height
    apart = np.maximum(boxes[:, 0] - right, left - boxes[:, 2])
    keep = in_row & (apart < 3 * height) & (areas > 0.1 * areas[main])
    keep |= areas > 0.25 * areas[main]
    reach *= max(right - left, height)
    near = (
        (boxes[:, 0] < boxes[keep, 2].max() + reach)
        & (boxes[:, 2] > boxes[keep, 0].min() - reach)
        & (boxes[:, 1] < boxes[keep, 3].max() + reach)
        & (boxes[:, 3] > boxes[keep, 1].min() - reach)
    )
    keep |= near & (areas > least * areas[main])
    keep[0] = False
    return np.asarray(keep[labels], bool)


def _components(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Numbers the 8-connected parts of `mask` from 1.

    Returns the number of each pixel's part, 0 for none, and the box of each part: (parts + 1, 4)
    of left, top, right, bottom, whose row 0 has no meaning.
    """
    height, width = mask.shape
    # Runs of pixels, as places in the rows put one after another, a gap between each two.
    row = width + 1
    line = np.zeros(height * row + 1, bool)
    line[1:].reshape(height, row)[:, :-1] = mask
    changes = np.flatnonzero(line[1:] != line[:-1])
    starts, ends = changes[::2], changes[1::2]
    runs = np.arange(len(starts))
    # Each run touches those of the next row from `first` up to `last`, diagonally too.
    first = np.searchsorted(ends, starts + row)
    last = np.searchsorted(starts, ends + row, side="right")
    touching = np.maximum(last - first, 0)
    upper = np.repeat(runs, touching)
    lower = np.arange(len(upper)) + np.repeat(first - np.cumsum(touching) + touching, touching)
    lowest = runs.copy()  # of the runs known to be in the same part
    while (apart := lowest[upper] != lowest[lower]).any():
        upper, lower = upper[apart], lower[apart]
        one, other = lowest[upper], lowest[lower]
        np.minimum.at(lowest, np.maximum(one, other), np.minimum(one, other))
        while (lower_yet := lowest[lowest]).tobytes() != lowest.tobytes():
            lowest = lower_yet
    is_first = lowest == runs
    numbers = np.cumsum(is_first)[lowest]
    labels = np.zeros(len(changes) + 1, np.int32)
    labels[1::2] = numbers
    edges = np.concatenate([[0], changes, [height * row]])
    boxes = np.zeros((4, np.count_nonzero(is_first) + 1), np.intp)
    boxes[0] = width
    top, left = np.divmod(starts, row)
    boxes[1, 1:] = top[is_first]  # runs are in order of their rows
    np.minimum.at(boxes[0], numbers, left)
    np.maximum.at(boxes[2], numbers, left + ends - starts)
    np.maximum.at(boxes[3], numbers, top + 1)
    return np.repeat(labels, np.diff(edges)).reshape(height, row)[:, :-1], boxes.T


def _grown(mask: Mask) -> Mask:
    """`mask` and its neighbours, which hold the soft edge of strokes."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    across: Mask = grown.copy()
    across[:, 1:] |= grown[:, :-1]
    across[:, :-1] |= grown[:, 1:]
    return across


def _even_strokes(ink: Grey) -> Image.Image:
    """Fits `ink` into 20×20 pixels, its strokes dilated or eroded towards MNIST's width."""
    height, width = ink.shape
    stroke = _stroke_width(ink) * BOX / max(height, width)
    change = min(max(stroke, STROKE[0]), STROKE[1]) - stroke
    # Erosion is limited to keep a stroke's thin parts; dilation makes the digit larger.
    change = max(change, -0.4 * stroke)
    steps = round(change * FINE / 2)
    side = BOX * FINE - 2 * steps
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resampling = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    picture = Image.fromarray((ink * 255).astype(np.uint8)).resize(size, resampling)
    sheet = Image.new("L", (BOX * FINE, BOX * FINE))
    sheet.paste(picture, ((sheet.width - size[0]) // 2, (sheet.height - size[1]) // 2))
    change_filter = ImageFilter.MaxFilter(3) if steps > 0 else ImageFilter.MinFilter(3)
    for _ in range(abs(steps)):
        sheet = sheet.filter(change_filter)
    return sheet.point(CRISP).reduce(FINE)


def _stroke_width(ink: Grey) -> float:
    """The mean width of the strokes in pixels: twice the area over the outline's length."""
    area = float(ink.sum())
    padded = np.pad(ink, 1)
    outline = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    # Counting steps along both axes overestimates a slanted outline by 4 / π on average.
    return 2 * area / max(float(outline) * math.pi / 4, 1e-6)


def _centre(digit: Image.Image) -> NDArray[np.uint8]:
    """Puts the centre of mass of a 20×20 picture into the middle of 28×28 pixels."""
    ink = np.asarray(digit, np.float32)
    mass = max(float(ink.sum()), 1e-6)
    x = float((ink.sum(axis=0) * (np.arange(ink.shape[1]) + 0.5)).sum()) / mass
    y = float((ink.sum(axis=1) * (np.arange(ink.shape[0]) + 0.5)).sum()) / mass
    canvas = Image.new("L", (SIZE, SIZE))
    canvas.paste(digit, (round(SIZE / 2 - x), round(SIZE / 2 - y)))
    return np.asarray(canvas)

"""The digit normaliser: turns any picture of a digit into 28×28 pixels like MNIST's.

Training, serving and tests share it, so that a network sees the same pictures everywhere.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

SIZE = 28  # side of the result, pixels
BOX = 20  # the digit's longer side in it, pixels
STROKE = (1.8, 3.6)  # a mean stroke width outside this range is dilated or eroded into it, pixels
WORKING = 192  # the longer side for finding strokes, pixels
FINE = 4  # stroke width is corrected at this many times the final resolution
PEAK = 20  # the mean of so many strongest pixels is the peak strength
SMALL = 48  # a longer side below which strokes are as fine as noise, pixels
LONG = 3  # times as long as wide: such a picture may hold a row of many digits
FINER = 4  # times `WORKING` for many digits
MOST_DIGITS = 16  # of a number
MOST_LINES = 12  # ruled lines that are removed in each direction
FAINTEST = 10.0  # grey levels (of 255) by which strokes must differ from the background

PREPROCESSING = {"method": "ink", "size": SIZE, "box": BOX, "stroke": list(STROKE)}

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]


class BlankError(ValueError):
    """A picture without strokes."""


@dataclass(frozen=True)
class Digit:
    """White strokes on black, uint8 (28, 28), and their box: left, top, right, bottom."""

    pixels: NDArray[np.uint8]
    box: Box


def normalise(image: Image.Image) -> NDArray[np.uint8]:
    """All strokes in `image` as one digit: uint8 (28, 28). Raises `BlankError`."""
    normal = _normal(_grey(image))
    return (normal or read(image)[0]).pixels


def read(image: Image.Image) -> list[Digit]:
    """All strokes in `image` as one digit and then, if it may be a number, its digits from left to
    right.

    `image` is upright, of mode L, RGB or RGBA and any size; strokes may be darker or lighter
    than the background, which may be uneven or transparent. A digit is scaled to fit 20×20 pixels
    and its centre of mass put in the middle, as LeCun et al. (1998) made MNIST, and strokes
    that are thinner or thicker than MNIST's are corrected. Raises `BlankError` if no strokes
    are found.
    """
    grey = _grey(image)
    normal = _normal(grey)
    longest = WORKING
    try:
        ink, box = _find(_working_size(grey, longest))
    except BlankError:
        if normal is not None:
            return [normal]
        if max(grey.size) < LONG * min(grey.size):
            raise
        # The strokes of a long row may be so dense that they count as noise at that size.
        longest = FINER * WORKING
        ink, box = _find(_working_size(grey, longest))
    factor = max(grey.size) / max(ink.shape)
    near = (0, 0, *grey.size)
    if factor > 1:
        # Look again, closer, at a square round the digit.
        left, top, right, bottom = (edge * factor for edge in box)
        reach = 0.8 * max(right - left, bottom - top) + 2 * factor
        x, y = (left + right) / 2, (top + bottom) / 2
        near = (
            max(round(x - reach), 0),
            max(round(y - reach), 0),
            min(round(x + reach), grey.width),
            min(round(y + reach), grey.height),
        )
        ink, box = _find(_working_size(grey.crop(near), longest))
    whole = normal or _digit_of(ink, box, near)
    parts = side_by_side(ink)
    if len(parts) < 2:
        return [whole]
    # Each digit at the size that a single digit would have.
    with contextlib.suppress(BlankError):
        finer, _ = _find(_working_size(grey.crop(near), WORKING * min(len(parts), FINER)))
        again = side_by_side(finer)
        if len(again) == len(parts):
            ink, parts = finer, again
    return [whole, *(_digit_of(ink * _grown(part), _box(part), near) for part in parts)]


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


def _digit_of(ink: Grey, box: Box, near: Box) -> Digit:
    """The digit in `box` of `ink`, which is the part `near` of the picture."""
    left, top, right, bottom = box
    factor, x, y = (near[2] - near[0]) / ink.shape[1], near[0], near[1]
    first = round(x + left * factor), round(y + top * factor)
    place = *first, round(x + right * factor), round(y + bottom * factor)
    return Digit(_centre(_even_strokes(ink[top:bottom, left:right])), place)


def side_by_side(ink: Grey) -> list[Mask]:
    """Where the digits of a number are, from left to right; fewer than two if it is not one.

    Each part at least half as high as the highest is a digit; the others, such as a 5's bar, belong
    to the digit that they are above, below or nearest to.
    """
    labels, boxes = _components(ink > 0.2)
    areas = np.bincount(labels.ravel(), minlength=len(boxes))[1:]
    boxes = boxes[1:]
    heights, middles = boxes[:, 3] - boxes[:, 1], (boxes[:, 0] + boxes[:, 2]) / 2
    tall = np.flatnonzero((heights >= 0.5 * heights.max()) & (areas >= 0.05 * areas.max()))
    if not 2 <= len(tall) <= MOST_DIGITS:
        return []
    shared = boxes[tall, 3].min() - boxes[tall, 1].max()
    if shared < 0.3 * heights[tall].min():  # not in a row
        return []
    tall = tall[np.argsort(middles[tall], kind="stable")]
    apart = np.maximum(
        np.maximum(boxes[tall, 0] - boxes[:, [2]], boxes[:, [0]] - boxes[tall, 2]),
        0.01 * np.abs(middles[:, np.newaxis] - middles[tall]),
    )
    owner = apart.argmin(axis=1)
    owner[tall] = np.arange(len(tall))
    owners = np.concatenate([[-1], owner])[labels]
    return [np.asarray(owners == number, bool) for number in range(len(tall))]


def _grey(image: Image.Image) -> Image.Image:
    """The channel with the strongest contrast, on an opaque background."""
    if image.mode == "RGBA":
        image = _on_contrasting_ground(image)
    if image.mode != "RGB":
        return image.convert("L")
    small = np.asarray(image.reduce(max(1, max(image.size) // 128)), np.float32)
    luma = small @ np.array([0.299, 0.587, 0.114], np.float32)
    channels = [luma, *np.moveaxis(small, 2, 0)]
    spread = [float(np.ptp(np.percentile(channel, (1, 99)))) for channel in channels]
    best = int(np.argmax(spread))
    # Luma has the least noise: another channel must have clearly more contrast.
    if best == 0 or spread[best] < 1.5 * spread[0]:
        return image.convert("L")
    return image.getchannel(best - 1)


def _on_contrasting_ground(image: Image.Image) -> Image.Image:
    """Lays a transparent drawing on white, or on black where its own colour is light."""
    alpha = np.asarray(image.getchannel("A"), np.float32)
    if alpha.min() == 255:
        return image.convert("RGB")
    weight = float(alpha.sum())
    lightness = float((np.asarray(image.convert("L"), np.float32) * alpha).sum()) / max(weight, 1)
    ground = Image.new("RGBA", image.size, "white" if lightness < 128 else "black")
    return Image.alpha_composite(ground, image).convert("RGB")


def _working_size(grey: Image.Image, longest: int) -> Image.Image:
    factor = longest / max(grey.size)
    if factor >= 1:
        return grey
    size = (max(1, round(grey.width * factor)), max(1, round(grey.height * factor)))
    return grey.resize(size, Image.Resampling.BOX)


def _find(image: Image.Image) -> tuple[Grey, Box]:
    """The strokes of a one-channel picture, 0..1, and their box (left, top, right, bottom)."""
    strength, noise = _strength(np.asarray(image, np.float32))
    least = max(9 * noise, FAINTEST)
    mask, level = _digit(strength, least)
    at_edge = _edge_of_the_paper(strength, least)
    if at_edge.any():
        with contextlib.suppress(BlankError):
            inner, inner_level = _digit(np.where(at_edge, 0, strength), least)
            # A digit that fills the picture touches the border too: the rest must be a digit.
            if inner_level > 0.35 * level and _extent(inner) > 0.1 * max(inner.shape):
                mask, level = inner, inner_level
    lines = _ruled_lines(strength, mask, least)
    if lines.any():
        with contextlib.suppress(BlankError):
            rest = np.where(lines, 0, strength)
            inner, inner_level = _digit(rest, least)
            # In a tight crop, the digit's own strokes cross the picture too.
            if not _at_border(inner) and _extent(inner) > 0.1 * max(inner.shape):
                strength, mask, level = rest, inner, inner_level
    ground = min(2.5 * noise, 0.3 * level)
    ink = np.clip((strength - ground) / (level - ground), 0, 1) * _grown(mask)
    pale = mask & ~_grown(_grown(strength > 0.45 * level))
    if pale.any():
        # Pale parts that are not the soft edge of a strong stroke: there the pen ran dry.
        ink = np.where(_grown(pale), np.sqrt(ink), ink)
    return ink, _box(ink > 0.2)


def _digit(strength: Grey, least: float) -> tuple[Mask, float]:
    """The mask of the digit, and its typical strength; raises `BlankError`."""
    strongest = np.partition(strength.ravel(), -PEAK)[-PEAK:] if strength.size > PEAK else strength
    strong = strength > max(0.5 * float(strongest.mean()), least)
    if not strong.any():
        raise BlankError("no strokes found")
    level = float(np.percentile(strength[strong], 60))
    # Between the strength of strokes and that of ruled lines, which is at most a third of it.
    strong = strength > 0.5 * level
    mask = _main_parts(strength > max(0.45 * level, 0.6 * least), strong)
    # A stroke's faint parts are added, unless they lead away, as ruled lines do.
    whole = _main_parts(strength > max(0.25 * level, 0.6 * least), strong)
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


def _ruled_lines(strength: Grey, mask: Mask, least: float) -> Mask:
    """Lines from one side of the picture to the other, as ruled and squared paper has them.

    Only searched for if `mask`, the supposed digit, touches those sides. Where another stroke
    crosses a line, the line is kept.
    """
    lines = np.zeros(mask.shape, bool)
    for found, ink, parts in ((lines, strength, mask), (lines.T, strength.T, mask.T)):
        if parts.shape[1] < SMALL or not (parts[:, :2].any() or parts[:, -2:].any()):
            continue
        dark = ink > max(0.2 * float(np.percentile(ink[parts], 60)), 0.6 * least)
        weight = np.where(dark, 1.0, 0.0).astype(np.float32)
        columns = np.arange(dark.shape[1])
        for _ in range(MOST_LINES):
            path = _way_across(weight)
            on = weight[path, columns]
            if on.mean() < 0.85:
                break
            bent = path - np.polyval(np.polyfit(columns, path, 1), columns)
            top, bottom = _run(dark, path, columns)
            width = float(np.median(bottom - top))
            # A digit's own strokes end before the border.
            to_border = on[: 1 + len(on) // 32].any() or on[-1 - len(on) // 32 :].any()
            if to_border and np.abs(bent).max() < 3 and width < 0.04 * max(dark.shape) + 1:
                thin = bottom - top <= 1.5 * width + 1
                rows = np.arange(dark.shape[0])[:, None]
                found[thin & (rows >= top - 2) & (rows <= bottom + 1)] = True
            near = np.abs(np.arange(dark.shape[0])[:, None] - path) <= width / 2 + 1
            weight[near] = 0
    return lines


def _way_across(weight: Grey) -> NDArray[np.intp]:
    """The path from left to right with the largest sum of `weight`: its row at each column.

    The path moves by at most one row per column, at a small cost.
    """
    height, width = weight.shape
    slope_cost = 0.05
    best = weight[:, 0]
    steps = np.zeros((width, height), np.int8)
    for column in range(1, width):
        padded = np.pad(best - slope_cost, 1, constant_values=-np.inf)
        choices = np.stack([best, padded[:-2], padded[2:]])
        chosen = choices.argmax(axis=0)
        steps[column] = np.array([0, -1, 1], np.int8)[chosen]
        best = choices.max(axis=0) + weight[:, column]
    path = np.empty(width, np.intp)
    path[-1] = best.argmax()
    for column in range(width - 1, 0, -1):
        path[column - 1] = path[column] + steps[column, path[column]]
    return path


def _run(
    dark: Mask, path: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First row and row after the last of the run of `dark` that `path` crosses in each column."""
    rows = np.arange(dark.shape[0])[:, None]
    light_above = np.where(~dark & (rows <= path), rows, -1).max(axis=0)
    light_below = np.where(~dark & (rows >= path), rows, dark.shape[0]).min(axis=0)
    return np.minimum(light_above + 1, path), np.maximum(light_below, path)


def _at_border(mask: Mask) -> bool:
    """Whether `mask` touches the border of the picture."""
    return bool(mask[:2].any() or mask[-2:].any() or mask[:, :2].any() or mask[:, -2:].any())


def _strength(grey: Grey) -> tuple[Grey, float]:
    """How far each pixel differs from the background, in grey levels, and the noise."""
    if _ink_is_light(grey - _light(grey)):
        grey = 255 - grey
    residual = _ground(grey) - grey
    noise = _noise(grey)
    # Strokes may cover most of a tight crop, so a low percentile stands for the background.
    centre = float(np.percentile(residual[::2, ::2], 30)) + 0.5 * noise
    return np.clip(residual - centre, 0, None), noise


def _noise(grey: Grey) -> float:
    """The standard deviation of the noise, from second differences, which ignore slopes."""
    apart = 3  # pixels: the blur of a camera correlates neighbours
    if max(grey.shape) < SMALL or grey.shape[1] <= 2 * apart:
        return 0.0
    across = grey[:, : -2 * apart] - 2 * grey[:, apart:-apart] + grey[:, 2 * apart :]
    return float(np.median(np.abs(across[::2, ::2]))) / (0.6745 * math.sqrt(6))


def _light(grey: Grey) -> Grey:
    """Uneven light on the background: a quadratic surface through most of the picture's rim.

    Fitted by iteratively reweighted least squares (Holland and Welsch, 1977), which ignores
    the strokes; the inside has a low weight, since strokes fill it in a tight crop.
    """
    small = _reduced(grey, 48)
    rim = _rim(small).ravel()
    terms = _quadratic(*small.shape)
    values = small.ravel().astype(float)
    base = np.where(rim, 1.0, 0.1)
    surface = np.full_like(values, np.median(values[rim]))
    for _ in range(4):
        off = np.abs(values - surface)
        weighted = terms.T * (base / (1 + (off / (1.5 * np.median(off[rim]) + 2)) ** 2))
        factors = np.linalg.solve(weighted @ terms + 1e-6 * np.eye(6), weighted @ values)
        surface = terms @ factors
    flat, y, x, yy, xy, xx = factors[[0, 2, 1, 5, 4, 3]].tolist()
    down, across = (np.linspace(-1, 1, side, dtype=np.float32) for side in grey.shape)
    rows = (flat + down * (y + yy * down))[:, np.newaxis]
    light: Grey = rows + across * (x + xx * across) + np.multiply.outer(xy * down, across)
    return light


@lru_cache(maxsize=64)
def _quadratic(height: int, width: int) -> NDArray[np.float64]:
    """The terms of a quadratic surface at each pixel: (height × width, 6); read-only."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)


def _rim(grey: Grey) -> Mask:
    """The outer tenth of a picture on each side."""
    rim = np.ones(grey.shape, bool)
    y, x = (max(1, side // 10) for side in grey.shape)
    rim[y:-y, x:-x] = False
    return rim


def _ink_is_light(uneven: Grey) -> bool:
    """Whether the pixels furthest from the background, the median of the rim, are lighter."""
    level = np.median(uneven[_rim(uneven)])
    ordered = np.sort(_reduced(uneven, 48), axis=None)
    # A thin digit in a large picture is only a few pixels here, hence extremes, not percentiles.
    return bool(ordered[-6:].mean() - level > level - ordered[:6].mean())


def _ground(grey: Grey) -> Grey:
    """The paper under dark strokes: a closing (Serra, 1982) with a window wider than strokes."""
    reach = max(3, round(0.4 * min(grey.shape)) | 1)
    # The picture is extended, or the slope of the light would end at the border. Strokes that
    # touch the border are not extended, or they would be as wide as the background.
    framed = grey.copy()
    for line in (framed[:1], framed[-1:], framed[:, :1].T, framed[:, -1:].T):
        line[:] = _closed(line, (1, line.size | 1))
    outside = np.pad(framed, reach - 1, "edge")
    outside[reach - 1 : 1 - reach, reach - 1 : 1 - reach] = grey
    return -_highest(-_highest(outside, (reach, reach)), (reach, reach))


def _closed(grey: Grey, reach: tuple[int, int]) -> Grey:
    """A closing: what is darker and narrower than the window, of odd sides, is filled."""
    padded = np.pad(grey, [(side - 1, side - 1) for side in reach], "edge")
    return -_highest(-_highest(padded, reach), reach)


def _reduced(grey: Grey, side: int) -> Grey:
    """`grey` with a longer side of `side` pixels or slightly more."""
    factor = max(1, max(grey.shape) // side)
    return np.asarray(Image.fromarray(grey).reduce(factor), np.float32)


def _highest(grey: Grey, reach: tuple[int, int]) -> Grey:
    """The highest value in each window of `reach`; each side shrinks by its reach - 1."""
    for window in reach:
        done = 1
        while done < window:
            step = min(done, window - done)
            grey = np.maximum(grey[step:], grey[:-step])
            done += step
        grey = grey.T
    return grey


def _main_parts(mask: Mask, strong: Mask) -> Mask:
    """The largest part of `mask` and what belongs to it, without specks and distant parts."""
    labels, boxes = _components(mask)
    areas = np.bincount(labels[strong], minlength=len(boxes)).astype(float)
    areas[0] = 0
    main = int(areas.argmax())
    left, top, right, bottom = boxes[main]
    reach = 0.3 * max(right - left, bottom - top)
    near = (
        (boxes[:, 0] < right + reach)
        & (boxes[:, 2] > left - reach)
        & (boxes[:, 1] < bottom + reach)
        & (boxes[:, 3] > top - reach)
    )
    keep = (near & (areas > 0.03 * areas[main])) | (areas > 0.25 * areas[main])
    keep[0] = False
    return np.asarray(keep[labels], bool)


def _components(mask: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Numbers the 8-connected parts of `mask` from 1.

    Returns the number of each pixel's part, 0 for none, and the box of each part: (parts + 1, 4)
    of left, top, right, bottom, whose row 0 has no meaning.
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    change = np.diff(padded, axis=1)
    rows, starts = np.nonzero(change == 1)
    _, ends = np.nonzero(change == -1)
    parent = list(range(len(rows)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    first = np.searchsorted(rows, np.arange(height + 1)).tolist()
    start, end = starts.tolist(), ends.tolist()
    for row in range(1, height):
        above, run = first[row - 1], first[row]
        while above < first[row] and run < first[row + 1]:
            if start[above] <= end[run] and start[run] <= end[above]:
                parent[root(run)] = root(above)
            if end[above] < end[run]:
                above += 1
            else:
                run += 1
    roots = np.array([root(run) for run in range(len(rows))], np.intp)
    names, numbers = np.unique(roots, return_inverse=True)
    steps = np.zeros((height, width + 1), np.intp)
    steps[rows, starts] = numbers + 1
    steps[rows, ends] -= numbers + 1
    boxes = np.zeros((len(names) + 1, 4), np.intp)
    boxes[1:, :2] = max(mask.shape)
    for side, (lowest, highest) in enumerate(((starts, ends), (rows, rows + 1))):
        np.minimum.at(boxes[:, side], numbers + 1, lowest)
        np.maximum.at(boxes[:, side + 2], numbers + 1, highest)
    return steps.cumsum(axis=1)[:, :-1], boxes


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
    # Blurred or enlarged strokes get crisp edges as in MNIST.
    crisp = [round(min(max((value / 255 - 0.2) / 0.5, 0), 1) * 255) for value in range(256)]
    return sheet.point(crisp).reduce(FINE)


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

"""The digit normaliser: any picture of one digit becomes 28×28 pixels as MNIST's are.

Trainer, server and tests share it, so that what a network is asked is what it was taught.
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
STROKE = (1.8, 3.6)  # a mean stroke outside this range is grown or worn into it, pixels
WORKING = 192  # the longer side at which ink is looked for, pixels
FINE = 4  # strokes are evened out at this many times the final resolution
PEAK = 20  # pixels whose mean is the ink's strength at its strongest
SMALL = 48  # a longer side below which strokes are as fine as grain, pixels
MOST_DIGITS = 16  # of a number
MOST_LINES = 12  # ruled lines looked for in each direction
FAINTEST = 10.0  # grey levels (of 255) by which ink must differ from its ground

PREPROCESSING = {"method": "ink", "size": SIZE, "box": BOX, "stroke": list(STROKE)}

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]


class BlankError(ValueError):
    """A picture without ink."""


@dataclass(frozen=True)
class Digit:
    """White ink on black, uint8 (28, 28), and its box in the picture: left, top, right, bottom."""

    pixels: NDArray[np.uint8]
    box: Box


def normalise(image: Image.Image) -> NDArray[np.uint8]:
    """The digit in `image`, all its ink taken as one: uint8 (28, 28). Raises `BlankError`."""
    return read(image)[0].pixels


def read(image: Image.Image) -> list[Digit]:
    """What `image` holds: all its ink as one digit, and then, where it may be a number, its digits
    from left to right.

    `image` is upright, of mode L, RGB or RGBA and any size; its ink may be darker or lighter
    than the ground, the ground uneven or transparent. A digit is scaled to fit 20×20 pixels
    and its centre of mass put in the middle, as LeCun et al. (1998) made MNIST, and strokes
    that are thinner or thicker than MNIST's are evened out. Raises `BlankError` where no ink
    is found.
    """
    grey = _grey(image)
    ink, box = _find(_working_size(grey, WORKING))
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
        ink, box = _find(_working_size(grey.crop(near), WORKING))
    whole = _digit_of(ink, box, near)
    parts = side_by_side(ink)
    if len(parts) < 2:
        return [whole]
    # Each digit as large as a digit alone would be.
    with contextlib.suppress(BlankError):
        finer, _ = _find(_working_size(grey.crop(near), WORKING * min(len(parts), 4)))
        again = side_by_side(finer)
        if len(again) == len(parts):
            ink, parts = finer, again
    return [whole, *(_digit_of(ink * _grown(part), _box(part), near) for part in parts)]


def _digit_of(ink: Grey, box: Box, near: Box) -> Digit:
    """The digit whose ink lies in `box` of `ink`, which is the picture's part `near`."""
    left, top, right, bottom = box
    factor = (near[2] - near[0]) / ink.shape[1]
    place = (
        round(near[0] + left * factor),
        round(near[1] + top * factor),
        round(near[0] + right * factor),
        round(near[1] + bottom * factor),
    )
    return Digit(_centre(_even_strokes(ink[top:bottom, left:right])), place)


def side_by_side(ink: Grey) -> list[Mask]:
    """Where the digits of a number are, from left to right; fewer than two where it is none.

    Each part of the ink that is half as high as the highest or more is a digit; the others, such
    as a 5's bar, go with the one that they lie above, below or nearest to.
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
    """One channel, that in which the picture varies most, on an opaque ground."""
    if image.mode == "RGBA":
        image = _on_contrasting_ground(image)
    if image.mode != "RGB":
        return image.convert("L")
    small = np.asarray(image.reduce(max(1, max(image.size) // 128)), np.float32)
    luma = small @ np.array([0.299, 0.587, 0.114], np.float32)
    channels = [luma, *np.moveaxis(small, 2, 0)]
    spread = [float(np.ptp(np.percentile(channel, (1, 99)))) for channel in channels]
    best = int(np.argmax(spread))
    # Luma is the least noisy: another channel has to show clearly more.
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
    """The ink of a one-channel picture, 0..1, and the box (left, top, right, bottom) round it."""
    strength, noise = _strength(np.asarray(image, np.float32))
    least = max(9 * noise, FAINTEST)
    mask, level = _digit(strength, least)
    at_edge = _edge_of_the_paper(strength, least)
    if at_edge.any():
        with contextlib.suppress(BlankError):
            inner, inner_level = _digit(np.where(at_edge, 0, strength), least)
            # A digit that fills the picture meets its border too: what is left must be one.
            if inner_level > 0.35 * level and _extent(inner) > 0.1 * max(inner.shape):
                mask, level = inner, inner_level
    lines = _ruled_lines(strength, mask, least)
    if lines.any():
        with contextlib.suppress(BlankError):
            rest = np.where(lines, 0, strength)
            inner, inner_level = _digit(rest, least)
            # A stroke of a tight crop crosses the picture too, and so do the digit's others.
            if not _at_border(inner) and _extent(inner) > 0.1 * max(inner.shape):
                strength, mask, level = rest, inner, inner_level
    ground = min(2.5 * noise, 0.3 * level)
    ink = np.clip((strength - ground) / (level - ground), 0, 1) * _grown(mask)
    pale = mask & ~_grown(_grown(strength > 0.45 * level))
    if pale.any():
        # Edges of a stroke are pale too, but next to what is strong: this is where the pen ran dry.
        ink = np.where(_grown(pale), np.sqrt(ink), ink)
    return ink, _box(ink > 0.2)


def _digit(strength: Grey, least: float) -> tuple[Mask, float]:
    """Where the digit's ink is, and how strong it is; raises `BlankError`."""
    strongest = np.partition(strength.ravel(), -PEAK)[-PEAK:] if strength.size > PEAK else strength
    strong = strength > max(0.5 * float(strongest.mean()), least)
    if not strong.any():
        raise BlankError("no ink found")
    level = float(np.percentile(strength[strong], 60))
    # Between the ink's strength and that of ruled lines, which is a third of it or less.
    strong = strength > 0.5 * level
    mask = _main_parts(strength > max(0.45 * level, 0.6 * least), strong)
    # A stroke's faint parts come with it, unless they lead away, as ruled lines do.
    whole = _main_parts(strength > max(0.25 * level, 0.6 * least), strong)
    leads_away = _at_border(whole) and not _at_border(mask)
    if _extent(whole) <= 1.4 * _extent(mask) and not leads_away:
        mask = whole
    if least > FAINTEST and (mask.sum() < 12 or _extent(mask) < 6):
        raise BlankError("nothing but grain found")
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
    """What runs along the picture's border: the desk beside the paper, a shadow, a frame."""
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

    They are looked for only where `mask`, which is taken for the digit, meets those sides. Where
    another stroke crosses a line, the line is left alone.
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
            # A digit's own strokes end short of the border.
            to_border = on[: 1 + len(on) // 32].any() or on[-1 - len(on) // 32 :].any()
            if to_border and np.abs(bent).max() < 3 and width < 0.04 * max(dark.shape) + 1:
                thin = bottom - top <= 1.5 * width + 1
                rows = np.arange(dark.shape[0])[:, None]
                found[thin & (rows >= top - 2) & (rows <= bottom + 1)] = True
            near = np.abs(np.arange(dark.shape[0])[:, None] - path) <= width / 2 + 1
            weight[near] = 0
    return lines


def _way_across(weight: Grey) -> NDArray[np.intp]:
    """The row at each column of the way from left to right that gathers most `weight`.

    The way climbs or falls by one row a column at most, and pays a little for it.
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
    """Whether `mask` meets the border of the picture."""
    return bool(mask[:2].any() or mask[-2:].any() or mask[:, :2].any() or mask[:, -2:].any())


def _strength(grey: Grey) -> tuple[Grey, float]:
    """How far each pixel stands out from the ground, in grey levels, and the ground's noise."""
    if _ink_is_light(grey - _light(grey)):
        grey = 255 - grey
    residual = _ground(grey) - grey
    noise = _noise(grey)
    # Ink may cover most of a tight crop; the ground is sought among the lesser residuals.
    centre = float(np.percentile(residual[::2, ::2], 30)) + 0.5 * noise
    return np.clip(residual - centre, 0, None), noise


def _noise(grey: Grey) -> float:
    """The standard deviation of the grain, from second differences, which slopes leave out."""
    apart = 3  # pixels: neighbours share a camera's blur
    if max(grey.shape) < SMALL or grey.shape[1] <= 2 * apart:
        return 0.0
    across = grey[:, : -2 * apart] - 2 * grey[:, apart:-apart] + grey[:, 2 * apart :]
    return float(np.median(np.abs(across[::2, ::2]))) / (0.6745 * math.sqrt(6))


def _light(grey: Grey) -> Grey:
    """Uneven light on the ground: a quadratic surface through most of the picture's rim.

    Fitted by iteratively reweighted least squares (Holland and Welsch, 1977), which pass over
    the ink; the inside counts little, since a tight crop's inside is ink.
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
    """The terms of a quadratic surface at each pixel: (height × width, 6); not to be written to."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)


def _rim(grey: Grey) -> Mask:
    """The outer tenth of a picture on each side."""
    rim = np.ones(grey.shape, bool)
    y, x = (max(1, side // 10) for side in grey.shape)
    rim[y:-y, x:-x] = False
    return rim


def _ink_is_light(uneven: Grey) -> bool:
    """Whether what stands out furthest from the ground, which most of the rim shows, is lighter."""
    level = np.median(uneven[_rim(uneven)])
    ordered = np.sort(_reduced(uneven, 48), axis=None)
    # A thin digit in a large picture is a few pixels here: the extremes, not percentiles.
    return bool(ordered[-6:].mean() - level > level - ordered[:6].mean())


def _ground(grey: Grey) -> Grey:
    """The paper under dark ink: a closing (Serra, 1982) with a window wider than strokes."""
    reach = max(3, round(0.4 * min(grey.shape)) | 1)
    # The picture goes on outside, or the slope of the light would be cut off at the border; but
    # ink that meets the border does not, or it would be as wide as ground is.
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
    """`grey` at a longer side of `side` pixels or little more."""
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
    """Keeps the largest part of `mask` and what belongs to it; specks and things apart go."""
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
    of left, top, right, bottom, whose row 0 says nothing.
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
    """`mask` and its neighbours, where the soft edge of the ink lies."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    across: Mask = grown.copy()
    across[:, 1:] |= grown[:, :-1]
    across[:, :-1] |= grown[:, 1:]
    return across


def _even_strokes(ink: Grey) -> Image.Image:
    """Fits `ink` into 20×20 pixels, its strokes grown or worn towards MNIST's width."""
    height, width = ink.shape
    stroke = _stroke_width(ink) * BOX / max(height, width)
    change = min(max(stroke, STROKE[0]), STROKE[1]) - stroke
    # Wearing is kept short of the stroke's thin parts; growing makes the digit larger.
    change = max(change, -0.4 * stroke)
    steps = round(change * FINE / 2)
    side = BOX * FINE - 2 * steps
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray((ink * 255).astype(np.uint8))
    reduce = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    sheet = Image.new("L", (BOX * FINE, BOX * FINE))
    sheet.paste(
        picture.resize(size, reduce),
        ((sheet.width - size[0]) // 2, (sheet.height - size[1]) // 2),
    )
    change_filter = ImageFilter.MaxFilter(3) if steps > 0 else ImageFilter.MinFilter(3)
    for _ in range(abs(steps)):
        sheet = sheet.filter(change_filter)
    # A blurred or enlarged stroke gets MNIST's crisp edge back.
    crisp = [round(min(max((value / 255 - 0.2) / 0.5, 0), 1) * 255) for value in range(256)]
    return sheet.point(crisp).reduce(FINE)


def _stroke_width(ink: Grey) -> float:
    """The mean width of the strokes in pixels: twice the area over the outline's length."""
    area = float(ink.sum())
    padded = np.pad(ink, 1)
    outline = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    # Steps along both axes overrate a slanted outline by 4 / π on average.
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

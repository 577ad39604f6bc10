"""Synthetic handwriting: digits drawn along hand-made pen paths, in forms that MNIST lacks.

MNIST was written in North America around 1990; crossed sevens, ones with a long upstroke or a
foot, open fours, slashed zeros and fives whose bar is drawn last are rare in it and common
elsewhere. handwriting.json lists the forms of each digit. A form is a list of strokes; a stroke is
a list of points (x, y) in per cent of the height, y downwards, joined by a Catmull-Rom spline; a
point given twice is a corner.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Stroke = list[list[float]]

SIZE, BOX = 28, 20
STROKES, SEGMENTS = 3, 24  # most strokes of a digit, straight segments of a stroke

FORMS: dict[int, list[list[Stroke]]] = {
    int(label): forms
    for label, forms in json.loads(Path(__file__).with_suffix(".json").read_text()).items()
}


def write(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Writes `count` digits, as many of each, every form as often as its siblings.

    Returns pictures, uint8 of shape (count, 1, 28, 28), white ink on black, scaled and centred
    as MNIST's are, and labels, int64 of shape (count,). The same seed gives the same digits.
    """
    random = np.random.default_rng(seed)
    labels = torch.arange(count) % len(FORMS)
    pictures = torch.empty(count, 1, SIZE, SIZE, dtype=torch.uint8)
    for first in range(0, count, 500):
        part = slice(first, first + 500)
        paths = np.stack([_path(int(label), random) for label in labels[part]])
        widths = random.uniform(1.4, 3.8, len(paths))
        pictures[part, 0] = _render(torch.tensor(paths).float(), torch.tensor(widths).float())
    return pictures, labels


def _path(label: int, random: np.random.Generator) -> NDArray[np.float64]:
    """One digit as straight segments: (STROKES × SEGMENTS, 2 ends, 2), in units of its height."""
    forms = FORMS[label]
    strokes = forms[random.integers(len(forms))]
    width = np.exp(random.normal(np.log(0.72), 0.2))
    slant = random.normal(0.06, 0.15)
    unsteady = random.uniform(0.3, 3.2)
    # A smooth bend of the whole sheet keeps joins joined; each point's own tremor does not.
    bend = random.normal(0, 1, (2, 2, 3)) * (0.05, 0.025, 0.012)
    segments = []
    for stroke in strokes:
        points = np.asarray(stroke, float)
        moved = points + random.normal(0, unsteady, points.shape)
        repeated = np.flatnonzero((points[1:] == points[:-1]).all(1)) + 1
        moved[repeated] = moved[repeated - 1]
        curve = _spline(moved) / 100 + random.normal(0, 0.012, 2)
        curve = curve + _bend(curve, bend)
        curve[:, 0] = (curve[:, 0] - slant * curve[:, 1]) * width
        segments.append(np.stack([curve[:-1], curve[1:]], 1))
    while len(segments) < STROKES:
        segments.append(np.broadcast_to(segments[0][0, 0], segments[0].shape))
    return np.concatenate(segments)


def _bend(curve: NDArray[np.float64], bend: NDArray[np.float64]) -> NDArray[np.float64]:
    """A displacement by low sine waves over the sheet, for points in 0..1."""
    waves = np.sin(np.pi * curve[:, :, None] * np.arange(1, 4))
    return np.asarray(np.einsum("nck,dck->nd", waves, bend))


def _spline(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A Catmull-Rom spline through `points`, as SEGMENTS + 1 points evenly spaced along it."""
    if len(points) == 2:
        dense = points
    else:
        padded = np.concatenate([points[:1], points, points[-1:]])
        time = np.linspace(0, 1, 12, endpoint=False)[:, None, None]
        before, start, end, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
        corner_start = (before == start).all(1, keepdims=True)
        corner_end = (end == after).all(1, keepdims=True)
        first = np.where(corner_start, end - start, (end - before) / 2)
        last = np.where(corner_end, end - start, (after - start) / 2)
        bent = (
            (2 * time**3 - 3 * time**2 + 1) * start
            + (time**3 - 2 * time**2 + time) * first
            + (3 * time**2 - 2 * time**3) * end
            + (time**3 - time**2) * last
        )
        dense = np.concatenate([bent.transpose(1, 0, 2).reshape(-1, 2), points[-1:]])
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(dense, axis=0).T))])
    even = np.linspace(0, length[-1], SEGMENTS + 1)
    return np.stack([np.interp(even, length, dense[:, axis]) for axis in (0, 1)], 1)


def _render(path: Tensor, width: Tensor) -> Tensor:
    """Draws paths (N, S, 2, 2) with a round pen of `width` pixels: uint8 (N, 28, 28)."""
    ends = path.flatten(1, 2)
    low, high = ends.amin(1), ends.amax(1)
    scale = (BOX - width) / (high - low).amax(1)
    path = path * scale.view(-1, 1, 1, 1)
    length = (path[:, :, 1] - path[:, :, 0]).norm(dim=2, keepdim=True)
    mass = (path.mean(2) * length).sum(1) / length.sum(1)
    path = path + (SIZE / 2 - mass).view(-1, 1, 1, 2)
    axis = torch.arange(SIZE) + 0.5
    pixel = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), 2).view(1, -1, 1, 2)
    start, along = path[:, None, :, 0], (path[:, :, 1] - path[:, :, 0])[:, None]
    offset = pixel - start
    share = (offset * along).sum(3) / along.square().sum(3).clamp_min(1e-9)
    distance = (offset - share.clamp(0, 1).unsqueeze(3) * along).square().sum(3).amin(2).sqrt()
    ink = (width.view(-1, 1) / 2 - distance + 0.5).clamp(0, 1)
    return (ink * 255).round().to(torch.uint8).view(-1, SIZE, SIZE)

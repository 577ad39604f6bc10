"""Explanations: a heat map of the parts of a picture that support a label."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from app.engines import Explainer, Heat, Network

WINDOWS = 6  # windows along each side, for occlusion
SHOWN = 144  # minimum side of the picture that shows the map, pixels
# Cold parts stay grey; the hottest are red.
COLOUR = np.array([224, 58, 30], np.float32)
LITTLE = np.array([250, 190, 40], np.float32)
MUCH = np.array([214, 36, 20], np.float32)
LEAST, DENSEST = 0.15, 0.85  # the heat that shows, and the opacity of the most

log = logging.getLogger(__name__)


def explainer(network: Network, load_heat: Callable[[], Heat | None]) -> Explainer:
    """Explains a network's answers: by its checkpoint's own heat map, or else by occlusion.

    `load_heat` is called for each picture that is explained.
    """

    def explain(pixels: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
        try:
            heat = load_heat()
            if heat is not None:
                # A copy, since torch warns of pictures that it could not write to.
                found = heat(pixels[None].copy(), np.array([label]))
                return _scaled(found[0], pixels.shape[1:])
        except Exception as error:  # a checkpoint may hold any code, and its file may be replaced
            log.warning("explained by occlusion, since the checkpoint's heat map fails: %s", error)
        return occlusion(network, pixels, label)

    return explain


def occlusion(network: Network, pixels: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
    """Heat (H, W) in 0..1: how much the label's score falls when a window is covered.

    After Zeiler and Fergus (2014); for networks that offer nothing but their probabilities.
    """
    _, height, width = pixels.shape
    covered = np.repeat(pixels[None], WINDOWS**2 + 1, axis=0)
    ground = np.median(pixels, axis=(1, 2)).astype(np.uint8)[:, None, None]
    reach = 1.5  # windows overlap by half
    for index in range(WINDOWS**2):
        row, column = divmod(index, WINDOWS)
        top, left = (
            int((place - 0.25) * side / WINDOWS) for place, side in ((row, height), (column, width))
        )
        bottom, right = top + int(reach * height / WINDOWS), left + int(reach * width / WINDOWS)
        covered[index, :, max(top, 0) : bottom, max(left, 0) : right] = ground
    scores = np.log(network(covered)[:, label] + 1e-6)
    fall = (scores[-1] - scores[:-1]).clip(0).reshape(WINDOWS, WINDOWS)
    return _scaled(fall.astype(np.float32), (height, width))


def _scaled(heat: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The map at the picture's size, scaled to a maximum of 1 (all 0 if nothing is hot)."""
    size = (shape[1], shape[0])
    smooth = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC), np.float32)
    highest = max(float(smooth.max()), 1e-9)
    return np.asarray(smooth.clip(0) / highest, np.float32)


def drawn(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> str:
    """The picture, uint8 (C, H, W), with the heat laid over it, as a PNG data URL."""
    grey = pixels.astype(np.float32).mean(axis=0)[..., None]
    # The picture stays visible under the heat: white strokes on black as well as a face.
    share = 0.75 * heat[..., None]
    mixed = (grey * (1 - share) + (0.35 * grey + 0.65 * COLOUR) * share).round().astype(np.uint8)
    factor = -(-SHOWN // mixed.shape[0])
    size = (mixed.shape[1] * factor, mixed.shape[0] * factor)
    return data_url(Image.fromarray(mixed).resize(size, Image.Resampling.BILINEAR))


def coloured(heat: NDArray[np.float32]) -> str:
    """The heat (H, W) alone as a PNG data URL: from a clear yellow to a red that covers."""
    factor = -(-SHOWN // min(heat.shape))
    size = (heat.shape[1] * factor, heat.shape[0] * factor)
    smooth = Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC)
    share = np.asarray(smooth, np.float32).clip(0, 1)[..., None]
    # Little heat is everywhere, and would only veil the picture.
    share = ((share - LEAST) / (1 - LEAST)).clip(0)
    colour = LITTLE + (MUCH - LITTLE) * share
    rgba = np.concatenate([colour, 255 * DENSEST * share**0.7], axis=2)
    return data_url(Image.fromarray(rgba.round().astype(np.uint8)))


def data_url(image: Image.Image) -> str:
    """The picture as a PNG data URL."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

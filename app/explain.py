"""Why this answer: a heat map of the parts of a picture that speak for a label."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    import torch

    from app.engines import Network

FINEST = 10  # the least side of the layer whose activations make the map, pixels
WINDOWS = 6  # windows a side, where parts are covered in turn
SHOWN = 144  # the least side of the picture that shows the map, pixels

# What is cold stays grey; the hottest is red.
COLOUR = np.array([224, 58, 30], np.float32)

Heat = NDArray[np.float32]


def layer_cam(module: torch.jit.ScriptModule, pixels: NDArray[np.uint8], label: int) -> Heat:
    """Heat (H, W) in 0..1 of a picture, uint8 (C, H, W), by LayerCAM (Jiang et al., 2021).

    Each activation of a layer counts as much as the label's logit grows with it. Only what
    follows the layer is gone through backwards. `module` is a `training` classifier's.
    """
    import torch  # noqa: PLC0415

    values = torch.tensor(pixels)[None].float() / 255
    if module.by_picture:
        std, mean = torch.std_mean(values, dim=(1, 2, 3), keepdim=True)
        values = (values - mean) / std.clamp_min(0.02)
    else:
        values = (values - module.mean) / module.std
    network = module.network
    columns = network.columns.children() if hasattr(network, "columns") else [network]
    heat = sum(_heat(list(column.children()), values, label) for column in columns)
    return _scaled(np.asarray(heat, np.float32), pixels.shape[1:])


def _heat(layers: list[torch.jit.ScriptModule], values: torch.Tensor, label: int) -> Heat:
    """LayerCAM's heat (h, w) of one column of layers, by the last layer that is fine enough."""
    import torch  # noqa: PLC0415

    with torch.no_grad():
        at, activations = 0, values
        for index, layer in enumerate(layers):
            values = layer(values)
            if values.dim() != 4 or values.size(3) < FINEST:
                break
            at, activations = index + 1, values
    activations = activations.detach().requires_grad_()
    values = activations
    for layer in layers[at:]:
        values = layer(values)
    (slope,) = torch.autograd.grad(values[0, label], activations)
    heat = (slope.clamp_min(0) * activations).sum(dim=1)[0].detach().clamp_min(0).numpy()
    return np.asarray(heat, np.float32)


def covering(network: Network, pixels: NDArray[np.uint8], label: int) -> Heat:
    """Heat (H, W) in 0..1: how much the label's score falls where a window is covered.

    After Zeiler and Fergus (2014); for networks of which nothing but the answers can be had.
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


def _scaled(heat: Heat, shape: tuple[int, ...]) -> Heat:
    """The map at the picture's size, its highest value 1, or 0 where there is none."""
    size = (shape[1], shape[0])
    smooth = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC), np.float32)
    highest = max(float(smooth.max()), 1e-9)
    return np.asarray(smooth.clip(0) / highest, np.float32)


def drawn(pixels: NDArray[np.uint8], heat: Heat) -> str:
    """The picture, uint8 (C, H, W), with the heat laid over it, as a PNG data URL."""
    grey = pixels.astype(np.float32).mean(axis=0)[..., None]
    # Over white ink on black, as over a face, the picture stays to be seen under the heat.
    share = 0.75 * heat[..., None]
    mixed = (grey * (1 - share) + (0.35 * grey + 0.65 * COLOUR) * share).round().astype(np.uint8)
    factor = -(-SHOWN // mixed.shape[0])
    size = (mixed.shape[1] * factor, mixed.shape[0] * factor)
    return data_url(Image.fromarray(mixed).resize(size, Image.Resampling.BILINEAR))


def data_url(image: Image.Image) -> str:
    """The picture as a PNG data URL."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

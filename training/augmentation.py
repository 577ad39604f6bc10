"""Random changes to a batch of pictures, on tensors, so that two cores can keep up."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec
import torch
from msgspec import Meta
from torch import Tensor
from torch.nn import functional

ELASTIC_KNOTS = 6

Amount = Annotated[float, Meta(ge=0, le=1000)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Augmentation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may happen to each picture, independently; all zero (the default) changes nothing.

    Each value is the widest change: `rotation` in degrees to either side, `shift` in pixels
    along each axis, `scale` and `aspect` as a ratio (0.1 is 1/1.1 to 1.1), `shear` as the
    horizontal shift per unit of height, `elastic` as the standard deviation in pixels of a
    smooth random displacement (Simard et al., 2003), `thickness` as how far strokes are grown
    or worn by one pixel (0..1; it takes bright ink on black), `contrast` as the steepness by
    which edges are sharpened or softened (a ratio, as `scale`), `blur` as the part of a 3×3
    mean mixed in (0..1), and `noise` as the standard deviation of grey noise (0..1). `flip` is
    the chance of a mirror image, and `erase` the largest side of a rectangle, as a share of the
    picture's, that is filled with one grey (Zhong et al., 2017). `shrink` is how many times
    smaller some of the pictures are made, to be enlarged again, as of faces far away; `light` how
    much darker or brighter the middle greys get (a ratio of exponents, as `scale`), and one side
    than the other. `edge` is what moved pictures
    show beyond their edge: "zeros", "border" or "reflection".
    """

    rotation: Amount = 0.0
    shift: Amount = 0.0
    scale: Amount = 0.0
    aspect: Amount = 0.0
    shear: Amount = 0.0
    elastic: Amount = 0.0
    thickness: Share = 0.0
    contrast: Amount = 0.0
    blur: Share = 0.0
    noise: Amount = 0.0
    flip: Share = 0.0
    erase: Share = 0.0
    shrink: Amount = 0.0
    light: Amount = 0.0
    edge: Literal["zeros", "border", "reflection"] = "zeros"

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Changes `batch`, float32 of shape (N, C, H, W) in 0..1, into one like it.

        The `generator` is of the batch's device.
        """
        if self.rotation or self.shift or self.scale or self.aspect or self.shear or self.elastic:
            batch = functional.grid_sample(
                batch,
                self._grid(batch, generator),
                mode="bilinear",
                padding_mode=self.edge,
                align_corners=False,
            )
        if self.flip:
            mirrored = _rand([len(batch), 1, 1, 1], generator) < self.flip
            batch = torch.where(mirrored, batch.flip(3), batch)
        if self.thickness:
            batch = self._thicken(batch, generator)
        if self.blur:
            amount = self.blur * _rand([len(batch), 1, 1, 1], generator)
            mean = functional.avg_pool2d(batch, 3, stride=1, padding=1)
            batch = torch.lerp(batch, mean, amount)
        if self.contrast:
            steepness = _ratio(self.contrast, len(batch), generator).view(-1, 1, 1, 1)
            batch = (batch - 0.5) * steepness + 0.5
        if self.shrink > 1:
            batch = self._shrink(batch, generator)
        if self.light:
            batch = self._light(batch, generator)
        if self.noise:
            deviation = self.noise * _rand([len(batch), 1, 1, 1], generator)
            batch = batch + deviation * _randn(list(batch.shape), generator)
        if self.erase:
            batch = self._erase(batch, generator)
        return batch.clamp(0, 1)

    def _grid(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Where each pixel of the new batch is taken from: (N, H, W, 2) in -1..1."""
        count, _, height, width = batch.shape
        angle = math.radians(self.rotation) * _signed(count, generator)
        zoom = _ratio(self.scale, count, generator)
        aspect = _ratio(self.aspect, count, generator).sqrt()
        shear = self.shear * _signed(count, generator)
        cosine, sine = angle.cos(), angle.sin()
        matrix = torch.zeros(count, 2, 3, device=batch.device)
        matrix[:, 0, 0] = cosine / (zoom * aspect)
        matrix[:, 0, 1] = (shear * cosine - sine) / (zoom * aspect)
        matrix[:, 1, 0] = sine * aspect / zoom
        matrix[:, 1, 1] = (shear * sine + cosine) * aspect / zoom
        matrix[:, 0, 2] = self.shift * 2 / width * _signed(count, generator)
        matrix[:, 1, 2] = self.shift * 2 / height * _signed(count, generator)
        grid = functional.affine_grid(matrix, list(batch.shape), align_corners=False)
        if self.elastic:
            knots = _randn([count, 2, ELASTIC_KNOTS, ELASTIC_KNOTS], generator)
            field = functional.interpolate(
                knots, (height, width), mode="bicubic", align_corners=True
            )
            pixel = torch.tensor([2 / width, 2 / height], device=batch.device)
            grid = grid + self.elastic * pixel * field.permute(0, 2, 3, 1)
        return grid

    def _thicken(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Dilates or erodes strokes by up to a pixel."""
        amount = self.thickness * _signed(len(batch), generator).view(-1, 1, 1, 1)
        grown = functional.max_pool2d(batch, 3, stride=1, padding=1)
        worn = -functional.max_pool2d(-batch, 3, stride=1, padding=1)
        return torch.lerp(batch, torch.where(amount > 0, grown, worn), amount.abs())

    def _shrink(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Makes half of the pictures smaller, all by the same factor, and large again."""
        factor = 1 + (self.shrink - 1) * float(_rand([1], generator))
        sides = [max(1, round(side / factor)) for side in batch.shape[2:]]
        small = functional.interpolate(batch, sides, mode="area")
        again = functional.interpolate(small, batch.shape[2:], mode="bilinear", align_corners=False)
        return torch.where(_rand([len(batch), 1, 1, 1], generator) < 0.5, again, batch)

    def _light(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Changes the middle greys, each side of the picture by another exponent."""
        count, (height, width) = len(batch), batch.shape[2:]
        widest = math.log1p(self.light)
        exponent = widest * _signed(count, generator).view(-1, 1, 1, 1)
        for length, shape in ((height, (1, 1, -1, 1)), (width, (1, 1, 1, -1))):
            slope = torch.linspace(-1, 1, length, device=batch.device).view(shape)
            exponent = exponent + widest * slope * _signed(count, generator).view(-1, 1, 1, 1)
        return batch.clamp(1e-3, 1) ** exponent.exp()

    def _erase(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Fills a rectangle of each picture with one grey."""
        inside = torch.ones(len(batch), 1, 1, 1, dtype=torch.bool, device=batch.device)
        for dimension in (2, 3):
            count = batch.shape[dimension]
            shape = [len(batch), 1, 1, 1]
            side = self.erase * count * _rand(shape, generator)
            start = _rand(shape, generator) * (count - side)
            shape[0], shape[dimension] = 1, count
            place = torch.arange(count, device=batch.device).view(shape)
            inside = inside & (place >= start) & (place < start + side)
        grey = _rand([len(batch), 1, 1, 1], generator)
        return torch.where(inside, grey, batch)


def _rand(shape: list[int], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def _randn(shape: list[int], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _signed(count: int, generator: torch.Generator) -> Tensor:
    return _rand([count], generator) * 2 - 1


def _ratio(widest: float, count: int, generator: torch.Generator) -> Tensor:
    return torch.exp(math.log1p(widest) * _signed(count, generator))

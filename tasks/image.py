"""The task `image`: a model classifies the whole picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from PIL import Image, ImageOps

from tasks.base import Frame, InputSpec, Pixels, Subject, Task, as_pixels, on_white
from tasks.decode import Picture


class ImageTask(Task):
    """The whole picture, scaled to fill the network's input and cropped to its centre.

    If a card's preprocessing has ``fit`` "letterbox", all of it is kept, with black bars.
    """

    name = "image"
    preprocessing: ClassVar[Mapping[str, Any]] = {"fit": "crop"}

    def prepare(self, image: Image.Image, spec: InputSpec) -> Pixels:
        """See `Task.prepare`."""
        channels, height, width = spec.shape
        fit = _boxed if _is_boxed(spec) else _filling
        opaque = on_white(image).convert("L" if channels == 1 else "RGB")
        return as_pixels(fit(opaque, (width, height)), channels)

    def find(self, picture: Picture, spec: InputSpec, *, whole: bool = False) -> Sequence[Subject]:
        """See `Task.find`."""
        _, high, wide = spec.shape
        width, height = picture.width, picture.height
        fit = max if _is_boxed(spec) else min
        scale = fit(width / wide, height / high)
        seen = Frame(
            (width - wide * scale) / 2, (height - high * scale) / 2, wide * scale, high * scale
        )
        return [replace(each, frame=seen) for each in super().find(picture, spec, whole=whole)]


def _is_boxed(spec: InputSpec) -> bool:
    return spec.preprocessing.get("fit") == "letterbox"


def _filling(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The centre of the picture, as much as fills `size`."""
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def _boxed(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The whole picture in the centre of `size`, between black bars."""
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    box = Image.new(image.mode, size)
    place = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    box.paste(image.resize(inner, Image.Resampling.LANCZOS), place)
    return box


TASK = ImageTask()

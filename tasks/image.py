"""The task `image`: a model classifies the whole picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from PIL import Image, ImageOps

from tasks.base import InputSpec, Pixels, Task, as_pixels, on_white


class ImageTask(Task):
    """The whole picture, scaled to fill the network's input and cropped to its centre.

    If a card's preprocessing has ``fit`` "letterbox", all of it is kept, with black bars.
    """

    name = "image"
    preprocessing: ClassVar[Mapping[str, Any]] = {"fit": "crop"}

    def prepare(self, image: Image.Image, spec: InputSpec) -> Pixels:
        """See `Task.prepare`."""
        channels, height, width = spec.shape
        fit = ImageOps.pad if spec.preprocessing.get("fit") == "letterbox" else ImageOps.fit
        opaque = on_white(image).convert("L" if channels == 1 else "RGB")
        return as_pixels(fit(opaque, (width, height), Image.Resampling.LANCZOS), channels)


TASK = ImageTask()

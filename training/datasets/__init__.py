"""Data sets, found by name: each gives training, validation and test parts as tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from training.datasets import arrays, fer2013, folders, mnist
from training.datasets.parts import Data, Part, split, twins
from training.errors import TrainingError
from training.recipe import DataRecipe

__all__ = ["DATASETS", "Data", "Part", "load", "split"]

DATASETS: dict[str, Callable[[DataRecipe, Path | None], Data]] = {
    "mnist": mnist.load,
    "fer2013": fer2013.load,
    "folders": folders.load,
    "arrays": arrays.load,
}


def load(recipe: DataRecipe, folder: Path | None) -> Data:
    """The data that `recipe` names, from `folder` or else downloaded; raises `TrainingError`.

    Pictures for training that the validation or the test part holds too are left out, MNIST
    excepted, which has none: a figure on pictures seen in training says nothing.
    """
    if recipe.name not in DATASETS:
        raise TrainingError(f"no data set “{recipe.name}”; known are {', '.join(DATASETS)}")
    data = DATASETS[recipe.name](recipe, folder)
    if recipe.name == "mnist":
        return data
    seen = twins(data.training, [data.validation, data.test])
    return dataclasses.replace(
        data,
        training=data.training.only(~seen),
        description={
            **data.description,
            "training": int((~seen).sum()),
            "validation": len(data.validation),
            "test": len(data.test),
            "twins_left_out": int(seen.sum()),
        },
    )

"""Data sets, found by name: each gives training, validation and test parts as tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

import tasks
from tasks import InputSpec
from training.datasets import arrays, fer2013, folders, mnist
from training.datasets.parts import Data, Part, Preparer, duplicates, split, write_skipped
from training.errors import TrainingError
from training.recipe import DataRecipe

__all__ = ["DATASETS", "Data", "Part", "load", "split", "write_skipped"]

DATASETS: dict[str, Callable[[DataRecipe, Path | None, Preparer], Data]] = {
    "mnist": mnist.load,
    "fer2013": fer2013.load,
    "folders": folders.load,
    "arrays": arrays.load,
}
NATIVE_SIZES = {"mnist": mnist.SIZE}  # in pixels; of all others 48


def load(
    recipe: DataRecipe,
    folder: Path | None,
    task: str,
    spec: InputSpec | None = None,
    *,
    limit: int | None = None,
) -> Data:
    """The data that `recipe` names, from `folder`, or downloaded; raises `TrainingError`.

    All pictures are prepared by `task`, as in serving, for the input `spec`, or by default for
    the recipe's.

    Training pictures that the validation or the test part holds too, pixel by pixel, are left
    out: accuracy on pictures seen in training says nothing. MNIST, which has none, isn't searched.

    With a `limit`, the training part is at most so many of its pictures, chosen at random.
    """
    if recipe.name not in DATASETS:
        raise TrainingError(f"no data set “{recipe.name}”; known are {', '.join(DATASETS)}")
    preparer = _preparer(recipe, task, spec)
    data = DATASETS[recipe.name](recipe, folder, preparer)
    data = dataclasses.replace(data, preprocessing=preparer.spec.preprocessing)
    if recipe.name == "mnist":
        return data
    training = data.training
    seen = duplicates(training, [data.validation, data.test])
    training = training.subset(~seen)
    if limit is not None and limit < len(training):
        chosen = torch.randperm(
            len(training), generator=torch.Generator().manual_seed(recipe.split_seed)
        )
        training = training.subset(chosen[:limit].sort().values)
    return dataclasses.replace(
        data,
        training=training,
        description={
            **data.description,
            "training": len(training),
            "validation": len(data.validation),
            "test": len(data.test),
            "duplicates_left_out": int(seen.sum()),
        },
    )


def _preparer(recipe: DataRecipe, name: str, spec: InputSpec | None) -> Preparer:
    try:
        task = tasks.get(name)
    except tasks.UnknownTaskError as error:
        raise TrainingError(f"“task”: {error}") from error
    if spec is None:
        size = recipe.size or NATIVE_SIZES.get(recipe.name, 48)
        spec = InputSpec((recipe.channels, size, size), task.preprocessing)
    if reason := task.misfit(spec):
        channels, height, width = spec.shape
        raise TrainingError(
            f"the task {name} does not support pictures of {height} × {width} pixels in {channels} "
            f"channel(s): {reason}; change “data.size” or “data.channels”"
        )
    return Preparer(task, spec)

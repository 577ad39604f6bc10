"""Data sets, found by name: each gives training, validation and test parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from msgspec.structs import replace

import tasks
from tasks import InputSpec
from training.datasets import fer2013, mnist, own
from training.datasets.parts import Data, Part, duplicates, write_skipped
from training.datasets.preparer import Preparer
from training.datasets.splits import Given, Split, by_fold, divide, sample, split
from training.errors import TrainingError
from training.recipe import DataRecipe

__all__ = ["DATASETS", "Data", "Part", "folds", "load", "split", "write_skipped"]

DATASETS: dict[str, Callable[[DataRecipe, Path | None, Preparer], Given]] = {
    "mnist": mnist.load,
    "fashion": mnist.load,
    "letters": mnist.load,
    "fer2013": fer2013.load,
    "pictures": own.load,
    # Older names, in recipes and cards that there are.
    "folders": own.load,
    "arrays": own.load,
}
OTHER_SIZE = 48  # pixels a side, of what is not of MNIST's family


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
    the recipe's. With a `limit`, no part has more than so many pictures.

    Training pictures that the validation or the test part holds too, pixel by pixel, are left
    out: accuracy on pictures seen in training says nothing. MNIST, which has none, isn't searched.
    """
    preparer = _preparer(recipe, task, spec, limit)
    given = _given(recipe, folder, preparer)
    return _data(given, divide(given, recipe), recipe, preparer)


def folds(
    recipe: DataRecipe,
    folder: Path | None,
    task: str,
    how: Literal["subject", "stratified", "random"],
    *,
    limit: int | None = None,
) -> Iterator[Data]:
    """The data of each of the recipe's `folds`, as of `load`, which is read once.

    `how` they are made, see `splits.by_fold`. Raises `TrainingError`.
    """
    preparer = _preparer(recipe, task, None, limit)
    given = _given(recipe, folder, preparer)
    for index in range(recipe.folds):
        parts = by_fold(given, replace(recipe, fold=index), how)
        yield _data(given, parts, recipe, preparer)


def _given(recipe: DataRecipe, folder: Path | None, preparer: Preparer) -> Given:
    given = DATASETS[recipe.name](recipe, folder, preparer)
    preparer.check(recipe.most_skipped)
    return given


def _data(given: Given, parts: Split, recipe: DataRecipe, preparer: Preparer) -> Data:
    """The `parts` without duplicates, at most as large as the limit."""
    training, left_out = parts.training, 0
    if recipe.name != "mnist":
        seen = duplicates(training, [parts.validation, parts.test])
        if left_out := int(seen.sum()):
            training = training.subset(~seen)

    def limited(part: Part) -> Part:
        if preparer.limit is None or len(part) <= preparer.limit:
            return part
        return part.subset(sample(part.labels, preparer.limit, recipe.split_seed))

    training = limited(training)
    validation, test = limited(parts.validation), limited(parts.test)
    description = {
        **given.description,
        **parts.how,
        "training": len(training),
        "validation": len(validation),
        "test": len(test),
    }
    if recipe.name != "mnist":
        description["duplicates_left_out"] = left_out
    if preparer.skipped:
        description["skipped"] = len(preparer.skipped)
    if preparer.limit is not None:
        description["limit"] = f"at most {preparer.limit} pictures of each part"
    synthetic = range(0)
    if given.synthetic is not None:
        synthetic = range(len(training), len(training) + len(given.synthetic))
        description["handwriting"] = len(given.synthetic)
        training = Part(
            torch.cat([training.pictures, given.synthetic.pictures]),
            torch.cat([training.labels, given.synthetic.labels]),
        )
    return Data(
        given.labels,
        training,
        validation,
        test,
        description,
        others={name: limited(part) for name, part in given.others.items()},
        synthetic=synthetic,
        skipped=preparer.skipped,
        preprocessing=preparer.spec.preprocessing,
    )


def _preparer(recipe: DataRecipe, name: str, spec: InputSpec | None, limit: int | None) -> Preparer:
    if recipe.name not in DATASETS:
        raise TrainingError(f"no data set “{recipe.name}”; known are {', '.join(DATASETS)}")
    try:
        task = tasks.get(name)
    except tasks.UnknownTaskError as error:
        raise TrainingError(f"“task”: {error}") from error
    if limit is not None and limit < 1:
        raise TrainingError("the limit must be 1 picture or more")
    if spec is None:
        size = recipe.size or (mnist.SIZE if recipe.name in mnist.FAMILY else OTHER_SIZE)
        preprocessing = dict(task.preprocessing)
        if "fit" in preprocessing:
            preprocessing["fit"] = recipe.fit
        spec = InputSpec((recipe.channels, size, size), preprocessing)
    if reason := task.misfit(spec):
        channels, height, width = spec.shape
        raise TrainingError(
            f"the task {name} does not support pictures of {height} × {width} pixels in {channels} "
            f"channel(s): {reason}; change “data.size” or “data.channels”"
        )
    return Preparer(task, spec, recipe.memory * 1e9, limit)

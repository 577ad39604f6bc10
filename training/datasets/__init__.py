"""Data sets, found by name: each gives training, validation and test parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace as dataclass_replace
from pathlib import Path
from typing import Literal

import torch
from msgspec.structs import replace

import tasks
from tasks import InputSpec
from training.datasets import fer2013, mnist, own, strokes
from training.datasets.parts import (
    Data,
    Part,
    duplicates,
    joined,
    relabelled,
    write_skipped,
)
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
    "strokes": strokes.load,
    # Older names, in recipes and cards that there are.
    "folders": own.load,
    "arrays": own.load,
}
OTHER_SIZE = 48  # pixels a side, of what is not of MNIST's family

Places = Path | Sequence[Path] | None  # of the data, and of its further sources


def load(
    recipe: DataRecipe,
    places: Places,
    task: str,
    spec: InputSpec | None = None,
    *,
    limit: int | None = None,
) -> Data:
    """The data that `recipe` names, from its place, or downloaded; raises `TrainingError`.

    The first of `places` is its own, the next are those of its further sources, `also`.

    All pictures are prepared by `task`, as in serving, for the input `spec`, or by default for
    the recipe's. With a `limit`, no part has more than so many pictures.

    Training pictures that the validation or the test part holds too, pixel by pixel, are left
    out: accuracy on pictures seen in training says nothing. MNIST, which has none, isn't searched.
    """
    first, *others = _places(recipe, places)
    preparer = _preparer(recipe, task, spec, limit)
    given = _given(recipe, first, preparer)
    data = _data(given, divide(given, recipe), recipe, preparer)
    return _completed(data, recipe, others, preparer)


def folds(
    recipe: DataRecipe,
    places: Places,
    task: str,
    how: Literal["subject", "stratified", "random"],
    *,
    limit: int | None = None,
) -> Iterator[Data]:
    """The data of each of the recipe's `folds`, as of `load`, which is read once.

    `how` they are made, see `splits.by_fold`. Raises `TrainingError`.
    """
    first, *others = _places(recipe, places)
    preparer = _preparer(recipe, task, None, limit)
    given = _given(recipe, first, preparer)
    for index in range(recipe.folds):
        parts = by_fold(given, replace(recipe, fold=index), how)
        yield _completed(_data(given, parts, recipe, preparer), recipe, others, preparer)


def _places(recipe: DataRecipe, places: Places) -> list[Path | None]:
    """The place of each source of `recipe`, none where it is to be downloaded."""
    given = [places] if places is None or isinstance(places, Path) else list(places)
    if len(given) > 1 + len(recipe.also):
        raise TrainingError(
            f"--data is given {len(given)} times, but the recipe's data has "
            f"{1 + len(recipe.also)} source(s): add a table [[data.also]] for each further one"
        )
    return [*given, *[None] * (1 + len(recipe.also) - len(given))]


def _completed(
    data: Data, recipe: DataRecipe, places: Sequence[Path | None], preparer: Preparer
) -> Data:
    """`data` with the pictures of its further sources, and its class of rejects set apart."""
    names = list(data.labels)
    if recipe.reject:
        names = [*(name for name in names if name != recipe.reject), recipe.reject]
        data = relabelled(data, names)
    for source, place in zip(recipe.also, places, strict=True):
        own = _preparer(source, preparer.task.name, preparer.spec, preparer.limit)
        given = _given(source, place, own)
        further = _data(given, divide(given, source), source, own)
        further = relabelled(further, names)
        repeated = torch.arange(len(further.training)).repeat(source.times)
        further = dataclass_replace(further, training=further.training.subset(repeated))
        data = joined(data, further, source.name)
    if recipe.reject:
        data = dataclass_replace(data, labels=names[:-1], rejects=True)
    return data


def _given(recipe: DataRecipe, folder: Path | None, preparer: Preparer) -> Given:
    given = DATASETS[recipe.name](recipe, folder, preparer)
    preparer.check(recipe.most_skipped)
    return given


def _data(given: Given, parts: Split, recipe: DataRecipe, preparer: Preparer) -> Data:
    """The `parts` without duplicates, at most as large as the limit."""
    training, left_out = parts.training, 0
    if recipe.name != "mnist":
        held = [parts.validation, parts.test, *given.others.values()]
        seen = duplicates(training, held)
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
        [recipe.rename.get(name, name) for name in given.labels],
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
        is_small = recipe.name in (*mnist.FAMILY, "strokes")
        size = recipe.size or (mnist.SIZE if is_small else OTHER_SIZE)
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

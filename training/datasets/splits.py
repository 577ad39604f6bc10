"""How a data set is split into its training, validation and test parts."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.datasets.parts import Part
from training.errors import TrainingError
from training.recipe import DataRecipe

FEWEST_FOLDS = 3  # one tests, one validates, the others train


@dataclass(frozen=True)
class Given:
    """A data set as it was read, before it is split.

    `whole` is what missing parts are split off; `held` are the parts "validation" and "test" that
    the data has itself, and `others` are further test parts. `description` is for the card.
    `subjects` are the people in the pictures of `whole`, if known; else they are what the file
    `names` of `whole` begin with. `synthetic` is added to the training part.
    """

    labels: list[str]
    whole: Part
    held: Mapping[str, Part] = field(default_factory=dict)
    description: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Part] = field(default_factory=dict)
    names: Sequence[str] = ()
    subjects: Sequence[str] = ()
    synthetic: Part | None = None


@dataclass(frozen=True)
class Split:
    """Training, validation and test part, and `how` they came about."""

    training: Part
    validation: Part
    test: Part
    how: dict[str, Any]


def divide(given: Given, recipe: DataRecipe) -> Split:
    """Splits what was `given` as the recipe says; raises `TrainingError`."""
    if recipe.split == "random":
        return by_share(given, recipe)
    return by_fold(given, recipe, recipe.split)


def by_share(given: Given, recipe: DataRecipe) -> Split:
    """Splits off the parts that are missing, keeping the classes' shares where that is possible."""
    how, whole, held = [], given.whole, dict(given.held)
    for kind, share in (("test", recipe.test), ("validation", recipe.validation)):
        if kind in held:
            how.append(f"{kind} as given")
            continue
        if not 0 < share < len(whole):
            raise TrainingError(
                f"“data.{kind}” is {share:g}, but there are {len(whole)} pictures; a share "
                "below 1 or a smaller number of pictures is needed"
            )
        rest, out = split(whole.labels, share, recipe.split_seed)
        whole, held[kind] = whole.subset(rest), whole.subset(out)
        how.append(f"{kind} split off at random, stratified, seed {recipe.split_seed}")
    return Split(whole, held["validation"], held["test"], {"split": "; ".join(how)})


def by_fold(given: Given, recipe: DataRecipe, kind: str) -> Split:
    """Fold `recipe.fold` of `recipe.folds` tests, the next one validates, the rest trains.

    `kind` says how folds are made: "subject" (no person is in two of them), "stratified" (each
    has the classes' shares) or "random".
    """
    if given.held:
        raise TrainingError(
            f"the data has its own {' and '.join(given.held)} part, so it cannot be split into "
            "folds; set “data.split” to random, or give pictures that are not yet split"
        )
    whole, subjects = given.whole, _subjects(given) if kind == "subject" else None
    folds = _folds(whole.labels, kind, recipe, subjects)
    test, validation = folds[recipe.fold], folds[(recipe.fold + 1) % recipe.folds]
    if not recipe.tests:
        test, validation = test[:0], test
    rest = torch.ones(len(whole), dtype=torch.bool)
    rest[torch.cat([test, validation])] = False
    does = "tests, the next validates" if recipe.tests else "validates"
    how: dict[str, Any] = {
        "split": f"{'by subject' if kind == 'subject' else kind}: fold {recipe.fold} of "
        f"{recipe.folds} {does}, seed {recipe.split_seed}"
    }
    if subjects is not None:
        how["held_out"] = sorted({subjects[at] for at in [*test.tolist(), *validation.tolist()]})
        how["subjects"] = len(set(subjects))
    return Split(whole.subset(rest), whole.subset(validation), whole.subset(test), how)


def _subjects(given: Given) -> Sequence[str]:
    if not given.subjects and not given.names:
        raise TrainingError(
            "this data does not say who is in which picture; set “data.split” to stratified"
        )
    return given.subjects or [subject(name) for name in given.names]


def _folds(
    labels: Tensor, kind: str, recipe: DataRecipe, subjects: Sequence[str] | None
) -> list[Tensor]:
    """The indices of each fold; raises `TrainingError`."""
    from sklearn.model_selection import (  # noqa: PLC0415
        KFold,
        StratifiedGroupKFold,
        StratifiedKFold,
    )

    count = len(labels) if subjects is None else len(set(subjects))
    what = "pictures" if subjects is None else "groups"
    if count < recipe.folds:  # not every scikit-learn version checks this
        fewer = f"; set “data.folds” to {count} or less" if count >= FEWEST_FOLDS else ""
        raise TrainingError(f"cannot split {count} {what} into {recipe.folds} folds{fewer}")
    if kind == "stratified" and (rarest := int(labels.bincount().max())) < recipe.folds:
        raise TrainingError(
            f"the largest class has {rarest} pictures, fewer than the {recipe.folds} folds; lower "
            "“data.folds”, or set “data.split” to random"
        )
    makers = {
        "random": KFold,
        "stratified": StratifiedKFold,
        "subject": StratifiedGroupKFold,
    }
    splitter = makers[kind](recipe.folds, shuffle=True, random_state=recipe.split_seed)
    groups = None if subjects is None else np.asarray(subjects)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # it has its share or none
        parts = list(splitter.split(labels, labels, groups=groups))
    return [torch.from_numpy(np.sort(out)) for _, out in parts]


def split(labels: Tensor, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of a seeded split that keeps the labels' shares: (the rest, the held out).

    `held_out` is a number of pictures, or, below 1, a share; at least one picture is held out.
    Where there are too few pictures to give each class its share, some classes are held out in
    part only, and one picture of each stays in the rest. Raises `TrainingError`.
    """
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    count = max(1, round(held_out * len(labels)) if held_out < 1 else int(held_out))
    try:
        rest, out = train_test_split(
            np.arange(len(labels)), test_size=count, random_state=seed, stratify=labels.numpy()
        )
        if len(labels[rest].unique()) == len(labels.unique()):
            return torch.from_numpy(np.sort(rest)), torch.from_numpy(np.sort(out))
    except ValueError:
        pass
    classes = len(labels.unique())
    if count > len(labels) - classes:
        raise TrainingError(
            f"cannot hold out {count} of {len(labels)} pictures, since each of the {classes} "
            "classes needs one to train on; lower “data.validation” or “data.test”, or add pictures"
        )
    held = torch.zeros(len(labels), dtype=torch.bool)
    held[_evenly(labels, seed, but_one=True)[:count]] = True
    indices = torch.arange(len(labels))
    return indices[~held], indices[held]


def sample(labels: Tensor, count: int, seed: int) -> Tensor:
    """Sorted indices of at most `count` pictures in which each label has about its share."""
    return _evenly(labels, seed)[:count].sort().values


def _evenly(labels: Tensor, seed: int, *, but_one: bool = False) -> Tensor:
    """Indices in a random order of whose every beginning each label has about its share.

    With `but_one`, one picture of each label is left out.
    """
    random = np.random.default_rng(seed)
    keys = np.empty(len(labels))
    for places in _places(labels):
        random.shuffle(places)
        keys[places] = (np.arange(len(places)) + random.random(len(places))) / len(places)
        if but_one:
            keys[places[-1]] = np.inf
    order = np.argsort(keys, kind="stable")
    return torch.from_numpy(order[: int(np.isfinite(keys).sum())])


def _places(labels: Tensor) -> list[Any]:
    """The indices of each label that occurs."""
    order = np.argsort(labels.numpy(), kind="stable")
    ends = np.cumsum(np.bincount(labels.numpy()))
    return [places for places in np.split(order, ends[:-1]) if len(places)]


def needed(recipe: DataRecipe, limit: int) -> int:
    """How many pictures a training part of `limit` and what is split off beside it take."""
    if recipe.split != "random":
        return math.ceil(limit * recipe.folds / (recipe.folds - 2))
    count = float(limit)
    for held in (recipe.validation, recipe.test):
        count = count / (1 - held) if held < 1 else count + held
    return math.ceil(count)


def subject(name: str) -> str:
    """The person in the file `name`: the part before its first "_" (S010_004_00000017.png)."""
    match = re.match(r"[^_.]+(?=_)", name)
    if match is None:
        raise TrainingError(
            f"the file name {name} does not begin with its subject (as S010_… does); rename "
            "the files, or use “split” random"
        )
    return match.group()

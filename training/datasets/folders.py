"""Any tree with a folder of pictures for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from training.datasets.parts import Data, Part, Preparer, fold, split, subject
from training.errors import TrainingError
from training.recipe import DataRecipe

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"}
VALIDATION_NAMES = ("validation", "val", "valid")


def load(recipe: DataRecipe, folder: Path | None, preparer: Preparer) -> Data:
    """Pictures from ``folder/<class>/``, or from ``train/<class>/`` and ``test/<class>/`` in it.

    Without test or validation folders those parts are split off: `recipe.split` "random" is
    stratified by class; "subject" puts whole people into fold `recipe.fold` of `recipe.folds`
    for the test and the next fold for validation, by what file names begin with. Raises
    `TrainingError`.
    """
    if folder is None or not folder.is_dir():
        raise TrainingError(
            f"--data: there is no folder {folder or ''}; name one that holds a folder of pictures "
            "for each class"
        )
    whole = folder / "train" if (folder / "train").is_dir() else folder
    names = recipe.classes or classes(whole)
    given, subjects = read(whole, names, preparer, by_subject=recipe.split == "subject")
    held: dict[str, Part] = {}
    if whole != folder:
        for kind, places in (("test", ("test",)), ("validation", VALIDATION_NAMES)):
            for place in places:
                if (folder / place).is_dir():
                    held[kind] = read(folder / place, names, preparer, by_subject=False)[0]
    if recipe.split == "subject":
        if held:
            raise TrainingError(f"{folder} has its own test or validation part; set “split” random")
        return _by_subject(recipe, names, given, subjects)
    return split_off(recipe, names, given, held)


def split_off(recipe: DataRecipe, names: list[str], given: Part, held: dict[str, Part]) -> Data:
    """The parts of `given`, with the missing ones split off at random."""
    how = []
    for kind, share in (("test", recipe.test), ("validation", recipe.validation)):
        if kind not in held:
            if not 0 < share < len(given):
                raise TrainingError(
                    f"“data.{kind}” is {share:g}, but there are {len(given)} pictures; a share "
                    "below 1 or a smaller number of pictures is needed"
                )
            rest, out = split(given.labels, share, recipe.split_seed)
            given, held[kind] = given.subset(rest), given.subset(out)
            how.append(f"{kind} split off at random, stratified, seed {recipe.split_seed}")
        else:
            how.append(f"{kind} as given")
    description = {"name": "folders of pictures", "split": "; ".join(how)}
    return Data(names, given, held["validation"], held["test"], description)


def _by_subject(recipe: DataRecipe, names: list[str], given: Part, subjects: list[str]) -> Data:
    """Splits by person: fold `recipe.fold` tests, the next one validates, the rest trains."""

    def part(index: int) -> torch.Tensor:
        index %= recipe.folds
        return fold(given.labels, subjects, recipe.folds, index, recipe.split_seed)[1]

    test, validation = part(recipe.fold), part(recipe.fold + 1)
    rest = torch.ones(len(given), dtype=torch.bool)
    rest[torch.cat([test, validation])] = False
    description = {
        "name": "folders of pictures",
        "split": f"by subject: fold {recipe.fold} of {recipe.folds} tests, the next validates, "
        f"seed {recipe.split_seed}",
        "subjects": len(set(subjects)),
    }
    return Data(
        names, given.subset(rest), given.subset(validation), given.subset(test), description
    )


def classes(folder: Path) -> list[str]:
    """The names of the folders in `folder`, sorted; at least two."""
    names = sorted(
        place.name
        for place in folder.iterdir()
        if place.is_dir() and not place.name.startswith((".", "_"))
    )
    if len(names) < 2:
        raise TrainingError(
            f"{folder} must hold a folder of pictures for each of two classes or more"
        )
    return names


def read(
    folder: Path, names: list[str], preparer: Preparer, *, by_subject: bool
) -> tuple[Part, list[str]]:
    """All pictures in the folders `names`, and the person in each one (where `by_subject`)."""
    pictures, labels, subjects = [], [], []
    for label, name in enumerate(names):
        place = folder / name
        if not place.is_dir():
            raise TrainingError(f"{folder} lacks the folder “{name}”")
        files = sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise TrainingError(f"{place} holds no picture")
        for file in files:
            pictures.append(preparer.file(file))
            labels.append(label)
            if by_subject:
                subjects.append(subject(file.name))
    return Part(torch.from_numpy(np.stack(pictures)), torch.tensor(labels)), subjects

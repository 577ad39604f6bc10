"""Any tree with a folder of pictures for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from training.datasets.layout import WANTED, is_picture, part_of, pictures_in, unwrapped, visible
from training.datasets.parts import Part
from training.datasets.preparer import Preparer
from training.datasets.splits import Given, needed, sample
from training.errors import TrainingError
from training.recipe import DataRecipe


def load(recipe: DataRecipe, folder: Path, preparer: Preparer) -> Given:
    """Pictures from ``folder/<class>/``, or from ``train/<class>/`` and ``test/<class>/`` in it.

    A class's pictures may be in folders of its own folder. Raises `TrainingError`.
    """
    folder = unwrapped(folder)
    places = parts_in(folder)
    whole = unwrapped(places.pop("training", folder), "training")
    names = recipe.classes or classes(whole)
    count = None if preparer.limit is None else needed(recipe, preparer.limit)
    given, used = read(some(listed(whole, names), count), whole, preparer)
    lost = set(range(len(names))).difference(given.labels.tolist())
    if lost and count is None:
        raise TrainingError(f"none of the pictures in {whole / names[min(lost)]} can be used")
    held = {}
    for kind, outer in places.items():
        place = unwrapped(outer, kind)
        unknown = [each.name for each in folders_in(place) if each.name not in names]
        if unknown and not recipe.classes:
            raise TrainingError(
                f"{place} has the folder “{unknown[0]}”, but {whole} has none of that name: give "
                "the class the same name in both, or remove it"
            )
        files = some(listed(place, names, whole=False), preparer.limit)
        held[kind] = read(files, place, preparer)[0]
    description = {"name": "folders of pictures"}
    return Given(names, given, held, description, names=[file.name for file in used])


def parts_in(folder: Path) -> dict[str, Path]:
    """The folders of the parts in `folder`, if it has a training part; else none.

    A folder "train" among others that are no parts may be a class.
    """
    found: dict[str, list[Path]] = {}
    others = False
    for place in folders_in(folder):
        if kind := part_of(place.name):
            found.setdefault(kind, []).append(place)
        else:
            others = True
    if not found or (others and len(found) == 1):
        return {}
    if "training" not in found:
        if others:
            return {}
        raise TrainingError(f"{folder} has no folder “train”; wanted is{WANTED}")
    for kind, places in found.items():
        if len(places) > 1:
            raise TrainingError(
                f"{folder} has two folders for the {kind} part, {places[0].name} and "
                f"{places[1].name}: put their pictures together, or remove one"
            )
    return {kind: places[0] for kind, places in found.items()}


def folders_in(folder: Path) -> list[Path]:
    """The folders in `folder`, sorted, without hidden and system ones."""
    return [place for place in visible(folder) if place.is_dir()]


def classes(folder: Path) -> list[str]:
    """The names of the folders in `folder`, sorted; at least two."""
    names = [place.name for place in folders_in(folder)]
    if len(names) < 2:
        loose = sum(is_picture(place.name) for place in visible(folder))
        has = f"{loose} pictures and " if loose else ""
        raise TrainingError(
            f"{folder} must hold a folder of pictures for each of two classes or more, but it has "
            f"{has}{len(names) or 'no'} folder{'' if len(names) == 1 else 's'}; wanted is{WANTED}"
        )
    for name in names:
        if not name.isprintable():
            raise TrainingError(
                f"{folder}: the folder {name!r} has a name that cannot be shown; rename it"
            )
    return names


def listed(folder: Path, names: Sequence[str], *, whole: bool = True) -> list[tuple[Path, int]]:
    """The pictures in the folders `names`, and their labels.

    If it is the `whole` data, each class must have pictures.
    """
    files = []
    for label, name in enumerate(names):
        place = folder / name
        if whole and not place.is_dir():
            raise TrainingError(f"{folder} lacks the folder “{name}”")
        found = [(file, label) for file in pictures_in(place)]
        if whole and not found:
            raise TrainingError(f"{place} holds no picture; add some, or remove the folder")
        files += found
    if not files:
        raise TrainingError(f"{folder} holds no picture of any class; wanted is{WANTED}")
    return files


def some(files: list[tuple[Path, int]], count: int | None) -> list[tuple[Path, int]]:
    """At most `count` of the files, of each label about its share."""
    if count is None:
        return files
    labels = torch.tensor([label for _, label in files])
    return [files[index] for index in sample(labels, count, 0).tolist()]


def read(
    files: Sequence[tuple[Path, int]], folder: Path, preparer: Preparer
) -> tuple[Part, list[Path]]:
    """Those of `files`, pictures with their labels, that can be used."""
    source, kept = preparer.files([file for file, _ in files], folder)
    used = [files[index] for index in kept]
    return Part(source, torch.tensor([label for _, label in used])), [file for file, _ in used]

"""Your own pictures: in folders, in a table or in arrays, whichever is there."""

from __future__ import annotations

from pathlib import Path

from training.datasets import arrays, folders, tables
from training.datasets.layout import WANTED, unwrapped, visible
from training.datasets.preparer import Preparer
from training.datasets.splits import Given
from training.errors import TrainingError
from training.recipe import DataRecipe


def load(recipe: DataRecipe, place: Path | None, preparer: Preparer) -> Given:
    """The pictures at `place`, a folder or a file; raises `TrainingError`.

    See `folders.load`, `tables.load` and `arrays.load` for what it may hold.
    """
    if place is None or not place.exists():
        raise TrainingError(f"--data: there is no {place or 'data'}; wanted is{WANTED}")
    if place.is_file():
        if place.suffix == ".npz":
            return arrays.load(recipe, place, preparer)
        if tables.is_table(place):
            return tables.load(recipe, [place], preparer)
        unpack = "unpack it first, and " if place.suffix in (".zip", ".tar", ".gz", ".7z") else ""
        raise TrainingError(f"--data: {place} is a file; {unpack}name a folder; wanted is{WANTED}")
    folder = unwrapped(place)
    if arrays.is_there(folder):
        return arrays.load(recipe, folder, preparer)
    inside = folders.folders_in(folder)
    found = tables.find(folder)
    # Beside folders of classes, a table may tell something else.
    if found and (len(inside) < 2 or tables.leads_to_pictures(found[0])):
        return tables.load(recipe, found, preparer)
    others = [each for each in visible(folder) if tables.is_table(each)]
    if others and not inside:
        return tables.load(recipe, others[:1], preparer)  # says which columns are missing
    return folders.load(recipe, place, preparer)

"""Data that comes as NumPy arrays: one of pictures and one of labels for each part."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.datasets.layout import WANTED, part_of, visible
from training.datasets.parts import Part
from training.datasets.preparer import Preparer
from training.datasets.splits import Given
from training.errors import TrainingError
from training.recipe import DataRecipe

PICTURES = {"data", "images", "image", "pictures", "x"}
LABELS = {"labels", "label", "targets", "target", "y"}

Array = NDArray[Any]


def is_there(folder: Path) -> bool:
    """Whether `folder` holds arrays: .npy files of known names, or one .npz file."""
    return _npz(folder) is not None or any(
        place.suffix == ".npy" and _role(place.stem) for place in visible(folder)
    )


def load(recipe: DataRecipe, place: Path, preparer: Preparer) -> Given:
    """Arrays from a .npz file, or a folder that holds one, or .npy files.

    They are named as by Keras (``x_train``, ``y_train``), MedMNIST (``train_images``,
    ``train_labels``) or ``train_data`` and ``train_labels``; likewise for "val" and "test", which
    are split off where they are missing. Pictures are (N, H, W), (N, H, W, C) or (N, C, H, W)
    with 1 or 3 channels, uint8 or numbers in 0..1 or 0..255, of any size. Labels are (N,) or
    (N, 1), whole numbers or names, or one-hot (N, K). Raises `TrainingError`.
    """
    arrays = _read(place)
    found: dict[str, dict[str, str]] = {}
    for name in arrays:
        if role := _role(name):
            kind, what = role
            if what in found.setdefault(kind, {}):
                raise TrainingError(
                    f"{place} holds {found[kind][what]} and {name} for the {kind} part: keep one"
                )
            found[kind][what] = name
    if "pictures" not in found.get("training", {}):
        known = ", ".join(arrays) or "no array"
        raise TrainingError(f"{place} holds {known}, but no x_train; wanted is{WANTED}")
    labels: dict[str, Array] = {}
    sources = {}
    for kind, names in found.items():
        if len(names) < 2:
            missing = "labels" if "pictures" in names else "pictures"
            example = names.get("pictures", names.get("labels", ""))
            raise TrainingError(
                f"{place} holds {example} but no {missing} for it: add "
                f"{_partner(example)}, or remove {example}"
            )
        pictures = _Pictures(arrays[names["pictures"]], names["pictures"])
        labels[kind] = _labels(arrays[names["labels"]], len(pictures), names["labels"])
        sources[kind] = preparer.array(pictures, names["pictures"])
    classes, numbers = numbered(labels, recipe.classes, str(place))
    parts = {kind: Part(sources[kind], torch.from_numpy(numbers[kind])) for kind in sources}
    return Given(classes, parts.pop("training"), parts, {"name": "arrays"})


def _role(name: str) -> tuple[str, str] | None:
    """The part that an array of that name is of, and whether it is its "pictures" or "labels"."""
    words = set(re.split(r"[\W_]+", name.casefold()))
    kind = part_of(name) or "training"
    if words & LABELS:
        return kind, "labels"
    return (kind, "pictures") if words & PICTURES else None


def _partner(name: str) -> str:
    """The name that belongs with the array `name`."""
    pairs = {"data": "labels", "images": "labels", "image": "label", "pictures": "labels",
             "x": "y", "X": "y"}  # fmt: skip
    words = re.split(r"([\W_]+)", name)
    other = {**pairs, **{right: left for left, right in pairs.items()}, "y": "x"}
    return "".join(other.get(word, word) for word in words)


def _npz(folder: Path) -> Path | None:
    """The only .npz file in `folder`."""
    files = [place for place in visible(folder) if place.suffix == ".npz"]
    return files[0] if len(files) == 1 else None


def _read(place: Path) -> Mapping[str, Array]:
    try:
        if place.is_dir():
            if (file := _npz(place)) is not None:
                return _read(file)
            files = {file.stem: file for file in visible(place) if file.suffix == ".npy"}
            return {
                name: np.load(file, allow_pickle=False, mmap_mode="r")
                for name, file in files.items()
                if _role(name)
            }
        # NumPy leaves a damaged file open if it has opened it itself.
        with place.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
            if isinstance(arrays, np.ndarray):
                raise TrainingError(
                    f"{place} holds a single array; name a .npz file, or the folder that holds "
                    "x_train.npy and y_train.npy"
                )
            names = list(arrays)
            return {name: arrays[name] if _role(name) else np.empty(0) for name in names}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{place}: cannot read its arrays ({error})") from error


class _Pictures:
    """Pictures of any accepted form, each given as uint8 (H, W), (H, W, 3) or (H, W, 4).

    Raises `TrainingError` for others.
    """

    def __init__(self, values: Array, name: str) -> None:
        if values.ndim == 4 and values.shape[-1] not in (1, 3, 4) and values.shape[1] in (1, 3, 4):
            values = values.transpose(0, 2, 3, 1)
        if values.ndim == 3:
            values = values[..., np.newaxis]
        if values.ndim != 4 or values.shape[-1] not in (1, 3, 4) or not values.size:
            raise TrainingError(
                f"{name} has the shape {values.shape}; expected (N, H, W), (N, H, W, C) or "
                "(N, C, H, W) with 1 or 3 channels"
            )
        self.values = values[..., 0] if values.shape[-1] == 1 else values
        self.scale = 1
        if values.dtype == np.uint8:
            return
        lowest, highest = _range(values)
        # What is boolean, or a float that never exceeds 1, counts from black to white.
        if values.dtype.kind == "b" or (values.dtype.kind == "f" and highest <= 1):
            self.scale = 255
        if values.dtype.kind not in "biuf" or not (lowest >= 0 and highest * self.scale <= 255):
            raise TrainingError(
                f"{name}, of type {values.dtype}, holds {lowest:g} to {highest:g}; give uint8, or "
                "numbers in 0 to 1 or 0 to 255"
            )

    def __len__(self) -> int:
        return len(self.values)

    def __contains__(self, picture: object) -> bool:
        return False

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for picture in self.values:
            is_ready = picture.dtype == np.uint8
            values = picture if is_ready else np.round(picture * float(self.scale))
            yield np.ascontiguousarray(values, np.uint8)


def _range(values: Array) -> tuple[float, float]:
    """The lowest and the highest value, picture by picture, so that none is copied."""
    if values.dtype.kind not in "biuf":
        return float("nan"), float("nan")
    lowest = min(float(picture.min()) for picture in values)
    highest = max(float(picture.max()) for picture in values)
    return lowest, highest


def _labels(values: Array, count: int, name: str) -> Array:
    """Labels as (N,): whole numbers or names; raises `TrainingError`."""
    if values.shape == (count, 1):
        values = values[:, 0]
    is_hot = values.ndim == 2 and values.shape[0] == count and values.dtype.kind in "biuf"
    if is_hot and ((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all():
        return np.asarray(values.argmax(1))
    if values.shape == (count,) and values.dtype.kind == "f" and (values == np.round(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    if values.shape != (count,) or values.dtype.kind not in "iubU":
        raise TrainingError(
            f"{name} has the shape {values.shape} and type {values.dtype}; expected {count} whole "
            f"numbers or names, or one-hot rows ({count}, K)"
        )
    return np.asarray(values)


def numbered(
    labels: Mapping[str, Array], classes: list[str], place: str
) -> tuple[list[str], dict[str, NDArray[np.int64]]]:
    """The classes' names, and each part's labels (N,) as their places among these.

    Whole numbers count from 0 in `classes`, if these are given. Raises `TrainingError`.
    """
    all_labels = np.concatenate([np.asarray(each) for each in labels.values()])
    if classes and all_labels.dtype.kind in "iub":
        if all_labels.min() < 0 or all_labels.max() >= len(classes):
            raise TrainingError(
                f"{place} holds the labels {all_labels.min()} to {all_labels.max()}, but "
                f"“data.classes” names {len(classes)}: labels must be whole numbers from 0 to "
                f"{len(classes) - 1}"
            )
        return classes, {kind: each.astype(np.int64) for kind, each in labels.items()}
    texts = {kind: each.astype(all_labels.dtype).tolist() for kind, each in labels.items()}
    known = classes or sorted(set(texts["training"]))
    if len(known) < 2:
        raise TrainingError(f"{place} holds the label {known[0]} only; give two classes or more")
    order = {each: at for at, each in enumerate(known)}
    for kind, values in texts.items():
        for each in values:
            if each not in order:
                where = "in “data.classes”" if classes else "among those to train on"
                raise TrainingError(
                    f"{place}: the {kind} part holds the label “{each}”, which is not {where}: "
                    "add it there, or correct it"
                )
    return [str(each) for each in known], {
        kind: np.array([order[each] for each in values], np.int64) for kind, values in texts.items()
    }

"""Data that comes as NumPy arrays: train_data and train_labels, and perhaps val_ and test_."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.datasets.folders import split_off
from training.datasets.parts import Data, Part, Preparer
from training.errors import TrainingError
from training.recipe import DataRecipe

PREFIXES = {"train": "training", "val": "validation", "validation": "validation", "test": "test"}


def load(recipe: DataRecipe, folder: Path | None, preparer: Preparer) -> Data:
    """Arrays ``train_data`` and ``train_labels`` from a .npz file, or .npy files in a folder.

    ``val_data``, ``val_labels``, ``test_data`` and ``test_labels`` are taken where they are, else
    split off. Pictures are (N, H, W), (N, H, W, 1) or (N, H, W, 3), uint8 or floats in 0..1, of
    any size; labels are whole numbers from 0, (N,) or (N, 1). Raises `TrainingError`.
    """
    if folder is None or not folder.exists():
        raise TrainingError(
            f"--data: there is no {folder or ''}; name a .npz file, or a folder that holds "
            "train_data.npy and train_labels.npy"
        )
    arrays = _read(folder)
    parts: dict[str, Part] = {}
    for prefix, kind in PREFIXES.items():
        if f"{prefix}_data" in arrays:
            if f"{prefix}_labels" not in arrays:
                raise TrainingError(f"{folder} holds {prefix}_data but no {prefix}_labels")
            name = f"{prefix}_data"
            pictures = preparer.array(_pictures(arrays[name], name), name)
            labels = _labels(arrays[f"{prefix}_labels"], len(pictures), f"{prefix}_labels")
            parts[kind] = Part(pictures, labels)
    if "training" not in parts:
        raise TrainingError(f"{folder} holds no train_data")
    highest = max(int(part.labels.max()) for part in parts.values())
    names = recipe.classes or [str(number) for number in range(highest + 1)]
    if highest >= len(names):
        raise TrainingError(
            f"{folder} holds the label {highest}, but “data.classes” names only {len(names)}"
        )
    training = parts.pop("training")
    data = split_off(recipe, names, training, parts)
    return Data(
        names, data.training, data.validation, data.test, {**data.description, "name": "arrays"}
    )


def _read(place: Path) -> dict[str, NDArray[Any]]:
    known = [f"{prefix}_{what}" for prefix in PREFIXES for what in ("data", "labels")]
    try:
        if place.is_dir():
            files = {name: place / f"{name}.npy" for name in known}
            found = {name: file for name, file in files.items() if file.is_file()}
            return {name: np.load(file, allow_pickle=False) for name, file in found.items()}
        # NumPy leaves a damaged file open if it has opened it itself.
        with place.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in known if name in arrays}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{place}: cannot read its arrays ({error})") from error


def _pictures(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Any accepted form as uint8 (N, H, W) or (N, H, W, 3); raises `TrainingError`."""
    if values.ndim == 3:
        values = values[..., np.newaxis]
    if values.ndim != 4 or values.shape[-1] not in (1, 3) or not values.size:
        raise TrainingError(
            f"{name} has the shape {values.shape}; expected (N, H, W), (N, H, W, 1) or (N, H, W, 3)"
        )
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise TrainingError(f"{name} holds floats outside 0 to 1; give 0 to 1, or uint8")
        values = np.round(values * 255).astype(np.uint8)
    elif values.dtype != np.uint8:
        raise TrainingError(f"{name} is of type {values.dtype}; give uint8, or floats in 0 to 1")
    return values[..., 0] if values.shape[-1] == 1 else values


def _labels(values: NDArray[Any], count: int, name: str) -> Tensor:
    if values.shape == (count, 1):
        values = values[:, 0]
    if values.shape != (count,) or values.dtype.kind not in "iu" or values.min() < 0:
        raise TrainingError(
            f"{name} has the shape {values.shape} and type {values.dtype}; expected {count} whole "
            "numbers from 0"
        )
    return torch.from_numpy(values.astype(np.int64))

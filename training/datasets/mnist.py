"""MNIST, from its four IDX files."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.datasets.parts import Data, Part, Preparer, split
from training.errors import TrainingError
from training.handwriting import write
from training.recipe import DataRecipe

SIZE = 28  # pixels a side

MNIST_FILES = {
    True: ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    False: ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def load(recipe: DataRecipe, folder: Path | None, preparer: Preparer) -> Data:
    """MNIST from `folder`, or else downloaded; raises `TrainingError`."""
    if recipe.handwriting and preparer.spec.shape != (1, SIZE, SIZE):
        raise TrainingError(
            f"synthetic handwriting is grey, of {SIZE} × {SIZE} pixels: set “data.handwriting” to "
            "0, or leave “data.size” and “data.channels” out"
        )
    given = _part(folder, preparer, train=True)
    test = _part(folder, preparer, train=False)
    if recipe.validation >= len(given):
        raise TrainingError(
            f"data.validation is {recipe.validation:g}, but there are {len(given)} pictures for "
            "training"
        )
    rest, held_out = split(given.labels, recipe.validation, recipe.split_seed)
    training = given.subset(rest)
    if recipe.handwriting:
        pictures, labels = write(recipe.handwriting, recipe.split_seed)
        training = Part(
            torch.cat([training.pictures, pictures]), torch.cat([training.labels, labels])
        )
    return Data(
        labels=[str(digit) for digit in range(10)],
        training=training,
        validation=given.subset(held_out),
        test=test,
        description={
            "name": "MNIST (LeCun, Cortes, Burges)",
            "training": len(rest),
            "handwriting": recipe.handwriting,
            "validation": len(held_out),
            "test": len(test),
            "split": f"stratified, seed {recipe.split_seed}; the test part as published",
            "test_sha256": hashlib.sha256(test.pictures.numpy().tobytes()).hexdigest(),
        },
        synthetic=range(len(rest), len(training)),
    )


def _part(folder: Path | None, preparer: Preparer, *, train: bool) -> Part:
    pictures, labels = load_mnist(folder, train=train)
    name = "MNIST's training part" if train else "MNIST's test part"
    return Part(preparer.array(pictures[:, 0].numpy(), name), labels)


def load_mnist(folder: Path | None, *, train: bool) -> tuple[Tensor, Tensor]:
    """MNIST's training or test part: uint8 (N, 1, 28, 28) and int64 (N,).

    `folder` holds the IDX files, gzipped or not, or torchvision's MNIST/raw; without one they
    are downloaded into ``data/`` by torchvision. Raises `TrainingError`.
    """
    if folder is None:
        folder = _downloaded()
    elif not folder.is_dir():
        raise TrainingError(f"--data: there is no folder {folder}")
    images, labels = (_find(folder, name) for name in MNIST_FILES[train])
    pictures, targets = _idx(images, 3), _idx(labels, 1)
    if pictures.shape[1:] != (SIZE, SIZE) or len(pictures) != len(targets) or not len(targets):
        raise TrainingError(
            f"{images} holds {tuple(pictures.shape)} and {labels} {tuple(targets.shape)}; "
            "expected (N, 28, 28) and (N,): download the files again"
        )
    if targets.max() > 9:
        raise TrainingError(f"{labels} holds labels above 9: download it again")
    return torch.from_numpy(pictures).unsqueeze(1), torch.from_numpy(targets.astype(np.int64))


def _downloaded() -> Path:
    """``data/`` with MNIST in it: torchvision fetches what is missing."""
    from torchvision.datasets import MNIST  # noqa: PLC0415

    folder = Path("data")
    names = (name for part in MNIST_FILES.values() for name in part)
    if all((folder / "MNIST" / "raw" / name).is_file() for name in names):
        return folder
    try:
        MNIST(folder, download=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise TrainingError(
            f"MNIST could not be downloaded into {folder.resolve()} ({reason}); "
            "go online, or use --data to name a folder with its four files"
        ) from error
    return folder


def _find(folder: Path, name: str) -> Path:
    for place in (folder, folder / "MNIST" / "raw", folder / "raw"):
        for file in (place / name, place / f"{name}.gz"):
            if file.is_file():
                return file
    raise TrainingError(f"{folder} holds no {name} (nor {name}.gz): put MNIST's four files there")


def _idx(file: Path, dimensions: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Reads unsigned bytes in LeCun's IDX format."""
    try:
        content = file.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        kind, *shape = struct.unpack_from(f">{dimensions + 1}I", content)
        if kind != 0x0800 + dimensions:
            raise ValueError(f"its magic number is {kind:#x}")
        values = np.frombuffer(content, np.uint8, offset=4 * (dimensions + 1))
        return np.array(values.reshape(shape))
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise TrainingError(f"{file} is damaged ({error}): download it again") from error

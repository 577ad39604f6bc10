"""MNIST and data sets of its form, each from its four IDX files."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase, digits
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.datasets.parts import Part
from training.datasets.preparer import Preparer
from training.datasets.splits import Given
from training.errors import TrainingError
from training.handwriting import write
from training.recipe import DataRecipe

SIZE = 28  # pixels a side

MNIST_FILES = {
    True: ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    False: ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
EMNIST_FILES = {
    train: (
        f"emnist-letters-{part}-images-idx3-ubyte",
        f"emnist-letters-{part}-labels-idx1-ubyte",
    )
    for train, part in ((True, "train"), (False, "test"))
}

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Member:
    """A data set of MNIST's family: its labels, of which the files number the first as `first`.

    `folder` is torchvision's class of it and that class's folder, with further `options`.
    The pictures in the files may be `transposed`.
    """

    title: str
    credit: str
    folder: str
    files: Mapping[bool, tuple[str, str]]  # of the training and the test part
    labels: Sequence[str]
    first: int = 0
    transposed: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


MNIST = Member("MNIST", "LeCun, Cortes, Burges", "MNIST", MNIST_FILES, digits)
FASHION = Member(
    "Fashion-MNIST",
    "Xiao, Rasul, Vollgraf, 2017; MIT licence",
    "FashionMNIST",
    MNIST_FILES,
    ["T-shirt/top", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
     "ankle boot"],
)  # fmt: skip
LETTERS = Member(
    "EMNIST Letters",
    "Cohen, Afshar, Tapson, van Schaik, 2017",
    "EMNIST",
    EMNIST_FILES,
    ascii_uppercase,  # the files do not tell capital and small letters apart
    first=1,
    transposed=True,
    options={"split": "letters"},
)
FAMILY = {"mnist": MNIST, "fashion": FASHION, "letters": LETTERS}


def load(recipe: DataRecipe, folder: Path | None, preparer: Preparer) -> Given:
    """The data set of `FAMILY` that the recipe names, from `folder`, or else downloaded.

    Raises `TrainingError`.
    """
    member = FAMILY[recipe.name]
    if recipe.handwriting and (member is not MNIST or preparer.spec.shape != (1, SIZE, SIZE)):
        raise TrainingError(
            f"synthetic handwriting is of digits, grey, of {SIZE} × {SIZE} pixels: set "
            "“data.handwriting” to 0, or leave “data.size” and “data.channels” out of a recipe "
            "for mnist"
        )
    test = _part(member, folder, preparer, train=False)
    synthetic = None
    if recipe.handwriting and preparer.limit is None:
        synthetic = Part(*write(recipe.handwriting, recipe.split_seed))
    return Given(
        list(member.labels),
        _part(member, folder, preparer, train=True),
        {"test": test},
        {
            "name": f"{member.title} ({member.credit})",
            "test_sha256": hashlib.sha256(test.pictures.numpy().tobytes()).hexdigest(),
        },
        synthetic=synthetic,
    )


def _part(member: Member, folder: Path | None, preparer: Preparer, *, train: bool) -> Part:
    pictures, labels = read(member, folder, train=train)
    name = f"{member.title}'s {'training' if train else 'test'} part"
    return Part(preparer.array(pictures, name), labels)


def load_mnist(folder: Path | None, *, train: bool) -> tuple[Tensor, Tensor]:
    """MNIST's training or test part: uint8 (N, 1, 28, 28) and int64 (N,); see `read`."""
    pictures, labels = read(MNIST, folder, train=train)
    return torch.from_numpy(pictures).unsqueeze(1), labels


def read(member: Member, folder: Path | None, *, train: bool) -> tuple[Bytes, Tensor]:
    """The training or test part of `member`: uint8 (N, 28, 28), upright, and int64 (N,).

    `folder` holds the IDX files, gzipped or not, or torchvision's folder of them; without one
    they are downloaded into ``data/`` by torchvision. Raises `TrainingError`.
    """
    if folder is None:
        folder = _downloaded(member)
    elif not folder.is_dir():
        raise TrainingError(f"--data: there is no folder {folder}")
    images, labels = (_find(member, folder, name) for name in member.files[train])
    pictures, targets = _idx(images, 3), _idx(labels, 1)
    if pictures.shape[1:] != (SIZE, SIZE) or len(pictures) != len(targets) or not len(targets):
        raise TrainingError(
            f"{images} holds {tuple(pictures.shape)} and {labels} {tuple(targets.shape)}; "
            "expected (N, 28, 28) and (N,): download the files again"
        )
    highest = len(member.labels) - 1 + member.first
    if targets.min() < member.first or targets.max() > highest:
        raise TrainingError(
            f"{labels} holds labels outside {member.first} to {highest}: download it again, or "
            f"check that {folder} is {member.title}"
        )
    if member.transposed:
        pictures = np.ascontiguousarray(pictures.transpose(0, 2, 1))
    return pictures, torch.from_numpy(targets.astype(np.int64) - member.first)


def _downloaded(member: Member) -> Path:
    """``data/`` with the files of `member` in it: torchvision fetches what is missing."""
    import torchvision.datasets  # noqa: PLC0415

    folder = Path("data")
    names = (name for part in member.files.values() for name in part)
    if all((folder / member.folder / "raw" / name).is_file() for name in names):
        return folder
    try:
        getattr(torchvision.datasets, member.folder)(folder, download=True, **member.options)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise TrainingError(
            f"{member.title} could not be downloaded into {folder.resolve()} ({reason}); "
            "go online, or use --data to name a folder with its four files"
        ) from error
    return folder


def _find(member: Member, folder: Path, name: str) -> Path:
    for place in (folder, folder / member.folder / "raw", folder / "raw"):
        for file in (place / name, place / f"{name}.gz"):
            if file.is_file():
                return file
    raise TrainingError(
        f"{folder} holds no {name} (nor {name}.gz): put {member.title}'s four files there"
    )


def _idx(file: Path, dimensions: int) -> Bytes:
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

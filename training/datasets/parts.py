"""What every data set gives: its parts as tensors, and how parts are split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.errors import TrainingError


@dataclass(frozen=True)
class Part:
    """Pictures, uint8 (N, C, H, W), their labels, int64 (N,), and where people's opinions of a
    picture are many, the share of each label, float32 (N, K), which training then aims at.
    """

    pictures: Tensor
    labels: Tensor
    shares: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, chosen: Tensor) -> Part:
        """The part of the pictures that `chosen`, indices or a mask, names."""
        shares = None if self.shares is None else self.shares[chosen]
        return Part(self.pictures[chosen], self.labels[chosen], shares)


@dataclass(frozen=True)
class Data:
    """A data set: its labels' names, its parts, what a card says of it, and `others`: further
    test parts by name, on which the accuracy is reported too. `made` is where in the training
    part pictures stand that are made up.
    """

    labels: list[str]
    training: Part
    validation: Part
    test: Part
    description: dict[str, Any]
    others: dict[str, Part] = field(default_factory=dict)
    made: range = range(0)


def split(labels: Tensor, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of a seeded split that keeps the labels' shares: (the rest, the held out).

    `held_out` is a number of pictures, or below 1 a share of them. Raises `TrainingError`.
    """
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    count = round(held_out * len(labels)) if held_out < 1 else int(held_out)
    try:
        rest, out = train_test_split(
            np.arange(len(labels)), test_size=count, random_state=seed, stratify=labels.numpy()
        )
    except ValueError as error:
        raise TrainingError(f"cannot hold out {count} pictures: {error}") from error
    return torch.from_numpy(np.sort(rest)), torch.from_numpy(np.sort(out))


def fold(
    labels: Tensor, groups: Sequence[str], folds: int, index: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Indices of fold `index` of a seeded split into `folds`: (the rest, the fold).

    No group, such as a person, is on both sides, and each label has about its share in every
    fold. Raises `TrainingError`.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415

    if len(set(groups)) < folds:  # not every scikit-learn says so
        raise TrainingError(
            f"cannot split {len(set(groups))} groups into {folds} folds; set “data.folds” lower"
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    try:
        rest, out = list(splitter.split(labels, labels, np.asarray(groups)))[index]
    except ValueError as error:
        raise TrainingError(f"cannot split into {folds} folds by group: {error}") from error
    return torch.from_numpy(np.sort(rest)), torch.from_numpy(np.sort(out))


def subject(name: str) -> str:
    """Whom the file `name` shows: what stands before its first "_", as in S010_004_00000017.png."""
    match = re.match(r"[^_.]+(?=_)", name)
    if match is None:
        raise TrainingError(
            f"the file name {name} does not begin with its subject (as S010_… does); use "
            "“split” random"
        )
    return match.group()


def twins(part: Part, others: Sequence[Part]) -> Tensor:
    """A mask (N,) of the pictures of `part` that one of `others` holds too, pixel by pixel."""
    known = {picture.tobytes() for other in others for picture in other.pictures.numpy()}
    return torch.tensor([picture.tobytes() in known for picture in part.pictures.numpy()]).bool()

"""What all data sets share: their parts."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.datasets.storage import DIGEST, Shape, Source, Stored, ahead, digest


@dataclass(frozen=True)
class Part:
    """Pictures, uint8 (N, C, H, W), and their labels, int64 (N,). If several people labelled each
    picture, `shares` of the labels, float32 (N, K), are the target of training.

    The pictures are in memory, a tensor, or `Stored` where they would not fit; `batch` and
    `batches` read them from either.
    """

    source: Source
    labels: Tensor
    shares: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> Shape:
        """Of each picture, (C, H, W)."""
        channels, height, width = self.source.shape[-3:]
        return channels, height, width

    @property
    def in_memory(self) -> bool:
        """Whether `pictures` costs nothing."""
        return isinstance(self.source, Tensor)

    @property
    def pictures(self) -> Tensor:
        """All pictures, uint8 (N, C, H, W); reads those that are not in memory."""
        if isinstance(self.source, Tensor):
            return self.source
        return self.source.read(torch.arange(len(self)))

    def batch(self, indices: Tensor) -> Tensor:
        """The pictures at `indices` (B,), uint8 (B, C, H, W), on the CPU."""
        if isinstance(self.source, Tensor):
            return self.source[indices]
        return self.source.read(indices)

    def batches(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Each of `indices` with its pictures, as `batch` gives them, in order.

        Pictures that are not in memory are read ahead while the caller works.
        """
        if isinstance(self.source, Tensor):
            return ((each, self.batch(each)) for each in indices)
        return ahead(self.batch, indices)

    def subset(self, chosen: Tensor) -> Part:
        """The pictures that `chosen`, indices or a mask, selects; reads none."""
        shares = None if self.shares is None else self.shares[chosen]
        return Part(self.source[chosen], self.labels[chosen], shares)

    @cached_property
    def digests(self) -> NDArray[np.uint8]:
        """A digest of each picture's pixels, uint8 (N, 16)."""
        if isinstance(self.source, Stored):
            return self.source.digests
        made = b"".join(digest(picture) for picture in self.source.numpy())
        return np.frombuffer(made, np.uint8).reshape(-1, DIGEST)


@dataclass(frozen=True)
class Data:
    """A data set: its labels' names, its parts, what a card says of it, and `others`: further
    test parts by name, on which the accuracy is reported too. `synthetic` is where in the training
    part the synthetic pictures stand. `skipped` are the files that could not be used, and why;
    `preprocessing` is what the card has to say of it, so that serving prepares pictures likewise.
    """

    labels: list[str]
    training: Part
    validation: Part
    test: Part
    description: dict[str, Any]
    others: dict[str, Part] = field(default_factory=dict)
    synthetic: range = range(0)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all pictures, labels and shares, and of which part each is in."""
        seen = hashlib.sha256(repr(self.labels).encode())
        parts = {
            "training": self.training, "validation": self.validation, "test": self.test,
            **self.others,
        }  # fmt: skip
        for name, part in parts.items():
            seen.update(f"{name} {len(part)} {part.shape}".encode())
            seen.update(part.digests.tobytes())
            seen.update(part.labels.numpy().tobytes())
            if part.shares is not None:
                seen.update(part.shares.numpy().tobytes())
        return seen.hexdigest()


def write_skipped(data: Data, folder: Path) -> None:
    """Writes the files that could not be used, and why, to skipped.csv in `folder`.

    Without such files there is none, and an older one is removed. Raises `OSError`.
    """
    place = folder / "skipped.csv"
    if not data.skipped:
        place.unlink(missing_ok=True)
        return
    with place.open("w", encoding="utf-8", newline="", errors="backslashreplace") as file:
        csv.writer(file).writerows([("file", "reason"), *data.skipped])


def duplicates(part: Part, others: Sequence[Part]) -> Tensor:
    """A mask (N,) of the pictures of `part` that also occur in one of `others`, pixel by pixel."""
    known = {each.tobytes() for other in others for each in other.digests}
    return torch.tensor([each.tobytes() in known for each in part.digests]).bool()

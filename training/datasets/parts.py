"""What all data sets share: their parts."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.datasets.storage import DIGEST, Shape, Source, Stored, ahead, digest
from training.errors import TrainingError


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

    Where it `rejects`, all parts also hold pictures of none of the labels, whose label is K: the
    network has K + 1 outputs, the last of which says how likely a picture is of that kind.
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
    rejects: bool = False

    @property
    def outputs(self) -> int:
        """How many outputs a network for it has: one for each label, and one to reject."""
        return len(self.labels) + self.rejects

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


def relabelled(data: Data, names: Sequence[str]) -> Data:
    """`data` with the labels `names`; pictures of other classes are left out, and counted in the
    description.

    Raises `TrainingError` where no class is left.
    """
    if list(names) == data.labels:
        return data
    places = torch.tensor([names.index(each) if each in names else -1 for each in data.labels])
    if int(places.max()) < 0:
        raise TrainingError(
            f"{data.description['name']} has the classes {', '.join(data.labels)}, none of which "
            f"is one of {', '.join(names)}; name its classes so with its “classes”"
        )
    left_out = 0

    def part_of(part: Part) -> Part:
        nonlocal left_out
        labels = places[part.labels]
        left_out += int((labels < 0).sum())
        kept = part if (labels >= 0).all() else part.subset(labels >= 0)
        shares = kept.shares
        if shares is not None:
            shares = torch.zeros(len(kept), len(names)).index_add_(
                1, places.clamp_min(0), shares * (places >= 0)
            )
        return Part(kept.source, labels[labels >= 0], shares)

    changed = replace(
        data,
        labels=list(names),
        training=part_of(data.training),
        validation=part_of(data.validation),
        test=part_of(data.test),
        others={name: part_of(part) for name, part in data.others.items()},
    )
    if left_out:
        if data.synthetic:
            raise TrainingError("set “data.handwriting” to 0 where classes are left out")
        changed.description["other_classes_left_out"] = left_out
    return changed


def joined(data: Data, further: Data, name: str) -> Data:
    """`data` with the training and the validation pictures of `further`, of the same labels, whose
    test parts are further ones, by the source's `name`.
    """
    held = dict(data.others)
    if len(further.test):
        held[name] = further.test
    held |= {f"{name}_{other}": part for other, part in further.others.items()}
    return replace(
        data,
        training=together(data.training, further.training),
        validation=together(data.validation, further.validation),
        description={
            **data.description,
            "name": f"{data.description['name']}; {further.description['name']}",
            "training": data.description["training"] + len(further.training),
            "validation": data.description["validation"] + len(further.validation),
            "also": [*data.description.get("also", []), further.description],
        },
        others=held,
        skipped=[*data.skipped, *further.skipped],
    )


def together(one: Part, other: Part) -> Part:
    """The pictures of both, in memory; of one without shares, each has its label alone."""
    shares = None
    if one.shares is not None or other.shares is not None:
        classes = next(part.shares for part in (one, other) if part.shares is not None).shape[1]
        shares = torch.cat(
            [
                part.shares
                if part.shares is not None
                else functional.one_hot(part.labels, classes).float()
                for part in (one, other)
            ]
        )
    pictures = torch.cat([one.pictures, other.pictures])
    return Part(pictures, torch.cat([one.labels, other.labels]), shares)


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

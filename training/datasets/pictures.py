"""Pictures that do not fit into memory: where they are kept, and how batches of them are read."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DIGEST = 16  # bytes of a picture's digest
READERS = min(8, os.cpu_count() or 1)  # threads

Pixels = NDArray[np.uint8]


class Place(Protocol):
    """Where pictures are kept: on disk as pixels, or in their own files."""

    def read(self, row: int, into: Pixels) -> None:
        """Puts the picture of that row into the array, uint8 (C, H, W).

        Raises `TrainingError` if it can no longer be read.
        """


@dataclass(frozen=True)
class OnDisk:
    """Pixels of all pictures, one after the other, in an open file."""

    file: IO[bytes]

    def read(self, row: int, into: Pixels) -> None:
        """See `Place.read`."""
        # Mapping the file would count every page that was touched as this process's memory.
        os.preadv(self.file.fileno(), [into.data], row * into.nbytes)


@dataclass(frozen=True)
class Stored:
    """Pictures at a `place`: the chosen `rows` (N,) of it, each uint8 of `shape` (C, H, W).

    `all_digests`, uint8 (rows of the place, DIGEST), are known from when the pictures were loaded.
    """

    place: Place
    rows: NDArray[np.int64]
    shape: tuple[int, int, int]
    all_digests: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: Tensor) -> Stored:
        """The pictures that `chosen`, indices or a mask, selects; none is read."""
        return Stored(self.place, self.rows[chosen.numpy()], self.shape, self.all_digests)

    @property
    def digests(self) -> NDArray[np.uint8]:
        """A digest of each picture, uint8 (N, DIGEST)."""
        return self.all_digests[self.rows]

    def read(self, indices: Tensor) -> Tensor:
        """The pictures at `indices` as uint8 (B, C, H, W)."""
        pictures = np.empty((len(indices), *self.shape), np.uint8)
        for picture, row in zip(pictures, self.rows[indices.numpy()].tolist(), strict=True):
            self.place.read(row, picture)
        return torch.from_numpy(pictures)


def digest(picture: Pixels) -> bytes:
    """A digest of the picture's pixels."""
    return hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=DIGEST).digest()


def ahead(
    read: Callable[[Tensor], Tensor], batches: Iterable[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Indices and pictures of each of `batches`, in order, read ahead by threads."""
    pool = ThreadPoolExecutor(READERS, "reader")
    waiting: deque[tuple[Tensor, Future[Tensor]]] = deque()
    try:
        for indices in batches:
            waiting.append((indices, pool.submit(read, indices)))
            if len(waiting) > READERS:
                chosen, pictures = waiting.popleft()
                yield chosen, pictures.result()
        for chosen, pictures in waiting:
            yield chosen, pictures.result()
    finally:
        pool.shutdown(cancel_futures=True)

"""Where a data set's pictures are kept, in memory or on disk, and how they are read."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.errors import TrainingError

DIGEST = 16  # bytes of a picture's digest
READERS = min(8, os.cpu_count() or 1)  # threads
LEFT_FREE = 1 << 30  # bytes of the disk

Pixels = NDArray[np.uint8]
Shape = tuple[int, int, int]  # of a picture, (C, H, W)
Item = TypeVar("Item")
Result = TypeVar("Result")


class Unnamed:
    """A file without a name in `folder`: it is gone when nothing refers to it, or the process ends.

    A memory map would count every page that was touched as this process's memory.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._lock = Lock()

    def __del__(self) -> None:
        self._file.close()

    def append(self, content: memoryview) -> None:
        """Adds bytes at the end; not to be called once `read` was."""
        self._file.write(content)

    def read(self, into: memoryview, start: int) -> None:
        """Fills a buffer with the bytes from `start`."""
        with self._lock:
            self._file.seek(start)
            self._file.readinto(into)


@dataclass(frozen=True)
class Stored:
    """Pictures in a file, one after the other: its `rows` (N,), each uint8 of `shape` (C, H, W).

    `all_digests`, uint8 (all rows, DIGEST), are known from when the pictures were stored.
    """

    file: Unnamed
    rows: NDArray[np.int64]
    shape: Shape
    all_digests: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: Tensor) -> Stored:
        """The pictures that `chosen`, indices or a mask, selects; reads none."""
        return Stored(self.file, self.rows[chosen.numpy()], self.shape, self.all_digests)

    @property
    def digests(self) -> NDArray[np.uint8]:
        """A digest of each picture, uint8 (N, DIGEST)."""
        return self.all_digests[self.rows]

    def read(self, indices: Tensor) -> Tensor:
        """The pictures at `indices` (B,) as uint8 (B, C, H, W)."""
        pictures = np.empty((len(indices), *self.shape), np.uint8)
        size = math.prod(self.shape)
        for picture, row in zip(pictures, self.rows[indices.numpy()].tolist(), strict=True):
            self.file.read(picture.data, row * size)
        return torch.from_numpy(pictures)


Source = Tensor | Stored


class Store:
    """Takes prepared pictures one by one, at most `count` of `shape`.

    They are kept in memory if they fit into `memory` bytes, else in a file. Raises
    `TrainingError` where the disk has too little room.
    """

    def __init__(self, count: int, shape: Shape, memory: float) -> None:
        self.shape, self.count = shape, 0
        size = count * math.prod(shape)
        self.pixels: Pixels | None = None
        if size <= memory:
            self.pixels = np.empty((count, *shape), np.uint8)
            return
        folder = _roomy_folder()
        free = shutil.disk_usage(folder).free
        if free < size + LEFT_FREE:
            raise TrainingError(
                f"{count:,} pictures of {shape[1]} × {shape[2]} pixels take {size / 1e9:.1f} GB on "
                f"disk, and {folder} has {free / 1e9:.1f} GB free: set TMPDIR to a folder with "
                "more room, lower “data.size”, or raise “data.memory”"
            )
        self.digests = np.empty((count, DIGEST), np.uint8)
        self.file = Unnamed(folder)

    def add(self, picture: Pixels) -> None:
        """Adds a picture, uint8 of the store's shape."""
        if self.pixels is None:
            self.file.append(np.ascontiguousarray(picture).data)
            self.digests[self.count] = np.frombuffer(digest(picture), np.uint8)
        else:
            self.pixels[self.count] = picture
        self.count += 1

    def source(self) -> Source:
        """All pictures that were added."""
        if self.pixels is not None:
            return torch.from_numpy(self.pixels[: self.count])
        return Stored(self.file, np.arange(self.count), self.shape, self.digests[: self.count])


def _roomy_folder() -> Path:
    """The folder for temporary files, on disk where the usual one may be in memory."""
    if any(name in os.environ for name in ("TMPDIR", "TEMP", "TMP")):
        return Path(tempfile.gettempdir())
    on_disk = Path("/var/tmp")
    return on_disk if os.access(on_disk, os.W_OK) else Path(tempfile.gettempdir())


def digest(picture: Pixels) -> bytes:
    """A digest of the picture's pixels."""
    return hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=DIGEST).digest()


def ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Each of `items` and the result of its `work`, in order; threads work ahead of the caller."""
    pool = ThreadPoolExecutor(READERS, "reader")
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for each in items:
            waiting.append((each, pool.submit(work, each)))
            if len(waiting) > READERS:
                item, result = waiting.popleft()
                yield item, result.result()
        for item, result in waiting:
            yield item, result.result()
    finally:
        pool.shutdown(cancel_futures=True)

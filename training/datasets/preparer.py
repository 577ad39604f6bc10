"""Prepares pictures for a network with the code that serving uses."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from tasks import InputSpec, Task
from tasks.decode import decode
from tasks.problems import Problem, TooLarge, UnreadableImage
from training.datasets.layout import CONVERTED
from training.datasets.storage import Pixels, Source, Store, ahead
from training.errors import TrainingError

MAX_PIXELS = 200_000_000  # of a picture file, width × height
AT_ONCE = 16  # files that a thread reads in a turn


@dataclass
class Preparer:
    """Prepares pictures by `task` for `spec`, and keeps up to `memory` bytes of them in memory.

    `limit` is how many pictures a part may have, if that is limited. `skipped` are the files that
    could not be used, with the reasons, of the `tried` ones.
    """

    task: Task
    spec: InputSpec
    memory: float = float("inf")
    limit: int | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)
    tried: int = 0

    def files(self, files: Sequence[Path], folder: Path) -> tuple[Source, NDArray[np.int64]]:
        """The pictures in `files` that can be used, uint8 (N, C, H, W), and their indices (N,).

        The others are added to `skipped`, by their path in `folder`. Raises `TrainingError` if
        none can be used.
        """
        store, kept = self._store(len(files)), []
        turns = torch.arange(len(files)).split(AT_ONCE)

        def read(turn: torch.Tensor) -> list[Pixels | str]:
            return [self._read(files[index]) for index in turn.tolist()]

        with tqdm(desc=folder.name, total=len(files), leave=False, disable=None) as bar:
            for turn, results in ahead(read, turns):
                for index, result in zip(turn.tolist(), results, strict=True):
                    if isinstance(result, str):
                        self.skip(files[index], folder, result)
                    else:
                        store.add(result)
                        kept.append(index)
                bar.update(len(turn))
        self.tried += len(files)
        if not kept:
            raise TrainingError(f"{folder}: none of its pictures can be used; {self._reasons()}")
        return store.source(), np.array(kept)

    def _read(self, file: Path) -> Pixels | str:
        """The picture in `file`, or why it cannot be used."""
        try:
            if not file.is_file():
                return "There is no such file."
            picture = decode(_content(file), MAX_PIXELS)
            return self.task.prepare(picture.image, self.spec)
        except OSError as error:
            return f"{error.strerror}."
        except Problem as problem:
            return problem.detail

    def array(self, pictures: Collection[Pixels], name: str) -> Source:
        """Pictures (N, H, W) or (N, H, W, 3) as uint8 (N, C, H, W).

        Raises `TrainingError`, which names the data by `name`.
        """
        store = self._store(len(pictures))
        for index, pixels in enumerate(tqdm(pictures, name, leave=False, disable=None)):
            try:
                store.add(self.task.prepare(Image.fromarray(pixels), self.spec))
            except Problem as problem:
                raise TrainingError(
                    f"cannot use picture {index} (from 0) of {name}: {problem.detail}"
                ) from problem
        return store.source()

    def skip(self, file: Path, folder: Path, reason: str) -> None:
        """Notes that `file` in `folder` is not used."""
        name = file.relative_to(folder) if file.is_relative_to(folder) else file
        self.skipped.append((str(name), reason))

    def check(self, most_skipped: float) -> None:
        """Raises `TrainingError` if more than that share of the pictures were skipped."""
        if len(self.skipped) > most_skipped * self.tried:
            raise TrainingError(
                f"{len(self.skipped)} of {self.tried} pictures cannot be used; {self._reasons()}; "
                "put them right or remove them, or raise “data.most_skipped” "
                f"({most_skipped:g}), the share that may be skipped"
            )

    def _store(self, count: int) -> Store:
        store = Store(count, self.spec.shape, self.memory)
        if store.pixels is not None:
            self.memory -= store.pixels.nbytes
        return store

    def _reasons(self) -> str:
        """The most frequent reasons, with a file of each."""
        counts = Counter(reason for _, reason in self.skipped)
        example = {reason: file for file, reason in reversed(self.skipped)}
        return "; ".join(
            f"{count} × “{reason}” (first {example[reason]})"
            for reason, count in counts.most_common(3)
        )


def _content(file: Path) -> bytes:
    """What is in `file`; TIFF and PPM, which serving does not read, as PNG."""
    content = file.read_bytes()
    if file.suffix.lower() not in CONVERTED:
        return content
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=("TIFF", "PPM"))
        if image.width * image.height > MAX_PIXELS:
            raise TooLarge(f"The image has more than {MAX_PIXELS:,} pixels.")
        image = ImageOps.exif_transpose(image)
        if image.mode in ("CMYK", "YCbCr", "LAB"):
            image = image.convert("RGB")
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=0)
    except UnidentifiedImageError:
        return content  # its suffix is wrong, perhaps
    except Problem:
        raise
    except Exception as error:  # decoders raise all kinds of errors on damaged data
        raise UnreadableImage("The image is damaged, or of a kind that is not read.") from error
    return buffer.getvalue()

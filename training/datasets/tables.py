"""CSV tables: of pictures' files and labels, or of labels and pixels."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.datasets.arrays import numbered
from training.datasets.layout import PARTS, WANTED, part_of, visible
from training.datasets.parts import Part
from training.datasets.preparer import Preparer
from training.datasets.splits import Given, needed, sample
from training.datasets.storage import Source
from training.errors import TrainingError
from training.recipe import DataRecipe

FILES = (
    "file", "filename", "filepath", "path", "image", "imagepath", "imagename", "imageid", "img",
    "imgname", "imgpath", "picture", "name", "id",
)  # fmt: skip
LABELS = (
    "label", "labels", "class", "classname", "classlabel", "target", "category", "emotion", "digit",
    "breed", "species",
)  # fmt: skip
SUBJECTS = ("subject", "subjectid", "person", "personid", "patient", "patientid")
SPLITS = ("split", "usage", "set", "subset", "partition", "part")
PIXELS = re.compile(r"pixel_?\d+|\d+x\d+")
ENDINGS = ("", ".jpg", ".png", ".jpeg", ".JPG", ".tif")

csv.field_size_limit(1 << 24)  # a row's pixels may stand in one field


@dataclass(frozen=True)
class Table:
    """A CSV file: its rows, and the places of the columns that are known, or none.

    `pixels` are those of grey or colour values, a column each, or one of all values.
    """

    file: Path
    rows: list[list[str]]
    label: int
    path: int | None
    pixels: list[int]
    subject: int | None
    split: int | None


def find(folder: Path) -> list[Path]:
    """The tables of a data set in `folder`, the training part's first; perhaps none."""
    files = [place for place in visible(folder) if is_table(place) and _header(place) is not None]
    parts = {kind: file for file in files if (kind := part_of(file.stem))}
    if "training" in parts:
        return [parts.pop("training"), *parts.values()]
    if len(files) > 1:
        named = [file for file in files if file.stem.casefold() in ("labels", "label", "data")]
        if len(named) != 1:
            raise TrainingError(
                f"{folder} holds {len(files)} tables of labels ({files[0].name}, {files[1].name} "
                "…); name the one to train on with --data"
            )
        return named
    return files


def is_table(file: Path) -> bool:
    """Whether `file` should be a table, by its name."""
    return file.suffix.lower() in (".csv", ".tsv") and file.is_file()


def load(recipe: DataRecipe, files: Sequence[Path], preparer: Preparer) -> Given:
    """Tables with a column of labels, and one of files or columns of pixels.

    File names count from the table's folder. Where a column says which part a row is of, or the
    parts have tables of their own, `files`, nothing is split off for these. Raises `TrainingError`.
    """
    rows: dict[str, list[tuple[Table, list[str]]]] = {}
    for file in files:
        table = _read(file)
        own = (part_of(file.stem) if len(files) > 1 else None) or "training"
        for row in table.rows:
            kind = own if table.split is None else _kind(row[table.split], table)
            rows.setdefault(kind, []).append((table, row))
    if "training" not in rows:
        raise TrainingError(f"{files[0]} holds no row to train on; wanted is{WANTED}")
    names, labels = numbered(
        {kind: np.array(_texts(each)) for kind, each in rows.items()}, recipe.classes, str(files[0])
    )
    if preparer.limit is not None:
        whole = torch.from_numpy(labels["training"])
        chosen = sample(whole, needed(recipe, preparer.limit), recipe.split_seed).numpy()
        labels["training"] = labels["training"][chosen]
        rows["training"] = [rows["training"][index] for index in chosen]
    parts, used = {}, {}
    for kind, each in rows.items():
        source, kept = _pictures(each, preparer)
        parts[kind] = Part(source, torch.from_numpy(labels[kind][kept]))
        used[kind] = [each[index] for index in kept]

    def cells(column: str) -> list[str]:
        places = [(row, getattr(table, column)) for table, row in used["training"]]
        return [row[at] for row, at in places if at is not None]

    return Given(
        names,
        parts.pop("training"),
        parts,
        {"name": "a table of pictures"},
        names=[Path(path).name for path in cells("path")],
        subjects=cells("subject"),
    )


def _texts(rows: Sequence[tuple[Table, list[str]]]) -> list[str] | list[int]:
    """The labels of `rows`: whole numbers if all are."""
    texts = [row[table.label].strip() for table, row in rows]
    try:
        return [int(text) for text in texts]
    except ValueError:
        return texts


def _kind(text: str, table: Table) -> str:
    kind = PARTS.get(text.strip().casefold())
    if kind is None:
        raise TrainingError(
            f"{table.file}: “{text}” is no part of a data set; write train, validation or test"
        )
    return kind


def _pictures(
    rows: Sequence[tuple[Table, list[str]]], preparer: Preparer
) -> tuple[Source, NDArray[np.int64]]:
    """The pictures of `rows`, and the indices of those that can be used."""
    table = rows[0][0]
    if table.path is None:
        return preparer.array(_Pixels(rows), table.file.name), np.arange(len(rows))
    folder = table.file.parent
    find = _Finder(folder, rows[0][1][table.path])
    return preparer.files([find(row[table.path or 0]) for table, row in rows], folder)


class _Finder:
    """Finds a row's file as the first row's was found: in the table's folder or one in it, with
    the ending that was left out."""

    def __init__(self, folder: Path, first: str) -> None:
        inside = [place for place in visible(folder) if place.is_dir()]
        self.folder, self.ending = folder, ""
        for place in (folder, *inside):
            for ending in ENDINGS:
                self.folder, self.ending = place, ending
                if self(first).is_file():
                    return
        self.folder, self.ending = folder, ""

    def __call__(self, name: str) -> Path:
        return self.folder / (name.strip().replace("\\", "/") + self.ending)


class _Pixels:
    """The pictures of rows of pixels, each given as uint8 (H, W) or (H, W, 3)."""

    def __init__(self, rows: Sequence[tuple[Table, list[str]]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, picture: object) -> bool:
        return False

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for number, (table, row) in enumerate(self.rows, 2):
            texts = [row[at] for at in table.pixels]
            if len(texts) == 1:
                texts = texts[0].split()
            try:
                values = np.array(texts, float)
                if not ((values >= 0) & (values <= 255)).all():
                    raise ValueError("pixels must be 0 to 255")
                side, channels = _side(len(values))
            except ValueError as error:
                raise TrainingError(f"{table.file}, picture {number - 1}: {error}") from error
            shape = (side, side) if channels == 1 else (side, side, channels)
            yield values.round().astype(np.uint8).reshape(shape)


def _side(count: int) -> tuple[int, int]:
    """The side in pixels and the channels of a square picture of `count` values."""
    for channels in (1, 3):
        side = math.isqrt(count // channels)
        if count and side * side * channels == count:
            return side, channels
    raise ValueError(f"{count} values make no square picture in grey or colour")


def _read(file: Path) -> Table:
    """The table in `file`; raises `TrainingError`."""
    header = _header(file)
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = [row for row in csv.reader(lines, delimiter=_delimiter(file)) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"cannot read {file}: {error}; save it as CSV in UTF-8") from error
    if header is None:
        columns = f"its columns are {', '.join(rows[0][:6])}" if rows else "it is empty"
        raise TrainingError(
            f"{file} must have a column “label” and a column “file” or columns of pixels, but "
            f"{columns}; wanted is{WANTED}"
        )
    width = len(rows[0])
    for number, row in enumerate(rows[1:], 2):
        if len(row) != width or not row[header["label"][0]].strip():
            problem = "has no label" if len(row) == width else f"has {len(row)} fields, not {width}"
            raise TrainingError(f"{file}: row {number} {problem}; correct or remove it")
    if len(rows) < 2:
        raise TrainingError(f"{file} holds no rows below its header; add a row for each picture")

    def first(what: str) -> int | None:
        return header[what][0] if header[what] else None

    path = None if header["pixels"] else first("file")
    return Table(
        file, rows[1:], header["label"][0], path, header["pixels"], first("subject"), first("split")
    )


def _header(file: Path) -> dict[str, list[int]] | None:
    """The places of the known columns of `file`, or none if it is no table of pictures."""
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
            cells = next(csv.reader(lines, delimiter=_delimiter(file)), [])
    except (OSError, csv.Error):
        return None
    names = [cell.strip().casefold() for cell in cells]
    plain = [re.sub(r"[\s_-]+", "", name) for name in names]

    def places(known: Sequence[str]) -> list[int]:
        return [plain.index(name) for name in known if name in plain]

    pixels = [at for at, name in enumerate(names) if PIXELS.fullmatch(name) or name == "pixels"]
    columns = {
        "label": places(LABELS), "file": places(FILES), "pixels": pixels,
        "subject": places(SUBJECTS), "split": places(SPLITS),
    }  # fmt: skip
    return columns if columns["label"] and (columns["file"] or pixels) else None


def _delimiter(file: Path) -> str:
    """What separates the fields of the first line."""
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        line = lines.readline(1 << 20)
    return max(",;\t", key=line.count)

"""CSV tables: of pictures' files and labels, or of labels and pixels."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

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
    "label", "labels", "class", "classname", "classlabel", "classid", "target", "category",
    "emotion", "digit", "breed", "species",
)  # fmt: skip
SUBJECTS = ("subject", "subjectid", "person", "personid", "patient", "patientid")
SPLITS = ("split", "usage", "set", "subset", "partition", "part")
PIXELS = re.compile(r"pixel_?\d+|\d+x\d+")
TRIED = 20  # names of files, to see where they are
ENDINGS = ("", ".jpg", ".png", ".jpeg", ".JPG", ".tif")

csv.field_size_limit(1 << 24)  # a row's pixels may stand in one field


@dataclass(frozen=True)
class Table:
    """A CSV file: the columns that are known, each with a value for each row, or empty.

    `pictures` are those of the pixels in the rows, uint8 (H, W) or (H, W, 3).
    """

    file: Path
    labels: list[str]
    paths: list[str]
    subjects: list[str]
    splits: list[str]
    pictures: list[NDArray[np.uint8]]

    def chosen(self, rows: NDArray[np.int64]) -> Table:
        """The table of these rows alone."""
        held = (self.labels, self.paths, self.subjects, self.splits, self.pictures)
        return Table(self.file, *([each[row] for row in rows] if each else [] for each in held))


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


def leads_to_pictures(file: Path) -> bool:
    """Whether the table in `file` holds pixels, or names of files that are there.

    Raises `TrainingError` if it cannot be read.
    """
    table = _read(file)
    return bool(table.pictures) or _Finder(table).found


def is_table(file: Path) -> bool:
    """Whether `file` should be a table, by its name."""
    return file.suffix.lower() in (".csv", ".tsv") and file.is_file()


def load(recipe: DataRecipe, files: Sequence[Path], preparer: Preparer) -> Given:
    """Tables with a column of labels, and one of files or columns of pixels.

    File names count from the table's folder. Where a column says which part a row is of, or the
    parts have tables of their own, `files`, nothing is split off for these. Raises `TrainingError`.
    """
    tables: dict[str, Table] = {}
    for file in files:
        table = _read(file)
        own = (part_of(file.stem) if len(files) > 1 else None) or "training"
        kinds = np.array([_kind(text, table) for text in table.splits] or [own] * len(table.labels))
        for kind in dict.fromkeys(kinds.tolist()):
            if kind in tables:
                raise TrainingError(
                    f"{tables[kind].file} and {file} both have a {kind} part; keep one"
                )
            tables[kind] = table.chosen(np.flatnonzero(kinds == kind))
    if "training" not in tables:
        raise TrainingError(f"{files[0]} holds no row to train on; wanted is{WANTED}")
    names, labels = numbered(
        {kind: np.array(_numbers(table.labels)) for kind, table in tables.items()},
        recipe.classes,
        str(files[0]),
    )
    parts = {}
    for kind, whole in tables.items():
        table = whole
        if preparer.limit is not None:
            count = needed(recipe, preparer.limit) if kind == "training" else preparer.limit
            chosen = sample(torch.from_numpy(labels[kind]), count, 0).numpy()
            table, labels[kind] = whole.chosen(chosen), labels[kind][chosen]
        source, kept = _pictures(table, preparer)
        parts[kind] = Part(source, torch.from_numpy(labels[kind][kept]))
        tables[kind] = table.chosen(kept)
    return Given(
        names,
        parts.pop("training"),
        parts,
        {"name": "a table of pictures"},
        names=[Path(path).name for path in tables["training"].paths],
        subjects=tables["training"].subjects,
    )


def _numbers(texts: list[str]) -> list[str] | list[int]:
    """The labels as whole numbers, if all are written as such."""
    if all(re.fullmatch(r"0|-?[1-9][0-9]{0,17}", text) for text in texts):
        return [int(text) for text in texts]
    return texts


def _kind(text: str, table: Table) -> str:
    kind = PARTS.get(text.casefold())
    if kind is None:
        raise TrainingError(
            f"{table.file}: “{text}” is no part of a data set; write train, validation or test"
        )
    return kind


def _pictures(table: Table, preparer: Preparer) -> tuple[Source, NDArray[np.int64]]:
    """The pictures of a table, and the indices of those that can be used."""
    if table.pictures:
        return preparer.array(table.pictures, table.file.name), np.arange(len(table.pictures))
    folder = table.file.parent
    find = _Finder(table)
    return preparer.files([find(path) for path in table.paths], folder)


class _Finder:
    """Finds the files of a table: in its folder or one in it, with the ending that was left out,
    as the first of them that is there shows."""

    def __init__(self, table: Table) -> None:
        self.folder, self.ending, self.found = table.file.parent, "", True
        inside = [place for place in visible(self.folder) if place.is_dir()]
        for name in table.paths[:TRIED]:
            for place in (table.file.parent, *inside):
                for ending in ENDINGS:
                    self.folder, self.ending = place, ending
                    if self(name).is_file():
                        return
        self.folder, self.ending, self.found = table.file.parent, "", False

    def __call__(self, name: str) -> Path:
        return self.folder / (name.replace("\\", "/") + self.ending)


def _read(file: Path) -> Table:
    """The table in `file`; raises `TrainingError`."""
    header = _header(file)
    if header is None:
        raise TrainingError(
            f"{file} must have a column “label” and a column “file” or columns of pixels, but "
            f"{_columns(file)}; wanted is{WANTED}"
        )
    labels = header["label"][:1]
    paths = [] if header["pixels"] else header["file"][:1]
    columns = [labels, paths, header["subject"][:1], header["split"][:1]]
    table = Table(file, [], [], [], [], [])
    into = (table.labels, table.paths, table.subjects, table.splits)
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.reader(lines, delimiter=_delimiter(file))
            width = len(next(rows))
            for number, row in enumerate(tqdm(rows, file.name, leave=False, disable=None), 2):
                if not any(row):
                    continue
                if len(row) != width:
                    raise ValueError(f"row {number} has {len(row)} fields, not {width}")
                for places, values in zip(columns, into, strict=True):
                    values += [row[at].strip() for at in places]
                if not table.labels[-1]:
                    raise ValueError(f"row {number} has no label")
                if header["pixels"]:
                    table.pictures.append(_square([row[at] for at in header["pixels"]], number))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"cannot read {file}: {error}; save it as CSV in UTF-8") from error
    except ValueError as error:
        raise TrainingError(f"{file}: {error}; correct or remove it") from error
    if not table.labels:
        raise TrainingError(f"{file} holds no rows below its header; add a row for each picture")
    return table


def _square(texts: list[str], number: int) -> NDArray[np.uint8]:
    """The square picture of the pixels in a row, (H, W) or (H, W, 3); raises `ValueError`."""
    try:
        values = np.array(texts[0].split() if len(texts) == 1 else texts, float)
    except ValueError as error:
        raise ValueError(f"row {number} has a pixel that is no number ({error})") from error
    if not ((values >= 0) & (values <= 255)).all():
        raise ValueError(f"row {number} has a pixel outside 0 to 255")
    for channels in (1, 3):
        side = math.isqrt(len(values) // channels)
        if len(values) and side * side * channels == len(values):
            shape = (side, side) if channels == 1 else (side, side, channels)
            pixels: NDArray[np.uint8] = values.round().astype(np.uint8).reshape(shape)
            return pixels
    raise ValueError(f"the {len(values)} pixels of row {number} make no square picture")


def _columns(file: Path) -> str:
    """What columns `file` has, as a clause."""
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        cells = next(csv.reader(lines, delimiter=_delimiter(file)), [])
    return f"its columns are {', '.join(cells[:6])}" if cells else "it is empty"


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

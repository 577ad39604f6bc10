"""FER2013 (Goodfellow et al., 2013) and FER+, the votes of ten people on each of its faces.

Read by hand, since torchvision's reader takes only files of three known MD5 sums, has no FER+
and gives PublicTest and PrivateTest as one.
"""

from __future__ import annotations

import csv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor

from training.datasets import folders
from training.datasets.parts import Part
from training.datasets.preparer import Preparer
from training.datasets.splits import Given
from training.datasets.storage import Source
from training.errors import TrainingError
from training.recipe import DataRecipe

LABELS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
FERPLUS_LABELS = [
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt",
]  # fmt: skip
USAGES = ("Training", "PublicTest", "PrivateTest")
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
VOTES_CSV = "fer2013new.csv"
SIDE = 48

# FER+ votes are for its eight emotions, then unknown and not-a-face; these are LABELS among them.
SEVEN_OF_VOTES = [4, 5, 6, 1, 3, 2, 0]
EMOTIONS = len(FERPLUS_LABELS)
NOT_A_FACE = 9

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """FER2013 as read: `pictures` (N, 48, 48), `labels` 0..6 and `usage` 0..2, both (N,), and
    `votes` (N, 10) of FER+, or None."""

    pictures: Bytes
    labels: Integers
    usage: Integers
    votes: Bytes | None


def load(recipe: DataRecipe, folder: Path | None, preparer: Preparer) -> Given:
    """FER2013 with its official split: PublicTest validates, PrivateTest tests.

    `folder` is the .npz or .csv file, or a folder that holds one (and FER+'s fer2013new.csv), or
    one of Kaggle's folders train/<class> and test/<class>, where validation is split off the
    training part. `recipe.labels` chooses what is learnt: the "original" label; "mixed", half
    the label and half the FER+ votes; "votes", the FER+ votes for the seven emotions; or
    "ferplus", all eight emotions that people voted for. Raises `TrainingError`.
    """
    if folder is None:
        raise TrainingError(
            "FER2013 must be downloaded by hand from Kaggle (fer2013.csv, or its folders train "
            "and test): name its folder with --data"
        )
    if folder.is_dir() and "training" in folders.parts_in(folder):
        if recipe.labels != "original":
            raise TrainingError(
                f"{folder} holds no FER+ votes; set “data.labels” to original, or give "
                f"fer2013.csv with {VOTES_CSV} beside it"
            )
        return folders.load(replace(recipe, classes=recipe.classes or LABELS), folder, preparer)
    table = read(folder)
    if recipe.labels != "original" and table.votes is None:
        raise TrainingError(f"“data.labels” {recipe.labels} needs {VOTES_CSV} of FER+ in {folder}")
    pictures = preparer.array(table.pictures, "FER2013")
    if recipe.labels == "ferplus":
        return _eight(table, pictures)
    if recipe.labels == "votes":
        return _seven_by_votes(table, pictures)
    return _seven(table, pictures, mixed=recipe.labels == "mixed")


def _seven(table: Table, pictures: Source, *, mixed: bool) -> Given:
    """The original labels, and if `mixed`, the votes as label shares for training."""
    labels = torch.from_numpy(table.labels)
    shares = None
    usable = np.ones(len(table.labels), bool)
    others = {}
    if table.votes is not None:
        votes = _without_single(table.votes)
        majority = _majority(votes)
        agreed = np.isin(majority, SEVEN_OF_VOTES) & (table.usage == 2)
        back = np.full(10, -1)
        back[SEVEN_OF_VOTES] = range(len(LABELS))
        others["ferplus"] = Part(
            pictures[torch.from_numpy(agreed)], torch.from_numpy(back[majority[agreed]])
        )
        if mixed:
            shares = _shares(votes[:, SEVEN_OF_VOTES], labels)
            usable = (majority != NOT_A_FACE) | (table.usage != 0)
    part = Part(pictures, labels, shares)
    return _data(
        LABELS,
        table.usage,
        part,
        usable,
        others=others,
        learnt="mixed" if mixed else "original",
    )


def _seven_by_votes(table: Table, pictures: Source) -> Given:
    """The votes for the seven emotions; validation and test keep only pictures on which more than
    half of all votes agree. The test pictures' original labels are a further test part."""
    if table.votes is None:  # load has checked it
        raise TrainingError("there are no votes")
    votes = _without_single(table.votes)
    majority, seven = _majority(votes), votes[:, SEVEN_OF_VOTES]
    has_votes = (seven.sum(1) > 0) & (majority != NOT_A_FACE)
    usable = np.where(table.usage == 0, has_votes, np.isin(majority, SEVEN_OF_VOTES))
    labels = torch.from_numpy(seven.argmax(1).astype(np.int64))
    counts = torch.from_numpy(seven.astype(np.float32))
    part = Part(pictures, labels, counts / counts.sum(1, keepdim=True).clamp_min(1))
    tested = torch.from_numpy(table.usage == 2)
    others = {"original": Part(pictures[tested], torch.from_numpy(table.labels)[tested])}
    return _data(LABELS, table.usage, part, usable, others=others, learnt="votes")


def _shares(votes: Bytes, labels: Tensor) -> Tensor:
    """Half the label, half the votes; the label alone if no vote is for one of the seven."""
    label = torch.nn.functional.one_hot(labels, votes.shape[1]).float()
    counts = torch.from_numpy(votes.astype(np.float32))
    total = counts.sum(1, keepdim=True)
    return torch.where(total > 0, (label + counts / total.clamp_min(1)) / 2, label)


def _eight(table: Table, pictures: Source) -> Given:
    """The emotions that people voted for; validation and test keep only pictures on which more
    than half of the votes agree."""
    if table.votes is None:  # load has checked it
        raise TrainingError("there are no votes")
    votes = _without_single(table.votes)
    majority, first = _majority(votes), votes.argmax(1)
    agreed = (majority >= 0) & (majority < EMOTIONS)
    # Training learns from label shares: the most frequent vote just has to be an emotion.
    usable = np.where(table.usage == 0, (votes.max(1) > 0) & (first < EMOTIONS), agreed)
    counts = torch.from_numpy(votes[:, :EMOTIONS].astype(np.float32))
    shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
    part = Part(pictures, torch.from_numpy(first.astype(np.int64)), shares)
    any_choice = (votes.max(1) > 0) & (first < EMOTIONS) & (table.usage == 2)
    others = {"first_choice": part.subset(torch.from_numpy(any_choice))}
    return _data(FERPLUS_LABELS, table.usage, part, usable, others=others, learnt="ferplus")


def _data(
    names: list[str],
    usage: Integers,
    part: Part,
    usable: NDArray[np.bool_],
    *,
    others: dict[str, Part],
    learnt: str,
) -> Given:
    training, *held = (part.subset(torch.from_numpy(usable & (usage == use))) for use in range(3))
    # Label shares are only for training: validation and test are measured by labels.
    validation, test = (Part(each.source, each.labels) for each in held)
    for name, each in zip(USAGES, (training, validation, test), strict=True):
        if not len(each):
            raise TrainingError(f"FER2013: there is no usable picture of usage {name}")
    return Given(
        names,
        training,
        {"validation": validation, "test": test},
        {
            "name": "FER2013 (Goodfellow et al., 2013)"
            + ("" if learnt == "original" else ", FER+"),
            "learnt": learnt,
            "split": "official: Training, PublicTest validates, PrivateTest tests",
        },
        {name: Part(other.source, other.labels) for name, other in others.items() if len(other)},
    )


def _without_single(votes: Bytes) -> Bytes:
    """Votes without single votes, which FER+'s authors ignore too."""
    return np.where(votes > 1, votes, 0).astype(np.uint8)


def _majority(votes: Bytes) -> Integers:
    """What more than half of the votes (N, 10) are for, or -1."""
    agreed = votes.max(1) * 2 > votes.sum(1, dtype=np.int64)
    return np.where(agreed, votes.argmax(1), -1).astype(np.int64)


def read(path: Path) -> Table:
    """Reads FER2013 from its .npz or .csv file, or the folder of one; raises `TrainingError`."""
    if path.is_dir():
        for name in ("fer2013.npz", *CSV_NAMES):
            if (path / name).is_file():
                return read(path / name)
        raise TrainingError(
            f"{path} holds neither {' nor '.join(CSV_NAMES)} nor the folders train and test"
        )
    if not path.is_file():
        raise TrainingError(f"--data: there is no {path}")
    table = _read_npz(path) if path.suffix == ".npz" else _read_csv(path)
    count = len(table.pictures)
    sound = (
        table.pictures.shape == (count, SIDE, SIDE)
        and table.labels.shape == table.usage.shape == (count,)
        and (table.votes is None or table.votes.shape == (count, 10))
    )
    if not sound or not count:
        raise TrainingError(f"{path}: its arrays do not fit each other; fetch it again")
    if not (table.labels.min() >= 0 and table.labels.max() < len(LABELS)):
        raise TrainingError(f"{path} holds labels outside 0 to {len(LABELS) - 1}")
    if not (table.usage.min() >= 0 and table.usage.max() < len(USAGES)):
        raise TrainingError(f"{path} holds usages outside 0 to {len(USAGES) - 1}")
    return table


def _read_npz(file: Path) -> Table:
    try:
        # NumPy leaves a damaged file open if it has opened it itself.
        with file.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
            values: dict[str, Any] = {
                name: arrays[name] for name in ("images", "label", "usage", "votes")
                if name in arrays or name != "votes"
            }  # fmt: skip
    except KeyError as error:
        raise TrainingError(f"{file} lacks the array {error.args[0]}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{file} is damaged or no .npz file ({error})") from error
    return Table(
        values["images"].astype(np.uint8, copy=False),
        values["label"].astype(np.int64),
        values["usage"].astype(np.int64),
        values.get("votes"),
    )


def _read_csv(file: Path) -> Table:
    pictures, labels, usage = [], [], []
    csv.field_size_limit(1 << 20)
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines, skipinitialspace=True)
            for number, row in enumerate(rows, 2):
                try:
                    picture = np.array(row["pixels"].split(), np.uint8)
                    pictures.append(picture.reshape(SIDE, SIDE))
                    labels.append(int(row["emotion"]))
                    usage.append(USAGES.index(row["Usage"]))
                except (ValueError, OverflowError, AttributeError, TypeError) as error:
                    raise TrainingError(
                        f"{file}, line {number} is not a FER2013 row (emotion, pixels, Usage): "
                        f"{error}"
                    ) from error
    except KeyError as error:
        raise TrainingError(
            f"{file} lacks the column {error.args[0]}; it must have emotion, pixels and Usage"
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"cannot read {file}: {error}") from error
    if not pictures:
        raise TrainingError(f"{file} holds no rows")
    return Table(
        np.stack(pictures), np.array(labels), np.array(usage), _read_votes(file, len(labels))
    )


def _read_votes(file: Path, count: int) -> Bytes | None:
    """FER+'s votes, if its file is beside `file`: a row for each of the `count` pictures."""
    place = file.with_name(VOTES_CSV)
    if not place.is_file():
        return None
    try:
        with place.open(newline="", encoding="utf-8-sig") as lines:
            votes = np.array([row[2:12] for row in list(csv.reader(lines))[1:]], np.uint8)
    except (OSError, ValueError, OverflowError, csv.Error) as error:
        raise TrainingError(f"{place} is not FER+'s file of votes: {error}") from error
    if votes.shape != (count, 10):
        raise TrainingError(
            f"{place} holds votes of shape {votes.shape}, expected {(count, 10)}: it must be "
            f"FER+'s file for {file.name}"
        )
    return votes

"""What the files and folders of a data set are, by their names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from tasks.decode import OTHER_SUFFIXES, SUFFIXES

WANTED = """
  FOLDER/
  ├── cats/      a folder for each class: its name, and in it its pictures
  │   ├── 1.jpg
  │   └── 2.jpg
  └── dogs/
      └── 3.jpg
or FOLDER/train/cats/1.jpg …, with test and perhaps validation beside train; or FOLDER/labels.csv:
  file,label
  pictures/1.jpg,cats
or FOLDER.npz (or .npy files): x_train, y_train and perhaps x_test, y_test"""

PARTS = {
    "train": "training", "training": "training",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "publictest": "validation",
    "test": "test", "testing": "test", "privatetest": "test",
}  # fmt: skip
SYSTEM = {
    "@eadir", "thumbs.db", "ehthumbs.db", "desktop.ini", "lost+found", "__macosx", "__pycache__",
    "#recycle", "$recycle.bin", "system volume information",
}  # fmt: skip
# Read for training alone.
CONVERTED = {".tif", ".tiff", ".pgm", ".ppm", ".pbm", ".pnm"}
# Files of other suffixes are passed over; of these, those that cannot be read are listed.
PICTURES = (
    SUFFIXES | OTHER_SUFFIXES | CONVERTED | {".pjpeg", ".tga", ".dng", ".cr2", ".nef", ".arw"}
)


def is_hidden(name: str) -> bool:
    """Whether `name` is that of a hidden or a system's file or folder."""
    return name.startswith(".") or name.casefold() in SYSTEM


def visible(folder: Path) -> list[Path]:
    """What is in `folder`, sorted, without hidden and system files; raises `OSError`."""
    return sorted(place for place in folder.iterdir() if not is_hidden(place.name))


def is_picture(name: str) -> bool:
    """Whether a file of that name should be a picture."""
    return PurePath(name).suffix.lower() in PICTURES


def pictures_in(folder: Path) -> Iterator[Path]:
    """The pictures in `folder` and the folders in it, in the order of their names."""
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(files):
            if is_picture(name) and not is_hidden(name):
                yield Path(top, name)


def part_of(name: str) -> str | None:
    """The part that a folder, file, array or row belongs to, by its name: "seg_train", "Test"."""
    words = re.split(r"[\W_]+", name.casefold())
    found = {PARTS[word] for word in words if word in PARTS}
    return found.pop() if len(found) == 1 else None


def unwrapped(folder: Path, part: str | None = None) -> Path:
    """The folder that holds the data, or a `part` of it: the innermost of folders that hold
    nothing but another."""
    while True:
        inside = visible(folder)
        if (
            len(inside) != 1
            or not inside[0].is_dir()
            or part_of(inside[0].name) not in (None, part)
        ):
            return folder
        folder = inside[0]

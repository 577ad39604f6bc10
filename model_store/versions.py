"""Versions of a model: one may lie flat in its folder, others under `versions/`, by their names.

The file `current` names the one that is served. Without it, that is the flat one or else the
newest.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from model_store.onnx_file import ONNX_FILE
from model_store.store import (
    CARD,
    CHECKPOINT,
    VERSIONS,
    StoreError,
    names,
    read_card,
    replace_file,
    title,
    vouched,
)

CURRENT = "current"
VERSION = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)  # it names a folder
PUBLISHED = (".pt", ".onnx", ".json", ".png", ".txt", ".log")  # what of a run
STATE = "state.pt"  # of an interrupted training
PARTIAL = ".partial"
ABANDONED = 3600  # seconds after which what a killed command left behind is removed


def split_name(text: str) -> tuple[str, str | None]:
    """A model's name and version from ``digits@VERSION``; no version where there is no @."""
    name, at, version = text.partition("@")
    return name, version if at else None


def versions(folder: Path) -> list[str]:
    """The versions of the model in `folder`, oldest first."""
    found = {version: folder / VERSIONS / version for version in _added(folder)}
    if (flat := _flat(folder)) is not None:
        found.setdefault(flat, folder)
    return _by_age(found)


def version_folder(folder: Path, version: str) -> Path:
    """The folder that holds the files of a version; raises `StoreError` if there is none."""
    if VERSION.fullmatch(version) and (folder / VERSIONS / version).is_dir():
        return folder / VERSIONS / version
    if version == _flat(folder):
        return folder
    known = ", ".join(versions(folder)) or "none"
    raise StoreError(f"{folder.name}: there is no version {version!r}; its versions are: {known}")


def current_folder(folder: Path) -> Path:
    """The folder that holds the files of the version that is served.

    Raises `StoreError` if `current` names a version that is not there.
    """
    version = _named(folder)
    if version is None:
        added = {version: folder / VERSIONS / version for version in _added(folder)}
        if not added or not names(folder).isdisjoint((CARD, CHECKPOINT)):
            return folder
        return added[_by_age(added)[-1]]
    try:
        return version_folder(folder, version)
    except StoreError as error:
        raise StoreError(
            f"{error}; {CURRENT} names it, so choose another: glimpse models use "
            f"{folder.name}@VERSION"
        ) from error


def current_version(folder: Path) -> str:
    """The version that is served; raises `StoreError`."""
    return read_card(current_folder(folder)).version


def use(folder: Path, version: str) -> None:
    """Makes `version` the one that is served; raises `StoreError` if it is not whole."""
    place = version_folder(folder, version)
    _check_whole(place)
    if read_card(place).version != version:
        raise StoreError(f"{title(place)}: its card is of another version; rename the folder")
    _make_current(folder, version)


def add_version(source: Path, folder: Path, *, use: bool = True) -> Path:
    """Adds the checkpoint in `source`, with its report, to the versions of the model in `folder`.

    It replaces the same version. With `use` it is served from now on. Returns the version's folder.
    Raises `StoreError`, or `OSError` if it cannot be written; the versions are as before then.
    """
    card = read_card(source)
    if card.name != folder.name:
        raise StoreError(f"{source}: it is the model {card.name}, not {folder.name}")
    if not VERSION.fullmatch(card.version):
        raise StoreError(
            f"{source}: its version {card.version!r} cannot name a folder; let it begin with a "
            "letter or digit and hold these, ., - and _ alone"
        )
    _check_whole(source)
    place = folder / VERSIONS / card.version
    partial = place.with_name(f".{card.version}-{os.getpid()}{PARTIAL}")
    old = place.with_name(f".{card.version}-{os.getpid()}-old{PARTIAL}")
    partial.mkdir(parents=True)
    try:
        for file in source.iterdir():
            if file.suffix in PUBLISHED and file.name != STATE:
                shutil.copyfile(file, partial / file.name)
        if is_there := place.is_dir():
            place.rename(old)
        try:
            partial.rename(place)
        except OSError:
            if is_there:
                old.rename(place)
            raise
    finally:
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)
        with suppress(OSError):  # a first version failed, else they are not empty
            place.parent.rmdir()
            folder.rmdir()
    # Servers look at a version again when it is named again.
    if use or (is_there and _named(folder) == card.version):
        _make_current(folder, card.version)
    return place


def prune(folder: Path, keep: int) -> list[str]:
    """Removes the oldest versions, so that `keep` are left; returns which, oldest first.

    The one that is served stays in any case, and so does one that lies flat. Raises `StoreError`
    or `OSError`.
    """
    current = current_folder(folder)
    added = _by_age({version: folder / VERSIONS / version for version in _added(folder)})
    old = [version for version in added if folder / VERSIONS / version != current]
    removed = old[: max(0, len(added) - keep)]
    for version in removed:
        partial = folder / VERSIONS / f".{version}-{os.getpid()}{PARTIAL}"
        (folder / VERSIONS / version).rename(partial)  # no server sees half of it
        shutil.rmtree(partial)
    for left in (folder / VERSIONS).glob(f".*{PARTIAL}"):
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - ABANDONED:
                shutil.rmtree(left)
    return removed


def _named(folder: Path) -> str | None:
    """The version that `current` names, if that file is there."""
    try:
        return (folder / CURRENT).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"{folder.name}: {CURRENT} cannot be read ({error.strerror}); write it again: glimpse "
            f"models use {folder.name}@VERSION"
        ) from error


def _make_current(folder: Path, version: str) -> None:
    replace_file(folder / CURRENT, f"{version}\n".encode())


def _check_whole(folder: Path) -> None:
    """Raises `StoreError` if the files are not those that the card describes."""
    card = read_card(folder)
    for file, digest in ((CHECKPOINT, card.sha256), (ONNX_FILE, card.onnx_sha256)):
        if digest or (file == CHECKPOINT and not card.onnx_only):
            vouched(folder / file, digest, "publish the version again")


def _added(folder: Path) -> list[str]:
    return [name for name in names(folder / VERSIONS) if VERSION.fullmatch(name)]


def _flat(folder: Path) -> str | None:
    """The version whose files lie in the model's folder itself, if one does."""
    try:
        return read_card(folder).version
    except StoreError:
        return None


def _by_age(places: Mapping[str, Path]) -> list[str]:
    """Versions by their cards' dates; those of a day, by when they were added."""

    def age(version: str) -> tuple[str, float, str]:
        try:
            written = (places[version] / CARD).stat().st_mtime
            return read_card(places[version]).date, written, version
        except (OSError, StoreError):
            return "", 0, version

    return sorted(places, key=age)

"""`glimpse models`: which versions the store holds, which of them serves, and what goes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import model_store
from app.config import settings
from model_store import StoreError

HEADS = ("MODEL", "VERSION", "SERVES", "DATE", "SIZE", "TEST ACCURACY")


def show(store: Path | None) -> int:
    """Prints every version of every model; returns the exit status."""
    return _told(lambda: _show(_root(store)))


def use(store: Path | None, text: str) -> int:
    """Makes the version that `text` names, as ``digits@VERSION``, the one that serves."""
    return _told(lambda: _use(_root(store), text))


def prune(store: Path | None, name: str | None, keep: int) -> int:
    """Removes all but the newest `keep` versions of the model `name`, or of every model."""
    return _told(lambda: _prune(_root(store), name, keep))


def _told(do: Callable[[], None]) -> int:
    """0, or 2 after an error is printed."""
    try:
        do()
    except (StoreError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}; check the rights and the space that is left", file=sys.stderr)
        return 2
    return 0


def _root(store: Path | None) -> Path:
    return Path(str(settings()["MODEL_STORE"])) if store is None else store


def _show(root: Path) -> None:
    folders = model_store.folders(root)
    if not folders:
        raise StoreError(f"there is no model in {root}; --store names another folder")
    rows: list[tuple[str, ...]] = [HEADS]
    broken: list[str] = []
    for folder in folders:
        try:
            current = model_store.current_folder(folder)
        except StoreError as error:
            current = None
            broken.append(str(error))
        versions = model_store.versions(folder)
        if not versions:
            broken.append(f"{folder.name}: no version can be read; publish the model again")
        for version in versions:
            place = model_store.version_folder(folder, version)
            try:
                rows.append(_row(place, "yes" if place == current else ""))
            except StoreError as error:
                broken.append(str(error))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())
    for reason in broken:
        print(f"unusable: {reason}", file=sys.stderr)


def _row(folder: Path, serves: str) -> tuple[str, ...]:
    card = model_store.read_card(folder)
    accuracy = card.metrics.get("test_accuracy")
    told = f"{accuracy:.2%}" if isinstance(accuracy, float) else ""
    size = f"{(card.size or card.onnx_size) / 1e6:.1f} MB"
    return model_store.model_name(folder), card.version, serves, card.date, size, told


def _use(root: Path, text: str) -> None:
    name, version = model_store.split_name(text)
    folder = _folder(root, name)
    if version is None:
        known = ", ".join(model_store.versions(folder)) or "none"
        raise StoreError(f"name a version, as {name}@VERSION; the versions are: {known}")
    model_store.use(folder, version)
    print(f"{name}@{version} serves from now on")


def _prune(root: Path, name: str | None, keep: int) -> None:
    if keep < 1:
        raise StoreError("--keep must be 1 or more")
    folders = model_store.folders(root) if name is None else [_folder(root, name)]
    removed = [
        f"{folder.name}@{version}"
        for folder in folders
        for version in model_store.prune(folder, keep)
    ]
    for each in removed:
        print(f"removed {each}")
    if not removed:
        print("nothing to remove")


def _folder(root: Path, name: str) -> Path:
    """The folder of a model of the store; raises `StoreError`."""
    folders = {folder.name: folder for folder in model_store.folders(root)}
    if name not in folders:
        known = ", ".join(folders) or "none"
        raise StoreError(f"there is no model {name} in {root}; its models are: {known}")
    return folders[name]

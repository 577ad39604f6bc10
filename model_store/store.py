"""Saving and loading checkpoints: the only module that knows TorchScript's file format."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from model_store.card import Card, CardError

if TYPE_CHECKING:  # torch takes a second to import, and reading cards does not need it
    import torch

ROOT = Path(__file__).resolve().parent
CHECKPOINT = "model.pt"
CARD = "card.json"
VERSIONS = "versions"  # the folder of a model's further versions


class StoreError(Exception):
    """A checkpoint that cannot be used; the message says why and what to do."""


def folders(root: Path = ROOT) -> list[Path]:
    """The model folders under `root` (those that hold a card, a checkpoint or versions), sorted
    by name.
    """
    if not root.is_dir():
        return []
    return sorted(filter(is_model_folder, root.iterdir()))


def is_model_folder(path: Path) -> bool:
    """Whether a model's files are there, or versions of it."""
    return not names(path).isdisjoint((CARD, CHECKPOINT, VERSIONS))


def names(folder: Path) -> set[str]:
    """The names in a folder; none where it cannot be read, as `lost+found`, or is no folder."""
    try:
        return {path.name for path in folder.iterdir()}
    except OSError:
        return set()


def model_name(folder: Path) -> str:
    """The name of the model whose files are in `folder`, the model's own or a version's."""
    return folder.parent.parent.name if folder.parent.name == VERSIONS else folder.name


def title(folder: Path) -> str:
    """What messages call the model in `folder`: ``digits``, or ``digits@VERSION``."""
    name = model_name(folder)
    return f"{name}@{folder.name}" if folder.parent.name == VERSIONS else name


def read_card(folder: Path) -> Card:
    """The card beside the checkpoint in `folder`; raises `StoreError`."""
    try:
        return Card.from_json((folder / CARD).read_bytes())
    except OSError as error:
        raise StoreError(
            f"{title(folder)}: no readable {CARD} ({error.strerror}); train the model again"
        ) from error
    except CardError as error:
        raise StoreError(f"{title(folder)}: {error}; train the model again") from error


def save(module: torch.jit.ScriptModule, card: Card, folder: Path) -> Card:
    """Writes `module` with its card embedded, and the card beside it, into `folder`.

    Each file is replaced in one step, the checkpoint first, so that an interrupted save is
    detected by its SHA-256 and never half loaded. Returns the card with `sha256` and `size`.
    """
    import torch  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with unsaid_deprecation():
        torch.jit.save(module, buffer, _extra_files={CARD: card.bare().to_json()})
    content = buffer.getvalue()
    card = replace(card, sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    replace_file(folder / CHECKPOINT, content)
    replace_file(folder / CARD, card.to_json().encode())
    return card


def load(folder: Path) -> tuple[torch.jit.ScriptModule, Card]:
    """Loads the checkpoint in `folder`, on the CPU and in evaluation mode, and its card.

    A TorchScript file can run code, so its SHA-256 is compared with the card's first, over the
    same bytes that are then loaded. Raises `StoreError`.
    """
    import torch  # noqa: PLC0415

    card = read_card(folder)
    content = vouched(folder / CHECKPOINT, card.sha256, "train the model again")
    extra = {CARD: ""}
    try:
        with unsaid_deprecation():
            module: torch.jit.ScriptModule = torch.jit.load(
                io.BytesIO(content), map_location="cpu", _extra_files=extra
            )
        embedded = Card.from_json(extra[CARD])
    except (RuntimeError, ValueError) as error:
        raise StoreError(
            f"{title(folder)}: {CHECKPOINT} is not a valid checkpoint ({error}); "
            "train the model again"
        ) from error
    if embedded != card.bare():
        raise StoreError(
            f"{title(folder)}: the card in {CHECKPOINT} differs from {CARD}; "
            "restore both from one place, or train the model again"
        )
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module, card


@contextmanager
def unsaid_deprecation() -> Iterator[None]:
    """Silences TorchScript's deprecation warnings; it works in every torch release we allow."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", r"`torch\.jit\.", category)
        yield


def vouched(file: Path, sha256: str, remedy: str) -> bytes:
    """The bytes of `file`, if the card has their SHA-256; raises `StoreError` with `remedy`."""
    folder, name = title(file.parent), file.name
    try:
        content = file.read_bytes()
    except OSError as error:
        raise StoreError(f"{folder}: no readable {name} ({error.strerror}); {remedy}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StoreError(
            f"{folder}: {name} is not the file that {CARD} describes (SHA-256 differs); "
            f"restore both from one place, or {remedy}"
        )
    return content


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file in one step: it is the old one or the new one, never half."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:  # on a full disk, what there is of it would take the last space
        with suppress(OSError):
            partial.unlink()
        raise

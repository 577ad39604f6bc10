"""Pictures into folders, a folder a class, by names that no file system misunderstands."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

NONE = "none"  # the folder of “none of these”
LONGEST = 60  # characters of a folder's name
UNSAFE = re.compile(r"[^\w -]+")
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)\Z")  # names of devices, on Windows
PNG = b"\x89PNG"


def export(
    rows: Iterable[tuple[int, str, str | None, bytes]], folder: Path, *, with_model: bool
) -> int:
    """Writes each row's picture (a PNG or JPEG) into the folder of its label, named by its number;
    `with_model` puts that into one of its model. Rows are number, model, label, picture.

    Returns how many; raises `OSError`.
    """
    count = 0
    labels: dict[tuple[Path, str], str | None] = {}
    for number, model, label, picture in rows:
        place = folder / safe_name(model) if with_model else folder
        name = NONE if label is None else safe_name(label)
        # Where case does not count, “a” and “A” would share a folder.
        if labels.setdefault((place, name.casefold()), label) != label:
            name = _with_digest(name, label or "")
        place /= name
        place.mkdir(parents=True, exist_ok=True)
        suffix = ".png" if picture.startswith(PNG) else ".jpg"
        (place / f"{number}{suffix}").write_bytes(picture)
        count += 1
    return count


def safe_name(text: str) -> str:
    """A folder's name for a label: the label itself if it is safe, else what is safe of it and a
    digest, so that two labels do not share a folder.
    """
    kept = UNSAFE.sub("_", unicodedata.normalize("NFC", text)).strip()[:LONGEST].strip()
    if kept == text and kept.casefold() != NONE and not RESERVED.match(kept.casefold()):
        return kept
    return _with_digest(kept, text)


def _with_digest(name: str, text: str) -> str:
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}".lstrip("-")

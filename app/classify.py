"""`python -m app predict`: pictures of any number from files and folders, a line each."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from app.config import settings
from app.engines import engine
from app.errors import Problem, UnreadableImage
from app.models import Model, Models
from app.predict import Shows, Upload, predict

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"}  # what is taken of a folder
NO_LIMIT = 2**31  # seconds
FORMULA = ("=", "+", "-", "@", "\t", "\r")
TOGETHER = 16  # pictures that are read and classified at once

Answer = tuple[str, dict[str, Any]]
Ask = Callable[[Sequence[Upload]], list[dict[str, Any]]]


def classify(places: Sequence[Path], model: str | None, *, form: str, whole: bool) -> int:
    """Prints an answer for each picture as it comes; `form` is text, json or csv.

    Returns 0 where all were answered, 1 where some were not, 2 where none can be.
    """
    config = settings()
    models = Models(Path(str(config["MODEL_STORE"])), engine(str(config["ENGINE"])))
    try:
        chosen = models.get(model or str(config["DEFAULT_MODEL"]))
    except Problem as problem:
        print(f"error: {problem.detail}", file=sys.stderr)
        return 2
    files = list(_files(places))
    write = _csv(chosen) if form == "csv" else {"text": _text, "json": _json}[form]
    ask = partial(
        predict,
        chosen,
        top_k=len(chosen.card.labels),
        whole=whole,
        shows=Shows(),
        max_pixels=int(config["MAX_PIXELS"]),
        max_seconds=NO_LIMIT,
    )
    right = wrong = 0
    for name, result in _answers(files, ask):
        _clear_progress()
        if "error" in result:
            wrong += 1
            print(f"{name}: {result['error']['detail']}", file=sys.stderr)
        right += "error" not in result
        write(name, result)
        _show_progress(right + wrong, len(files))
    _clear_progress()
    if wrong or not files:
        print(f"{right} of {len(files)} pictures answered", file=sys.stderr)
    return 0 if files and not wrong else 1


def _files(places: Iterable[Path]) -> Iterator[Path]:
    """The files named, and the pictures in the folders named and those below them, sorted."""
    for place in places:
        if not place.is_dir():
            yield place
            continue
        for folder, below, names in os.walk(place):
            below.sort()
            for name in sorted(names):
                if Path(name).suffix.lower() in SUFFIXES:
                    yield Path(folder, name)


def _answers(files: Sequence[Path], ask: Ask) -> Iterator[Answer]:
    """A result for each file, in order."""
    left = iter(files)
    while chosen := list(islice(left, TOGETHER)):
        uploads = [_upload(file) for file in chosen]
        try:
            results = ask(uploads)
        except Problem:  # none of them can be answered: each has its own reason
            results = [_alone(upload, ask) for upload in uploads]
        yield from zip(map(str, chosen), results, strict=True)


def _alone(upload: Upload, ask: Ask) -> dict[str, Any]:
    try:
        (result,) = ask([upload])
    except Problem as problem:
        return {"filename": upload.filename, "error": problem.to_dict()}
    return result


def _upload(file: Path) -> Upload:
    try:
        return Upload(file.read_bytes(), file.name)
    except OSError as error:
        return Upload(UnreadableImage(f"The file cannot be read: {error.strerror}."), file.name)


def _text(name: str, result: dict[str, Any]) -> None:
    if "error" not in result:
        subjects = result.get("faces", [result])
        told = ", ".join(f"{each['label']} {each['score']:.1%}" for each in subjects)
        print(f"{name}\t{told}", flush=True)


def _json(name: str, result: dict[str, Any]) -> None:
    print(json.dumps({**result, "filename": name}, ensure_ascii=False), flush=True)


def _csv(model: Model) -> Any:
    """Writes a row for each subject: where it is, its label and the score of every label."""
    writer = csv.writer(sys.stdout)
    writer.writerow(
        ["file", "error", "x", "y", "width", "height", "label", "score", *model.card.labels]
    )

    def write(name: str, result: dict[str, Any]) -> None:
        # What a spreadsheet would calculate is marked as text.
        cell = f"'{name}" if name.startswith(FORMULA) else name
        if "error" in result:
            writer.writerow([cell, result["error"]["detail"]])
        for subject in result.get("faces", result.get("subjects", [])):
            scores = {each["label"]: each["score"] for each in subject["predictions"]}
            writer.writerow(
                [cell, "", *subject["box"].values(), subject["label"], subject["score"]]
                + [scores[label] for label in model.card.labels]
            )
        sys.stdout.flush()

    return write


def _show_progress(done: int, count: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {count}", end="", file=sys.stderr, flush=True)


def _clear_progress() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)

"""`python -m app predict`: any number of pictures from files and folders, one line each."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec

from app.answers import FailedResult, ProblemDetails, Result, SubjectAnswer
from app.config import settings
from app.engines import engine
from app.models import Model, Models
from app.predict import Options, Upload, predict
from tasks.base import Box
from tasks.decode import OTHER_SUFFIXES, SUFFIXES
from tasks.problems import Problem, UnreadableImage

FORMULA = ("=", "+", "-", "@", "\t", "\r")
DOUBTS = {"sure": "", "unsure": " (not sure)", "none": " (nothing that it knows)"}
TOGETHER = 16  # pictures that are read and classified in one batch

Answer = Result | FailedResult
Ask = Callable[[Sequence[Upload]], list[Answer]]


def predict_files(places: Sequence[Path], model: str | None, *, form: str, whole: bool) -> int:
    """Prints an answer for each picture as it comes; `form` is text, json or csv.

    Returns 0 if all were answered, 1 if some were not, 2 if the model cannot be used.
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
    options = Options(int(config["MAX_PIXELS"]), whole=whole)
    ask = partial(predict, chosen, options=options)
    right = wrong = 0
    for name, result in _answers(files, ask):
        _clear_progress()
        if isinstance(result, FailedResult):
            wrong += 1
            print(f"{name}: {result.error.detail}", file=sys.stderr)
        else:
            right += 1
        write(name, result)
        _show_progress(right + wrong, len(files))
    _clear_progress()
    if wrong or not files:
        print(f"{right} of {len(files)} pictures answered", file=sys.stderr)
    return 0 if files and not wrong else 1


def _files(places: Iterable[Path]) -> Iterator[Path]:
    """The files named, and the pictures in the folders named and those below them, sorted.

    Those of formats that are not read are among them: each is told and counted.
    """
    for place in places:
        if not place.is_dir():
            yield place
            continue
        for folder, below, names in os.walk(place):
            below.sort()
            for name in sorted(names):
                if Path(name).suffix.lower() in SUFFIXES | OTHER_SUFFIXES:
                    yield Path(folder, name)


def answer_each(uploads: Sequence[Upload], ask: Ask) -> list[Answer]:
    """A result for each upload, in order, or its own problem."""
    try:
        return ask(uploads)
    except Problem:  # none of them can be answered: each has its own reason
        return [_alone(upload, ask) for upload in uploads]


def _answers(files: Sequence[Path], ask: Ask) -> Iterator[tuple[str, Answer]]:
    """A result for each file, in order."""
    left = iter(files)
    while chosen := list(islice(left, TOGETHER)):
        results = answer_each([_upload(file) for file in chosen], ask)
        yield from zip(map(_name, chosen), results, strict=True)


def _name(file: Path) -> str:
    """The file's name as text; of one that is not UTF-8, the other bytes as in `\\xfc`."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")


def _alone(upload: Upload, ask: Ask) -> Answer:
    try:
        (result,) = ask([upload])
    except Problem as problem:
        return FailedResult(upload.filename, ProblemDetails.of(problem))
    return result


def _upload(file: Path) -> Upload:
    try:
        return Upload(file.read_bytes(), _name(file))
    except OSError as error:
        return Upload(UnreadableImage(f"The file cannot be read: {error.strerror}."), _name(file))


def _text(name: str, result: Answer) -> None:
    if isinstance(result, Result):
        shown: Sequence[Result | SubjectAnswer] = result.faces or [result]
        told = ", ".join(f"{each.label} {each.score:.1%}{DOUBTS[each.verdict]}" for each in shown)
        print(f"{name}\t{told}", flush=True)


def _json(name: str, result: Answer) -> None:
    result.filename = name
    print(msgspec.json.encode(result).decode(), flush=True)


def _csv(model: Model) -> Callable[[str, Answer], None]:
    """Writes a row for each subject: where it is, its label and the score of every label."""
    writer = csv.writer(sys.stdout)
    labels = model.card.labels
    heads = map(_cell, labels)
    writer.writerow(["file", "error", *Box.__struct_fields__, "label", "score", "verdict", *heads])

    def write(name: str, result: Answer) -> None:
        if isinstance(result, FailedResult):
            writer.writerow([_cell(name), _cell(result.error.detail)])
        else:
            for part in result.parts:
                scores = {each.label: each.score for each in part.predictions}
                box = msgspec.structs.astuple(part.box)
                writer.writerow(
                    [_cell(name), "", *box, _cell(part.label), part.score, part.verdict]
                    + [scores[label] for label in labels]
                )
        sys.stdout.flush()

    return write


def _cell(text: str) -> str:
    """The text, marked if a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _show_progress(done: int, count: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {count}", end="", file=sys.stderr, flush=True)


def _clear_progress() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)

"""Classifies any number of pictures on a Ray cluster; docs/scale.md tells how to run it.

Pictures are divided into shards. An actor on each core holds the model; it reads a shard,
classifies it with the code that the app serves with, and writes the answers as one Parquet file,
which is there whole or not at all. So a run that is started again skips what is done, and a shard
that a lost machine had is done again elsewhere.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import posixpath
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import ray

import model_store
from app.answers import FailedResult
from app.config import settings
from app.engines import engine
from app.models import Models
from app.predict import Options, Upload, predict
from app.predict_command import Answer, answer_each
from tasks.decode import OTHER_SUFFIXES, SUFFIXES
from tasks.problems import Problem, UnreadableImage

TOP = Path(__file__).resolve().parents[2]
TOGETHER = 16  # pictures that are read, and then classified, at once
SHOWN_EVERY = 10  # seconds between lines of progress
PARQUET = ".parquet"
COLUMNS = [("path", pa.string()), ("label", pa.string()), ("score", pa.float64())]
COLUMNS += [("verdict", pa.string()), ("error", pa.string())]

Picture = tuple[str, bytes | Problem]


class Classifier:
    """A model in a process of its own, which answers shards."""

    def __init__(self, source: str, output: str, model: str, version: str, column: str) -> None:
        config = settings()
        store, name = Path(str(config["MODEL_STORE"])), str(config["ENGINE"])
        self.model = Models(store, engine(name)).get(model)
        if self.model.card.version != version:
            raise RuntimeError(
                f"{model} is {self.model.card.version} on {os.uname().nodename} and {version} "
                "where the run was started; put the same models on every machine"
            )
        options = Options(int(config["MAX_PIXELS"]))
        self.ask = partial(predict, self.model, options=options)
        self.source, place = fsspec.core.url_to_fs(source)
        self.root = _base(self.source, place)
        self.target, self.output = fsspec.core.url_to_fs(output)
        self.column = column

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        """Writes the answers to a shard; returns how many pictures it had, and how many errors."""
        began = time.process_time()
        rows: list[tuple[Any, ...]] = []
        for pictures in self._read(shard):
            uploads = [Upload(content) for _, content in pictures]
            answers = answer_each(uploads, self.ask)
            rows += [_row(path, each) for (path, _), each in zip(pictures, answers, strict=True)]
        card = self.model.card
        schema = pa.schema(COLUMNS, {"model": card.name, "version": card.version})
        columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table([list(each) for each in columns], schema=schema), sink)
        # Readers of Parquet folders skip names that begin with an underscore.
        name, new = f"{shard['name']}{PARQUET}", f"_{uuid.uuid4().hex}"
        self.target.makedirs(self.output, exist_ok=True)
        self.target.pipe_file(posixpath.join(self.output, new), sink.getvalue().to_pybytes())
        self.target.mv(posixpath.join(self.output, new), posixpath.join(self.output, name))
        errors = sum(row[-1] is not None for row in rows)
        return {"pictures": len(rows), "errors": errors, "seconds": time.process_time() - began}

    def _read(self, shard: dict[str, Any]) -> Iterator[list[Picture]]:
        """The shard's pictures, `TOGETHER` at a time."""
        if shard["group"] >= 0:
            yield from self._read_parquet(*shard["files"], shard["group"])
            return
        batches = list(_in_batches(shard["files"], TOGETHER))
        with ThreadPoolExecutor(TOGETHER) as pool:  # the next are read while these are classified
            ahead = [pool.submit(self._read_file, file) for file in batches[0]]
            for batch in [*batches[1:], []]:
                reading, ahead = ahead, [pool.submit(self._read_file, file) for file in batch]
                yield [each.result() for each in reading]

    def _read_file(self, file: str) -> Picture:
        try:
            return file, self.source.cat_file(posixpath.join(self.root, file))
        except Exception as error:  # each kind of bucket has its own
            return file, UnreadableImage(f"The file cannot be read: {error}.")

    def _read_parquet(self, file: str, group: int) -> Iterator[list[Picture]]:
        """The pictures of a row group; each is named by its path, or else by its row."""
        with self.source.open(posixpath.join(self.root, file)) as opened:
            table = pq.ParquetFile(opened)
            first = sum(table.metadata.row_group(each).num_rows for each in range(group))
            wanted = [name for name in ("path", self.column) if name in table.schema_arrow.names]
            for batch in table.iter_batches(TOGETHER, row_groups=[group], columns=wanted):
                rows = batch.to_pylist()
                yield [
                    _picture(row, self.column, f"{file}#{number}")
                    for number, row in enumerate(rows, first)
                ]
                first += len(rows)


def _base(files: Any, place: str) -> str:
    """The folder in which a source's files have their names; of a single file, the one above."""
    return posixpath.dirname(place) if files.isfile(place) else place


def _picture(row: dict[str, Any], column: str, name: str) -> Picture:
    content = row[column]
    if isinstance(content, dict):  # bytes and path together, as the library datasets has them
        row, content = content, content["bytes"]
    return row.get("path") or name, content or b""


def _row(path: str, answer: Answer) -> tuple[Any, ...]:
    if isinstance(answer, FailedResult):
        return path, None, None, None, answer.error.detail
    return path, answer.label, answer.score, answer.verdict, None


def _in_batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


def shards_of(
    source: str, column: str, size: int, done: set[str], answered: set[str]
) -> list[dict[str, Any]]:
    """What is left to do: files without an answer, and row groups that are not `done`.

    Raises `ValueError` for a Parquet file that cannot be read or lacks the column.
    """
    files, place = fsspec.core.url_to_fs(source)
    root = _base(files, place)
    found = sorted(posixpath.relpath(file, root) for file in files.find(place))
    pictures = [
        file
        for file in found
        if Path(file).suffix.lower() in SUFFIXES | OTHER_SUFFIXES and file not in answered
    ]
    shards = [_shard(batch, -1) for batch in _in_batches(pictures, size)]
    for file in (each for each in found if each.endswith(PARQUET)):
        try:
            with files.open(posixpath.join(root, file)) as opened:
                table = pq.ParquetFile(opened)
                names, groups = table.schema_arrow.names, table.num_row_groups
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{file}: not a Parquet file that can be read ({error})") from error
        if column not in names:
            raise ValueError(f"{file} has no column {column!r}: name it by --column ({names})")
        shards += [_shard([file], group) for group in range(groups)]
    return [shard for shard in shards if shard["name"] not in done]


def _shard(files: Sequence[str], group: int) -> dict[str, Any]:
    """A shard by the name that it has whenever it is made of the same."""
    name = hashlib.sha256("\0".join([*files, str(group)]).encode()).hexdigest()[:32]
    return {"name": f"part-{name}", "files": list(files), "group": group}


def done_in(output: str, model: str, version: str) -> tuple[set[str], set[str]]:
    """The shards whose answers are in `output`, and the paths that these answer.

    Raises `ValueError` if another model gave them.
    """
    files, root = fsspec.core.url_to_fs(output)
    done, answered = set(), set()
    for file in files.glob(posixpath.join(root, f"part-*{PARQUET}")):
        with files.open(file) as opened:
            table = pq.read_table(opened, columns=["path"])
        given = table.schema.metadata or {}
        if given.get(b"model") != model.encode() or given.get(b"version") != version.encode():
            raise ValueError(f"{output} holds answers of another model; name another folder")
        done.add(posixpath.basename(file).removesuffix(PARQUET))
        answered.update(table["path"].to_pylist())
    return done, answered


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0 if every picture has its answer, 1 if some have errors."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", help="a folder or bucket of pictures or Parquet files")
    parser.add_argument("output", help="the folder or bucket of the answers")
    parser.add_argument("--model", help="(GLIMPSE_DEFAULT_MODEL, or digits)")
    parser.add_argument("--workers", type=int, help="at most so many (all the cluster's cores)")
    parser.add_argument("--column", default="bytes", help="that holds pictures in Parquet files")
    parser.add_argument("--shard", type=int, default=256, help="files in a shard (256)")
    given = parser.parse_args(argv)
    # Each machine has its own working folder, so a place in this one is named in full.
    source, output = map(_in_full, (given.source, given.output))
    config = settings()
    name = given.model or str(config["DEFAULT_MODEL"])
    try:
        model, version = model_store.split_name(name)
        folder = Path(str(config["MODEL_STORE"])) / model
        if version is None:
            folder = model_store.current_folder(folder)
        else:
            folder = model_store.version_folder(folder, version)
        card = model_store.read_card(folder)
        done, answered = done_in(output, name, card.version)
        shards = shards_of(source, given.column, given.shard, done, answered)
    except (OSError, ValueError, model_store.StoreError) as error:
        parser.error(str(error))
    if done:
        print(f"{len(done)} shards are done; {len(shards)} are left", file=sys.stderr)
    if not shards:
        print("nothing is left to classify", file=sys.stderr)
        return 0
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TOP)}
    ray.init(runtime_env={"env_vars": environment}, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    most = min(given.workers or int(ray.cluster_resources()["CPU"]), len(shards))
    results = ray.data.from_items(shards, override_num_blocks=len(shards)).map(
        Classifier,
        fn_constructor_args=(source, output, name, card.version, given.column),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
        num_cpus=1,
    )
    return _follow(results.iter_rows(), len(shards))


def _in_full(place: str) -> str:
    return place if "://" in place else str(Path(place).resolve())


def _follow(results: Iterable[dict[str, Any]], count: int) -> int:
    """Shows how far the run is as its shards are done."""
    began = shown = time.monotonic()
    pictures = errors = 0
    seconds = 0.0
    for number, result in enumerate(results, 1):
        pictures += result["pictures"]
        errors += result["errors"]
        seconds += result["seconds"]
        if number == count or time.monotonic() - shown > SHOWN_EVERY:
            shown = time.monotonic()
            rate = pictures / (shown - began)
            print(
                f"{number} of {count} shards: {pictures} pictures, {errors} errors, "
                f"{rate:.1f} a second, {1000 * seconds / max(1, pictures):.1f} ms of processor "
                f"time each, {(count - number) / number * (shown - began):.0f} s left",
                file=sys.stderr,
                flush=True,
            )
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())

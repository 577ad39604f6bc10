"""Metrics that all processes of a server count: where their files are, and who writes which."""

from __future__ import annotations

import atexit
import fcntl
import os
import sys
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from shutil import rmtree
from typing import Any

from prometheus_client import values
from prometheus_client.mmap_dict import mmap_key

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # names the folder to prometheus_client, too
PREFIX = "glimpse-metrics-"
PLACES = "places"  # the file whose bytes stand for places; the processes lock theirs
NEW_SECONDS = 60  # in which a server locks its first place
KINDS = ("counter", "gauge_max", "histogram")
LEAST = 64 * 1024  # bytes of a file, as prometheus_client has it
MARGIN = 4096  # bytes for what other threads add meanwhile


def create_folder(where: str | None) -> None:
    """Creates the folder in `where`, to be removed at the end, and removes those of killed servers.

    Does nothing where the environment names one.
    """
    if FOLDER in os.environ:
        return
    for folder in Path(where or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's
            if folder.lstat().st_mtime < time.time() - NEW_SECONDS and not _is_in_use(folder):
                rmtree(folder)
    folder, owner = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where)), os.getpid()
    (folder / PLACES).touch()
    os.environ[FOLDER] = str(folder)
    atexit.register(lambda: rmtree(folder) if os.getpid() == owner else None)  # no worker


def _is_in_use(folder: Path) -> bool:
    with (folder / PLACES).open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def share_values() -> None:
    """Makes metrics that are defined after this shared, if there is a folder for them."""
    if FOLDER in os.environ:
        values.ValueClass = _Values(Path(os.environ[FOLDER]))


class _Values:
    """Creates values: in this process's files, or in its memory alone where these have no room.

    A process has the place of one that has ended, and goes on counting in its files: so they are
    as many as processes have been alive together, and no count is lost. Files are mapped, and a
    disk that fills up would kill who writes to a part that is not allocated: so all of it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.locked = os.open(folder / PLACES, os.O_RDWR | os.O_CREAT, 0o600)
        self.owner, self.place, self.has_room = 0, 0, False
        self.shared = values.MultiProcessValue(self._place)  # type: ignore[no-untyped-call]

    def __call__(self, kind: str, *parts: Any, multiprocess_mode: str = "", **more: Any) -> Any:
        place = self._place()
        prefix = f"{kind}_{multiprocess_mode}" if multiprocess_mode else kind
        needed = len(mmap_key(*parts)) + MARGIN
        if self.has_room and self._reserve(f"{prefix}_{place}.db", needed):
            return self.shared(kind, *parts, multiprocess_mode=multiprocess_mode, **more)
        return values.MutexValue(kind, *parts, **more)  # type: ignore[no-untyped-call]

    def _place(self) -> int:
        """The first place that no living process has, from a process's first call on."""
        if self.owner != os.getpid():
            self.owner = os.getpid()
            for self.place in count():
                with suppress(BlockingIOError):
                    fcntl.lockf(self.locked, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self.place)
                    break
            self.has_room = all(self._reserve(f"{kind}_{self.place}.db", 0) for kind in KINDS)
        return self.place

    def _reserve(self, name: str, needed: int) -> bool:
        """Whether the file has, or gets, room for so many bytes more."""
        path = self.folder / name
        new = path.with_suffix(".new")  # until it has its size nobody may read it
        with (path if path.exists() else new).open("a+b") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(0)
            if size and int.from_bytes(file.read(4), sys.byteorder) + needed <= size:
                return True
            try:
                os.posix_fallocate(file.fileno(), 0, max(2 * size, LEAST))
            except OSError:
                return False
        if not path.exists():
            new.replace(path)
        return True

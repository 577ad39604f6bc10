"""Counts of each client's requests, in memory that all workers of a server share."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import secrets
import struct
import tempfile
import threading
import time
import weakref

from limits import RateLimitItem

BYTES = 32 * 1024 * 1024  # taken only as clients come
WAYS = 4  # places in which a client may be
LEAST = 64  # times as many clients that are known
HEAD = struct.Struct("=QQ")  # the client, and which of its times is the oldest
TIME = struct.Struct("=d")


class SharedRates:
    """A moving window: of each client, the times of as many requests as the limit admits.

    Workers share it if they are forked after it is created. It never grows: where all places of
    a client are taken, it has that of the one that was admitted least lately.
    """

    def __init__(self, limit: RateLimitItem) -> None:
        self.amount, self.span = limit.amount, float(limit.get_expiry())
        self.size = HEAD.size + self.amount * TIME.size
        self.sets = max(LEAST, BYTES // self.size // WAYS)
        self.table = mmap.mmap(-1, self.sets * WAYS * self.size)
        self.secret = secrets.token_bytes(16)  # so that nobody can choose whose place to take
        self.lock = threading.Lock()
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  # its lock ends with who holds it
        weakref.finalize(self, self.file.close)

    def hit(self, client: str) -> float:
        """Counts a request if it is within the limit: then 0, else the seconds to wait."""
        digest = hashlib.blake2b(client.encode(), key=self.secret, digest_size=8).digest()
        name = int.from_bytes(digest, "little") or 1
        with self.lock:
            fcntl.lockf(self.file, fcntl.LOCK_EX)
            try:
                # Not the wall clock, which may be set back. An empty place's time of 0 must be
                # out of the window, also just after the machine has started.
                return self._hit(name, time.monotonic() + self.span)
            finally:
                fcntl.lockf(self.file, fcntl.LOCK_UN)

    def _hit(self, name: int, now: float) -> float:
        first = name % self.sets * WAYS
        places = [place * self.size for place in range(first, first + WAYS)]
        at = next((at for at in places if HEAD.unpack_from(self.table, at)[0] == name), None)
        if at is None:
            at = min(places, key=self._last)
            self.table[at : at + self.size] = bytes(self.size)
        oldest = HEAD.unpack_from(self.table, at)[1]
        wait = self._time(at, oldest) + self.span - now
        if wait > 0:
            return wait
        TIME.pack_into(self.table, at + HEAD.size + oldest * TIME.size, now)
        HEAD.pack_into(self.table, at, name, (oldest + 1) % self.amount)
        return 0

    def _last(self, at: int) -> float:
        """When the client of that place was admitted last."""
        return self._time(at, HEAD.unpack_from(self.table, at)[1] - 1)

    def _time(self, at: int, number: int) -> float:
        start = at + HEAD.size + number % self.amount * TIME.size
        return float(TIME.unpack_from(self.table, start)[0])

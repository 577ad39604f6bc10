"""Scheduling: one thread of a worker runs at a time, since threads on one core slow each other.

Light requests, which take a few milliseconds, go before heavy ones. Those that wait for the same
network share a forward pass, which takes a tenth less time for each. Heavy requests work in
slices: after each slice, waiting requests go first.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Network = Callable[[Pixels], NDArray[Any]]

MOST_TOGETHER = 8  # light requests in a shared forward pass
LONG_ENOUGH = 0.07  # seconds after which a batch waits for no further request
SLICE = 0.3  # seconds of work after which a heavy request lets others go first
PATIENCE = 1.0  # seconds for which light requests may overtake waiting heavy ones
CHUNK = 16  # pictures of a heavy request in a forward pass; the time is checked in between


@dataclass(eq=False)
class _Ticket:
    """A thread in the queue."""

    light: bool
    called: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.called.acquire()


@dataclass(eq=False)
class _Batch:
    """Pixels of light requests that wait for a shared forward pass of one network."""

    network: Network
    since: float = field(default_factory=time.monotonic)
    pixels: list[Pixels] = field(default_factory=list)
    probabilities: NDArray[Any] | None = None
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Scheduler:
    """The queue of one worker."""

    def __init__(self) -> None:
        self._own = threading.Lock()
        self._busy = False
        self._light: deque[_Ticket] = deque()
        self._heavy: deque[_Ticket] = deque()
        self._is_heavy = False  # whether a heavy request has the turn
        self._last_heavy = 0.0  # when one last had it
        self._batch: _Batch | None = None  # only the thread that has the turn accesses it

    @contextmanager
    def turn(self, *, light: bool, seconds: float) -> Iterator[Turn]:
        """Waits for this thread's turn; ``light`` is work of a few milliseconds.

        `seconds` is how much of its own time the thread may take (see `Turn.expired`).
        """
        self.take(light=light)
        turn = Turn(self, light, seconds)
        try:
            yield turn
        finally:
            if turn.held:
                self.give()

    def take(self, *, light: bool) -> None:
        """Waits for the turn."""
        with self._own:
            if not self._busy:
                self._busy, self._is_heavy = True, not light
                return
            ticket = _Ticket(light)
            (self._light if light else self._heavy).append(ticket)
        ticket.called.acquire()

    def give(self) -> None:
        """Passes the turn on; first runs the waiting batch, unless the next request may join it."""
        while True:
            with self._own:
                ticket = self._next()
                if ticket is None and self._batch is None:
                    self._busy = False
                    return
            if self._batch and not (ticket and ticket.light and _has_room(self._batch)):
                self.run_batch()
            if ticket is not None:
                ticket.called.release()
                return

    @property
    def waited_for(self) -> bool:
        """Whether anyone waits for the turn."""
        return bool(self._light or self._heavy)

    def join(self, network: Network, pixels: Pixels) -> NDArray[Any]:
        """Probabilities of a light request's pixels; passes the turn on while it waits for them."""
        if self._batch is not None and self._batch.network is not network:
            self.run_batch()
        if self._batch is None:
            self._batch = _Batch(network)
        batch = self._batch
        start = sum(map(len, batch.pixels))
        batch.pixels.append(pixels)
        self.give()
        batch.done.wait()
        if batch.error is not None:
            # A new exception for each thread: a shared one would collect all their tracebacks.
            raise RuntimeError("the network failed") from batch.error
        assert batch.probabilities is not None
        return batch.probabilities[start : start + len(pixels)]

    def run_batch(self) -> None:
        """Runs the waiting batch, if there is one, through its network."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        try:
            batch.probabilities = batch.network(np.concatenate(batch.pixels))
        except Exception as error:  # raised in each of the waiting threads
            batch.error = error
        finally:
            batch.done.set()

    def _next(self) -> _Ticket | None:
        """The next in the queue: a light request, or a heavy one if none had a turn for a while."""
        now = time.monotonic()
        if self._is_heavy:
            self._last_heavy = now
        self._is_heavy = bool(
            self._heavy and (not self._light or now - self._last_heavy > PATIENCE)
        )
        if self._is_heavy:
            return self._heavy.popleft()
        return self._light.popleft() if self._light else None


class Turn:
    """A thread's turn to work."""

    def __init__(self, scheduler: Scheduler, light: bool, seconds: float) -> None:
        self.held = True
        self._scheduler, self._light = scheduler, light
        # The thread's own processor time: load from others does not count against the request.
        self._began = self._slice = time.thread_time()
        self._end = self._began + seconds
        self._taken: float | None = None

    @property
    def taken(self) -> float:
        """The processor seconds that the request's own work took, in its turn."""
        return time.thread_time() - self._began if self._taken is None else self._taken

    @property
    def expired(self) -> bool:
        """Whether the request has used up its time."""
        return time.thread_time() > self._end

    def rest(self) -> None:
        """Lets waiting requests go first, if a slice of work is done."""
        if not self._scheduler.waited_for or time.thread_time() - self._slice < SLICE:
            return
        self.held = False
        self._scheduler.give()
        self._scheduler.take(light=False)
        self.held = True
        self._slice = time.thread_time()

    def classify(self, network: Network, pixels: Pixels) -> NDArray[Any] | None:
        """Probabilities (N, K) of `pixels` (N, C, H, W); none if the time is up before.

        This ends a light request's turn; a heavy request keeps its turn, and so does a light one
        with more than `CHUNK` pictures.
        """
        if self._light and len(pixels) <= CHUNK:
            self._taken = self.taken  # without the forward pass, which may be of others too
            self.held = False
            return self._scheduler.join(network, pixels)
        self._scheduler.run_batch()  # of others, who would wait for all of this
        parts = []
        for start in range(0, len(pixels), CHUNK):
            if start and self.expired:
                return None
            parts.append(network(pixels[start : start + CHUNK]))
            self.rest()
        return np.concatenate(parts)


def _has_room(batch: _Batch) -> bool:
    is_fresh = time.monotonic() - batch.since < LONG_ENOUGH
    is_small = len(batch.pixels) < MOST_TOGETHER and sum(map(len, batch.pixels)) < CHUNK
    return is_fresh and is_small


SCHEDULER = Scheduler()

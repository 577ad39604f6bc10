"""Scheduling: in a worker one light and one heavy request work at a time; the others wait.

Light requests, which take a few milliseconds, never wait for heavy ones, which may decode a large
picture for a second. They wait for each other, since threads on one core slow each other, and
those that wait for the same network share a forward pass, which takes a tenth less time for each.
Heavy requests work in slices: after each slice, those that wait go first.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.problems import Busy

Pixels = NDArray[np.uint8]
Network = Callable[[Pixels], NDArray[Any]]

MOST_TOGETHER = 8  # light requests in a shared forward pass
LONG_ENOUGH = 0.07  # seconds after which a batch waits for no further request
SLICE = 0.3  # seconds of work after which a heavy request lets others go first
MOST_WAITING = 96  # heavy requests in a worker, each in a thread; the rest of 128 serve light ones
LEAST_WORK = 0.01  # seconds
CHUNK = 16  # pictures of a heavy request in a forward pass; the time is checked in between


@dataclass(eq=False)
class _Batch:
    """Pixels of light requests that wait for a shared forward pass of one network."""

    network: Network
    since: float = field(default_factory=time.monotonic)
    pixels: list[Pixels] = field(default_factory=list)
    probabilities: NDArray[Any] | None = None
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)


class _Lane:
    """A queue of threads, of which the first works."""

    def __init__(self) -> None:
        self._own = threading.Lock()
        self.busy = False
        self.waiting: deque[threading.Lock] = deque()

    def take(self) -> None:
        """Waits for the thread's turn."""
        with self._own:
            if not self.busy:
                self.busy = True
                return
            called = threading.Lock()
            called.acquire()
            self.waiting.append(called)
        called.acquire()

    def give(self) -> None:
        """Passes the turn to the next in the queue."""
        with self._own:
            if self.waiting:
                self.waiting.popleft().release()
            else:
                self.busy = False


class _LightLane(_Lane):
    """A queue whose threads may leave their pixels behind for a shared forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self._batch: _Batch | None = None  # only the thread that has the turn accesses it

    def give(self) -> None:
        """Passes the turn on; first runs the waiting batch, unless the next request may join it."""
        while self._batch and not (self.waiting and _has_room(self._batch)):
            self.run_batch()
        super().give()

    def join(self, network: Network, pixels: Pixels) -> NDArray[Any]:
        """Probabilities of a request's pixels; passes the turn on while it waits for them."""
        try:
            if self._batch is not None and self._batch.network is not network:
                self.run_batch()
            if self._batch is None:
                self._batch = _Batch(network)
            batch = self._batch
            start = sum(map(len, batch.pixels))
            batch.pixels.append(pixels)
        finally:  # also where memory runs out
            self.give()
        batch.done.wait()
        if batch.error is not None:
            # A new exception for each thread: a shared one would collect all their tracebacks.
            kind = MemoryError if isinstance(batch.error, MemoryError) else RuntimeError
            raise kind("the network failed") from batch.error
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


class _HeavyLane(_Lane):
    """A queue that refuses requests for which the wait would be too long."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0  # requests that wait or work
        self._usual = 0.0  # processor seconds of a request, on average, of late

    @contextmanager
    def place(self, patience: float) -> Iterator[None]:
        """A place in the queue; raises `Busy` if the work before it likely takes longer."""
        with self._own:
            if self._count >= MOST_WAITING or self._count * self._usual > patience:
                raise busy(self._usual)
            self._count += 1
        began = time.thread_time()
        try:
            yield
        finally:
            worked = time.thread_time() - began
            with self._own:
                self._count -= 1
                if worked > LEAST_WORK:  # it did not only wait in vain
                    self._usual += (worked - self._usual) / 4


class Scheduler:
    """The queues of one worker."""

    def __init__(self) -> None:
        self.light, self.heavy = _LightLane(), _HeavyLane()

    @property
    def is_idle(self) -> bool:
        """Whether no request works."""
        return not (self.light.busy or self.heavy.busy)

    @contextmanager
    def turn(
        self, *, light: bool, seconds: float = math.inf, patience: float = math.inf
    ) -> Iterator[Turn]:
        """Waits for this thread's turn; ``light`` is work of a few milliseconds.

        `seconds` is how much of its own time the thread may take (see `Turn.expired`). Raises
        `Busy` if a heavy request has waited, or likely would wait, for more than `patience`
        seconds.
        """
        with nullcontext() if light else self.heavy.place(patience):
            turn = Turn(self.light if light else self.heavy, seconds, patience)
            try:
                turn.take()
                yield turn
            finally:
                if turn.held:
                    turn.give()


class Turn:
    """A thread's turn to work."""

    def __init__(self, lane: _LightLane | _HeavyLane, seconds: float, patience: float) -> None:
        self.held = False
        self._lane, self._patience = lane, patience
        # The thread's own processor time: load from others does not count against the request.
        self._began = self._slice = time.thread_time()
        self._end = self._began + seconds
        self._waited = 0.0
        self._taken: float | None = None

    @property
    def taken(self) -> float:
        """The processor seconds that the request's own work took, in its turn."""
        return time.thread_time() - self._began if self._taken is None else self._taken

    @property
    def expired(self) -> bool:
        """Whether the request has used up its time."""
        return time.thread_time() > self._end

    def take(self) -> None:
        """Waits for the turn; raises `Busy` if a heavy request has waited too long in all."""
        began = time.monotonic()
        self._lane.take()
        self.held = True
        self._slice = time.thread_time()
        self._waited += time.monotonic() - began
        if isinstance(self._lane, _HeavyLane) and self._waited > self._patience:
            raise busy(self.taken)

    def give(self) -> None:
        """Passes the turn on."""
        self.held = False
        self._lane.give()

    def rest(self) -> None:
        """Lets waiting requests go first, if a slice of work is done."""
        enough = SLICE if isinstance(self._lane, _HeavyLane) else 0
        if self._lane.waiting and time.thread_time() - self._slice >= enough:
            self.give()
            self.take()

    def classify(self, network: Network, pixels: Pixels) -> NDArray[Any] | None:
        """Probabilities (N, K) of `pixels` (N, C, H, W); none if the time is up before.

        This ends a light request's turn, unless it has more than `CHUNK` pictures.
        """
        light = self._lane if isinstance(self._lane, _LightLane) else None
        if light and len(pixels) <= CHUNK:
            self._taken = self.taken  # without the forward pass, which may be of others too
            self.held = False
            return light.join(network, pixels)
        parts = []
        for start in range(0, len(pixels), CHUNK):
            if start and self.expired:
                return None
            if light:
                light.run_batch()  # of others, who would wait for this part
            parts.append(network(pixels[start : start + CHUNK]))
            self.rest()
        return np.concatenate(parts)


def busy(seconds: float) -> Busy:
    """The problem of too much work at once; in `seconds` there may be less."""
    wait = max(1, math.ceil(seconds))
    return Busy(
        f"The server has more work than it can do soon. Wait {wait} s, then send it again.",
        {"Retry-After": str(wait)},
    )


def _has_room(batch: _Batch) -> bool:
    is_fresh = time.monotonic() - batch.since < LONG_ENOUGH
    is_small = len(batch.pixels) < MOST_TOGETHER and sum(map(len, batch.pixels)) < CHUNK
    return is_fresh and is_small


SCHEDULER = Scheduler()

"""The order in which a worker answers: as the requests came, those that wait together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Answer = TypeVar("Answer")
# Work that gives the pixels that it wants classified, (N, C, H, W), is sent their probabilities,
# (N, K), and returns the answer.
Work = Generator[Pixels, NDArray[Any], Answer]

MOST = 8  # requests that are answered together
LONG_ENOUGH = 0.07  # seconds of a thread's time, after which no further request joins


@dataclass(eq=False)
class _Request(Generic[Answer]):
    work: Work[Answer]
    network: Callable[[Pixels], NDArray[Any]]
    light: bool
    turn: threading.Lock = field(default_factory=threading.Lock)
    pixels: Pixels | None = None
    answer: Answer | None = None
    error: BaseException | None = None
    done: bool = False

    def go(self, probabilities: NDArray[Any] | None = None) -> None:
        """Goes on to the pixels, then to the answer; or to an error, which is kept."""
        try:
            if probabilities is None:
                self.pixels = next(self.work)
            else:
                self.work.send(probabilities)
        except StopIteration as end:
            self.answer, self.done = end.value, True
        except Exception as error:  # raised where the request came from
            self.error, self.done = error, True


class Turns(Generic[Answer]):
    """Lets one thread at a time work: a worker has a core, and threads that share it slow each
    other down.

    Who comes while another works waits; Python's own lock would go to whoever is quickest, so that
    a request may wait for many that came after it. The pixels of light requests that wait for the
    same network go through it at once, which takes a tenth less time for each than alone.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Request[Answer]] = deque()
        self._busy = False
        self._own = threading.Lock()

    def do(
        self, work: Work[Answer], network: Callable[[Pixels], NDArray[Any]], *, light: bool
    ) -> Answer:
        """The answer of `work`; raises what it raises. `light` is work of a few milliseconds."""
        request = _Request(work, network, light)
        request.turn.acquire()
        with self._own:
            leads = not self._busy
            self._busy = True
            self._waiting.append(request)
        if not leads:
            request.turn.acquire()
        try:
            if not request.done:
                self._lead()
            if request.error is not None:
                raise request.error
            return request.answer  # type: ignore[return-value]  # there is one where it is done
        finally:
            request.error = None  # by its traceback it holds the request, and so its pictures

    def _lead(self) -> None:
        """Answers the first of those who wait, and some after it; another leads on."""
        group: list[_Request[Answer]] = []
        try:
            self._answer(group)
        except BaseException as error:
            for each in group:
                if not each.done:
                    each.error, each.done = error, True
            raise
        finally:
            with self._own:
                self._busy = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].turn.release()
            for each in group[1:]:
                each.turn.release()

    def _answer(self, group: list[_Request[Answer]]) -> None:
        end = time.thread_time() + LONG_ENOUGH
        while (request := self._next(group)) is not None:
            group.append(request)
            request.go()
            if time.thread_time() > end:
                break
        wanting = [(each, each.pixels) for each in group if each.pixels is not None]
        if not wanting:
            return
        probabilities = group[0].network(np.concatenate([pixels for _, pixels in wanting]))
        start = 0
        for each, pixels in wanting:
            each.go(probabilities[start : start + len(pixels)])
            start += len(pixels)

    def _next(self, group: list[_Request[Answer]]) -> _Request[Answer] | None:
        """Who comes next, where it may join the group."""
        with self._own:
            if not self._waiting or len(group) == MOST:
                return None
            if group:
                first, other = group[0], self._waiting[0]
                if not (first.light and other.light and first.network is other.network):
                    return None
            return self._waiting.popleft()

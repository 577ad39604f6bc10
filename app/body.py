"""The body of a request, read whole and kept in memory, and what all of them may take there."""

from __future__ import annotations

import io
import math
import threading
from functools import partial
from typing import IO, cast

from flask import Flask, Request, Response, current_app, request
from werkzeug.exceptions import BadRequest, HTTPException

from tasks.problems import Busy

SMALL = 64 * 1024  # bytes of a body, such as a digit's, that always finds room
PIECE = 64 * 1024  # bytes that are read at once


class Held:
    """The bytes of bodies and of large answers that a worker holds."""

    def __init__(self) -> None:
        self._own = threading.Lock()
        self.bytes = 0

    def add(self, count: int, most: int) -> None:
        """Adds `count` bytes; raises `Busy` if they would then be more than `most`."""
        with self._own:
            if self.bytes + count > most:
                raise Busy(
                    "The server holds as many pictures as it has memory for. Wait 5 s, then send "
                    "it again.",
                    {"Retry-After": "5"},
                )
            self.bytes += count

    def remove(self, count: int) -> None:
        """Takes `count` bytes off."""
        with self._own:
            self.bytes -= count


HELD = Held()


class InMemory(Request):
    """A request whose files stay in memory: bodies are limited, and the disk may be full."""

    held = 0  # bytes that count in `HELD`

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return io.BytesIO()


def register(app: Flask) -> None:
    """Makes `app` count what its requests hold until they are answered."""
    app.request_class = InMemory
    app.teardown_request(_release)


def whole_body() -> bytes:
    """The body's bytes; raises `Busy` as soon as all bodies take too much, or an HTTP error.

    The request does not keep them.
    """
    pieces: list[bytes] = []
    size, end = 0, request.content_length or math.inf
    try:
        while size < end and (piece := request.stream.read(PIECE)):
            pieces.append(piece)
            size += len(piece)
            _hold(size - SMALL)
    except (Busy, HTTPException, MemoryError):
        raise
    except Exception as error:  # gunicorn's own, for a badly chunked body
        raise BadRequest("The body is not valid HTTP. Send it again.") from error
    return b"".join(pieces)


def hold_until_sent(response: Response) -> Response:
    """Makes a large answer count in `HELD` until the client has it; raises `Busy`."""
    count = (response.content_length or 0) - SMALL
    if count > 0:
        HELD.add(count, _most())
        response.call_on_close(partial(HELD.remove, count))
    return response


def _hold(count: int) -> None:
    """Makes the request hold `count` bytes in all."""
    this = cast(InMemory, request)
    if count > this.held:
        HELD.add(count - this.held, _most())
        this.held = count


def _most() -> int:
    """The setting, but room for one request of the largest size where it is too low for that."""
    most: int = max(current_app.config["MAX_HELD"], current_app.config["MAX_BYTES"])
    return most


def _release(_: BaseException | None) -> None:
    this = cast(InMemory, request)
    HELD.remove(this.held)
    this.held = 0

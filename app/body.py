"""The body of a request, read whole and kept in memory, and what all of them may take there."""

from __future__ import annotations

import io
import math
import threading
import zlib
from typing import cast

from flask import Flask, Request, current_app, request
from werkzeug.exceptions import BadRequest, HTTPException

from app.errors import body_too_large
from tasks.problems import Busy, UnsupportedMediaType

SMALL = 64 * 1024  # bytes of a body, such as a digit's, that always finds room
PIECE = 256 * 1024  # bytes that are read at once
ENCODINGS = ("gzip", "deflate")  # of compressed bodies
PLAIN = "identity"


class Held:
    """The bytes of bodies that a worker holds."""

    def __init__(self) -> None:
        self._own = threading.Lock()
        self.bytes = 0

    def check(self, count: int, most: int) -> None:
        """Raises `Busy` if there is no room for `count` bytes more, where `most` may be held."""
        if self.bytes + count > most:
            raise Busy(
                "The server holds as many pictures as it has memory for. Wait 5 s, then send it "
                "again.",
                {"Retry-After": "5"},
            )

    def add(self, count: int, most: int) -> None:
        """Adds `count` bytes, after a `check`."""
        with self._own:
            self.check(count, most)
            self.bytes += count

    def remove(self, count: int) -> None:
        """Takes `count` bytes off."""
        with self._own:
            self.bytes -= count


HELD = Held()


class CountedRequest(Request):
    """A request that counts in `HELD`."""

    held = 0  # bytes


def register(app: Flask) -> None:
    """Makes `app` count what its requests hold until they are answered."""
    app.request_class = CountedRequest
    app.teardown_request(_release)


def whole_body() -> bytes:
    """The body's bytes; raises `Busy` as soon as all bodies take too much, or an HTTP error.

    The request does not keep them.
    """
    content, end = io.BytesIO(), request.content_length or math.inf
    if (request.content_length or 0) > current_app.config["MAX_BYTES"]:
        raise body_too_large()
    HELD.check((request.content_length or 0) - SMALL, _most())  # without reading any of it
    try:
        while content.tell() < end:
            piece = request.stream.read(int(min(PIECE, end - content.tell())))
            if not piece:
                break
            content.write(piece)
            _hold(content.tell() - SMALL)
    except (Busy, HTTPException, MemoryError):
        raise
    except Exception as error:  # gunicorn's own, for a badly chunked body
        raise BadRequest("The body is not valid HTTP. Send it again.") from error
    return content.getvalue()  # which, unlike a join of pieces, copies nothing


def body_encoding() -> str:
    """How the body is compressed, or `PLAIN`; raises `UnsupportedMediaType`."""
    encoding = request.headers.get("Content-Encoding", PLAIN).strip().lower()
    if encoding not in (PLAIN, *ENCODINGS):
        raise UnsupportedMediaType(
            f"The body's Content-Encoding {encoding[:100]} is not supported. Use gzip, deflate or "
            "none.",
            {"Accept-Encoding": ", ".join(ENCODINGS)},
        )
    return encoding


def decompressed(content: bytes, encoding: str) -> bytes:
    """A body's bytes, out of their gzip or deflate; raises `Busy`, `BadRequest` or `TooLarge`."""
    if encoding == PLAIN:
        return content
    most = current_app.config["MAX_BYTES"]
    reader, result = zlib.decompressobj(wbits=47), io.BytesIO()  # which tells the two apart
    try:
        while not reader.eof:
            piece = reader.decompress(content, PIECE)
            content = reader.unconsumed_tail
            if not (piece or content):
                break
            result.write(piece)
            if result.tell() > most:
                raise body_too_large()
            _hold(result.tell() - SMALL)
    except zlib.error as error:
        raise BadRequest(f"The body is not valid {encoding}. Send it again.") from error
    if not reader.eof:
        raise BadRequest(f"The body's {encoding} is cut short. Send it again.")
    return result.getvalue()


def _hold(count: int) -> None:
    """Makes the request hold `count` bytes in all."""
    this = cast(CountedRequest, request)
    if count > this.held:
        HELD.add(count - this.held, _most())
        this.held = count


def _most() -> int:
    """The setting, but room for one request of the largest size where it is too low for that."""
    most: int = max(current_app.config["MAX_HELD"], current_app.config["MAX_BYTES"])
    return most


def _release(_: BaseException | None) -> None:
    this = cast(CountedRequest, request)
    HELD.remove(this.held)
    this.held = 0

"""Forms: the files and fields of a multipart body, also where it is only nearly right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from flask import request
from werkzeug.datastructures import Headers
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from app.errors import MissingImage, body_too_large

PIECE = 64 * 1024  # bytes that are parsed at once
LONGEST_FIELD = 500_000  # bytes
LONGEST_HEAD = 8192  # bytes of a part's headers
MOST_PARTS = 1000
# Names of parts that may be files although they do not say so.
OF_FILES = ("", "file", "files[]", "image", "images")
BINARY = ("image/", "application/octet-stream")  # types of parts that are files


class Part(NamedTuple):
    """A part of a form."""

    name: str
    filename: str
    content: bytes
    is_file: bool


def read(body: bytes) -> tuple[list[Part], dict[str, str]]:
    """The files of the request's form and its fields; raises `MissingImage` or `TooLarge`.

    A part of any name is a file if it has a filename or a picture's type; one that is called file,
    files[], image or images, or nothing, also if its bytes are no text. The form's end may be
    missing, and its filenames may be Latin-1.
    """
    boundary = request.mimetype_params.get("boundary", "")
    if not boundary:
        raise MissingImage(
            "The form's Content-Type names no boundary, so its parts cannot be told apart. Leave "
            "that header to your HTTP client."
        )
    line = b"--" + boundary.encode("utf-8", "replace")
    count = body.count(line)
    if count == 0:
        raise MissingImage(
            f"The body holds no part of a form: the boundary that its Content-Type names, "
            f"“{boundary[:70]}”, is not in it. Leave that header to your HTTP client."
        )
    if count > MOST_PARTS + 1:
        raise body_too_large()
    if line + b"--" not in body:
        body += b"\r\n" + line + b"--\r\n"
    try:
        try:
            parts = list(_parts(body, line))
        except UnicodeDecodeError:
            parts = list(_parts(_in_utf8(body, line), line))
    except ValueError as error:
        raise MissingImage(
            "The form cannot be read: a part lacks its head, or the blank line after it. Leave "
            "making the form to your HTTP client."
        ) from error
    fields = [part for part in parts if not part.is_file]
    texts = {part.name: part.content.decode("utf-8", "replace") for part in reversed(fields)}
    return [part for part in parts if part.is_file], texts


def _parts(body: bytes, line: bytes) -> Iterator[Part]:
    """Each part in turn, but for files that were not chosen; raises `ValueError` for no form."""
    decoder = MultipartDecoder(line[2:])
    head: Field | File = Field(name="", headers=Headers())
    pieces: list[bytes] = []
    for at in range(0, len(body), PIECE):
        decoder.receive_data(body[at : at + PIECE])
        while not isinstance(event := decoder.next_event(), (Epilogue, NeedData)):
            if isinstance(event, (Field, File)):
                head, pieces = event, []
            elif isinstance(event, Data):
                pieces.append(event.data)
                if not event.more_data:
                    part = _part(head, b"".join(pieces))
                    if part.content or part.filename or not part.is_file:
                        yield part
    decoder.receive_data(None)
    decoder.next_event()


def _part(head: Field | File, content: bytes) -> Part:
    name = head.name or ""
    filename = head.filename if isinstance(head, File) else ""
    says_so = isinstance(head, File) or head.headers.get("content-type", "").startswith(BINARY)
    is_file = says_so or (name in OF_FILES and not _is_text(content))
    if not is_file and len(content) > LONGEST_FIELD:
        raise body_too_large()
    return Part(name, filename, content, is_file)


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _in_utf8(body: bytes, line: bytes) -> bytes:
    """The form with its parts' heads, which are not all UTF-8, taken for Latin-1."""
    heads = re.compile(
        rb"(?<=%s)\r?\n.{1,%d}?\r?\n\r?\n" % (re.escape(line), LONGEST_HEAD), re.DOTALL
    )
    return heads.sub(lambda head: _text(head[0]).encode(), body)


def _text(head: bytes) -> str:
    return head.decode() if _is_text(head) else head.decode("latin-1")

"""The body of a request, read whole and kept in memory."""

from __future__ import annotations

import io
from typing import IO

from flask import Request, current_app, request
from werkzeug.exceptions import BadRequest, HTTPException

from app.errors import body_too_large


class InMemory(Request):
    """A request whose files stay in memory: bodies are limited, and the disk may be full."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return io.BytesIO()


def whole_body() -> bytes:
    """The body's bytes, kept for the form's parser; raises `TooLarge` or an HTTP error."""
    try:
        content = request.get_data()
    except HTTPException:
        raise
    except Exception as error:  # gunicorn's own, for a badly chunked body
        raise BadRequest("The body is not valid HTTP. Send it again.") from error
    # Werkzeug returns the first MAX_BYTES of a chunked body and silently drops the rest.
    if request.content_length is None and len(content) >= current_app.config["MAX_BYTES"]:
        raise body_too_large()
    return content

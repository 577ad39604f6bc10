"""The body of a request, read whole."""

from __future__ import annotations

from flask import current_app, request
from werkzeug.exceptions import BadRequest, HTTPException

from app.errors import body_too_large


def whole_body() -> bytes:
    """The body's bytes, kept for the form's parser; raises `TooLarge` or an HTTP error."""
    try:
        content = request.get_data()
    except HTTPException:
        raise
    except Exception as error:  # gunicorn's own, of a body that is not chunked as it says
        raise BadRequest("The body does not keep to HTTP. Send it again.") from error
    # Of a chunked body Werkzeug gives the first MAX_BYTES and is silent about the rest.
    if request.content_length is None and len(content) >= current_app.config["MAX_BYTES"]:
        raise body_too_large()
    return content

"""Problems: every error that a client can be told, and the one place that tells it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from flask import Flask, Response, current_app, json, render_template, request
from werkzeug.exceptions import HTTPException

from app import metrics

FOR_PROGRAMS = ("/api/", "/v2", "/openapi.json", "/healthz", "/readyz", "/metrics")
DRAIN_BYTES = 256 * 1024 * 1024
DRAIN_SECONDS = 20.0


class Problem(Exception):
    """An error as RFC 9457 has it; `detail` is a sentence that says what to do."""

    status = 500
    slug = "internal"
    title = "Internal error"

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}

    @property
    def type(self) -> str:
        """The URI that names this kind of problem."""
        return f"urn:glimpse:problem:{self.slug}"

    def to_dict(self) -> dict[str, Any]:
        """The problem's members, ready for JSON."""
        return {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }


class BadParameter(Problem):
    """A parameter or a JSON field that is not what it should be."""

    status, slug, title = 400, "bad-parameter", "Bad parameter"


class MissingImage(Problem):
    """A request without a picture."""

    status, slug, title = 400, "missing-image", "Missing image"


class UnreadableImage(Problem):
    """Bytes that are no picture, or a broken one."""

    status, slug, title = 400, "unreadable-image", "Unreadable image"


class Unauthorised(Problem):
    """A request without a key, or with a wrong one, where keys are asked for."""

    status, slug, title = 401, "unauthorised", "Unauthorised"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, {"WWW-Authenticate": "Bearer"})


class UnknownModel(Problem):
    """A model that the store does not hold."""

    status, slug, title = 404, "unknown-model", "Unknown model"


class TooLarge(Problem):
    """Too many bytes, pixels or pictures."""

    status, slug, title = 413, "too-large", "Too large"


class UnsupportedMediaType(Problem):
    """A content type or a picture format that is not served."""

    status, slug, title = 415, "unsupported-media-type", "Unsupported media type"


class NothingToClassify(Problem):
    """A readable picture with nothing in it that the model classifies."""

    status, slug, title = 422, "nothing-to-classify", "Nothing to classify"


class TooManyRequests(Problem):
    """More requests of a client than the server's settings let pass."""

    status, slug, title = 429, "too-many-requests", "Too many requests"


class NotReady(Problem):
    """A model that is known and cannot be used now."""

    status, slug, title = 503, "not-ready", "Not ready"


class _FromHTTP(Problem):
    """Flask's and Werkzeug's own errors: no such page, method not allowed, body too large."""

    def __init__(self, error: HTTPException) -> None:
        super().__init__(error.description or error.name)
        self.status = error.code or 500
        self.title = error.name
        self.slug = error.name.lower().replace(" ", "-")


def register(app: Flask) -> None:
    """Makes `app` answer every exception with a problem."""
    app.register_error_handler(Problem, answer)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_unexpected)


def answer(problem: Problem) -> Response:
    """The problem as JSON, or as a page where a browser asked for a page."""
    metrics.PROBLEMS.labels(problem.type).inc()
    if _wants_page():
        text, kind = render_template("error.html", problem=problem), "text/html"
    else:
        members = problem.to_dict()
        if request.path.startswith("/v2"):  # the name that the Open Inference Protocol has for it
            members["error"] = problem.detail
        text, kind = json.dumps(members), "application/problem+json"
    response = Response(text, problem.status, problem.headers, mimetype=kind)
    response.call_on_close(partial(_drain, request.environ))
    return response


def _answer_http(error: HTTPException) -> Response:
    if error.code is not None and error.code < 400:  # a redirect is no error
        return Response(error.get_body(), error.code, error.get_headers())
    if error.code == 413:
        return answer(body_too_large())
    response = answer(_FromHTTP(error))
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def body_too_large() -> TooLarge:
    """The problem of a body, or a part of one, that is not read to its end."""
    return TooLarge(
        "The request's body, or a part of it, is too large or has too many parts; at most "
        f"{current_app.config['MAX_BYTES']} bytes and {current_app.config['MAX_IMAGES']} images "
        "are taken. Send fewer or smaller pictures."
    )


def _answer_unexpected(error: Exception) -> Response:
    current_app.logger.exception("unexpected error at %s %s", request.method, request.path)
    return answer(Problem("Something failed on the server's side; its log says what."))


def _wants_page() -> bool:
    if request.path.startswith(FOR_PROGRAMS):
        return False
    accepted = request.accept_mimetypes
    return accepted.best_match(["application/json", "text/html"]) == "text/html"


def _drain(environ: dict[str, Any]) -> None:
    """Reads on past what was refused, the answer being sent, while its client is still sending.

    Closing a connection with unread data resets it, and the answer is lost on the way. Only a
    server that ends the stream with the body can be read so: others would wait for more.
    """
    if not environ.get("wsgi.input_terminated"):
        return
    stream, left = environ["wsgi.input"], DRAIN_BYTES
    deadline = time.monotonic() + DRAIN_SECONDS
    with suppress(Exception):  # the client has gone, or does not keep to HTTP
        while left > 0 and time.monotonic() < deadline:
            read = len(stream.read(min(65536, left)))
            if not read:
                break
            left -= read

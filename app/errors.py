"""Problems: the errors of the API, and the one place that turns them into responses."""

from __future__ import annotations

import msgspec
from flask import Flask, Response, current_app, render_template, request
from werkzeug.exceptions import HTTPException

from app import metrics
from app.answers import ProblemDetails, ProtocolProblem
from tasks.problems import Busy, NotReady, Problem, TooLarge

FOR_PROGRAMS = ("/api/", "/v2", "/openapi.json", "/healthz", "/readyz", "/metrics")


class BadParameter(Problem):
    """An invalid parameter or JSON field."""

    status, slug, title = 400, "bad-parameter", "Bad parameter"


class MissingImage(Problem):
    """A request without a picture."""

    status, slug, title = 400, "missing-image", "Missing image"


class Unauthorised(Problem):
    """A request without a key, or with a wrong one, if the server requires keys."""

    status, slug, title = 401, "unauthorised", "Unauthorised"

    def __init__(self) -> None:
        super().__init__(
            "This server requires a key. Send it as “Authorization: Bearer <key>”; ask the "
            "server’s operator for one.",
            {"WWW-Authenticate": "Bearer"},
        )


class UnknownModel(Problem):
    """A model that the store does not hold."""

    status, slug, title = 404, "unknown-model", "Unknown model"


class TooManyRequests(Problem):
    """More requests from a client than the server allows."""

    status, slug, title = 429, "too-many-requests", "Too many requests"

    def __init__(self, client: str, limit: object, wait: int) -> None:
        super().__init__(
            f"Too many requests from {client}; {limit} are served. Wait {wait} s, then send it "
            "again.",
            {"Retry-After": str(wait)},
        )


class NoReports(Problem):
    """A report to a server that takes none."""

    status, slug, title = 404, "no-reports", "No reports"

    def __init__(self) -> None:
        super().__init__(
            "This server takes no reports. Its operator turns them on with GLIMPSE_REPORTS."
        )


class UnknownReport(Problem):
    """A code that is of no report."""

    status, slug, title = 404, "unknown-report", "Unknown report"

    def __init__(self) -> None:
        super().__init__(
            "There is no report of this code: it is not complete, or the report has been removed "
            "already. Copy the whole code."
        )


class ReportedOtherwise(Problem):
    """A second report of an answer, with another label."""

    status, slug, title = 409, "reported-otherwise", "Reported otherwise"

    def __init__(self) -> None:
        super().__init__(
            "You have reported this answer with another label. Withdraw that report by its code, "
            "then send this one again."
        )


class TooManyReports(Problem):
    """More reports of a client than are taken."""

    status, slug, title = 429, "too-many-reports", "Too many reports"

    def __init__(self, limit: str) -> None:
        super().__init__(
            f"You have sent many reports: {limit}. Withdraw some, or send it again later.",
            {"Retry-After": "3600"},
        )


class ReportsAway(Problem):
    """A database of reports that cannot be used now."""

    status, slug, title = 503, "reports-away", "Reports away"

    def __init__(self, wait: int) -> None:
        super().__init__(
            f"The report was not kept: its database does not answer. Wait {wait} s, then send it "
            "again.",
            {"Retry-After": str(wait)},
        )


# Examples, for the API document.
UNKNOWN = UnknownModel("There is no model of that name; the models are: digits, emotions.")
NOT_READY = NotReady("The model cannot be used: digits: its file model.pt is missing.")
BUSY = Busy(
    "The server has more work than it can do soon. Wait 5 s, then send it again.",
    {"Retry-After": "5"},
)
GUARDS = (Unauthorised(), TooManyRequests("192.0.2.7", "60 per 1 minute", 20))


def register(app: Flask) -> None:
    """Makes `app` turn every exception into a problem."""
    app.register_error_handler(Problem, answer)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(MemoryError, _answer_out_of_memory)
    app.register_error_handler(Exception, _answer_unexpected)


def answer(problem: Problem) -> Response:
    """The problem as JSON, or as a page if a browser asked for one."""
    metrics.PROBLEMS.labels(problem.type).inc()
    if _wants_page():
        text, kind = render_template("error.html", problem=problem), "text/html"
    else:
        tells_error = request.path.startswith("/v2") or _is_of_hugging_face()
        members = ProtocolProblem if tells_error else ProblemDetails
        text, kind = msgspec.json.encode(members.of(problem)).decode(), "application/problem+json"
    return Response(text, problem.status, problem.headers, mimetype=kind)


def _answer_http(error: HTTPException) -> Response:
    """Flask's and Werkzeug's own errors: no such page, method not allowed, body too large."""
    if error.code is not None and error.code < 400:  # a redirect is not an error
        return Response(error.get_body(), error.code, error.get_headers())
    if error.code == 413:
        return answer(body_too_large())
    problem = Problem(error.description or error.name)
    problem.status, problem.title = error.code or 500, error.name
    problem.slug = error.name.lower().replace(" ", "-")
    response = answer(problem)
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def body_too_large() -> TooLarge:
    """The problem for a body, or a part of one, that exceeds a limit."""
    return TooLarge(
        "The request's body, or a part of it, is too large or has too many parts; at most "
        f"{current_app.config['MAX_BYTES']} bytes and {current_app.config['MAX_IMAGES']} images "
        "are allowed. Send fewer or smaller pictures."
    )


def _answer_out_of_memory(error: MemoryError) -> Response:
    current_app.logger.error("out of memory at %s %s", request.method, request.path)
    return answer(
        Busy(
            "The server has too little memory for this request. Send fewer or smaller pictures, or "
            "send it again later.",
            {"Retry-After": "10"},
        )
    )


def _answer_unexpected(error: Exception) -> Response:
    current_app.logger.exception("unexpected error at %s %s", request.method, request.path)
    return answer(
        Problem("Something failed on the server. Try again later; the server's log has the error.")
    )


def _wants_page() -> bool:
    if request.path.startswith(FOR_PROGRAMS) or _is_of_hugging_face():
        return False
    accepted = request.accept_mimetypes
    return accepted.best_match(["application/json", "text/html"]) == "text/html"


def _is_of_hugging_face() -> bool:
    """Whether a client of Hugging Face asks; a browser gets the page of the same path."""
    return request.method == "POST" and request.path.startswith("/models/")

"""The responses of `/api/predict` as types, from which the JSON, its schema and the CSV come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from flask import Response
from msgspec import UNSET, Meta, Struct, UnsetType

from model_store import Card
from tasks.base import Box, Frame, Prediction, Verdict
from tasks.problems import Problem

Score = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
VerdictOf = Annotated[
    Verdict,
    Meta(
        description="sure; unsure: the best score is below the card's threshold, or a face is "
        "covered, cut off, turned away or tiny; none: the picture shows nothing that the model "
        "knows, and label and score are the closest"
    ),
]
Ranked = Annotated[list[Prediction], Meta(description="Best first")]
Name = Annotated[str | None, Meta(description="The file's name, if it was sent with one")]
Pixels = Annotated[Count, Meta(description="Pixels of the upright picture")]
Seen = Annotated[str, Meta(description="With seen=true: what the network saw, a PNG data URL")]
SeenAt = Annotated[
    Frame,
    Meta(
        description="With seen=true, if it is known: where in the upright picture that lies, in "
        "its pixels; a rectangle turned about its middle by angle degrees, clockwise"
    ),
]
Explanation = Annotated[
    str,
    Meta(description="With explain=true: a heat map of the evidence for the label, a PNG data URL"),
]
Heat = Annotated[
    str,
    Meta(
        description="With explain=true: that heat alone, to lay over what the network saw, a PNG "
        "data URL that is transparent where there is none"
    ),
]


class SubjectAnswer(Struct, kw_only=True):
    """What one subject of a picture is: a digit, a face or the whole picture."""

    box: Box
    label: str
    score: Score
    predictions: Ranked
    verdict: VerdictOf
    seen: Seen | UnsetType = UNSET
    seen_at: SeenAt | UnsetType = UNSET
    explanation: Explanation | UnsetType = UNSET
    heat: Heat | UnsetType = UNSET


class Result(Struct, kw_only=True):
    """What a picture shows."""

    filename: Name
    width: Pixels
    height: Pixels
    label: Annotated[str, Meta(description="The best prediction's")]
    score: Score
    predictions: Ranked
    verdict: VerdictOf
    seen: Seen | UnsetType = UNSET
    explanation: Explanation | UnsetType = UNSET
    subjects: Annotated[
        list[SubjectAnswer] | UnsetType,
        Meta(
            description="The digit, or the digits of a number from left to right; the picture "
            "itself for a model of whole pictures. The label of a number's result is the whole "
            "number, its predictions are the ten likeliest numbers, and its score is its share "
            "among them."
        ),
    ] = UNSET
    faces: Annotated[
        list[SubjectAnswer] | UnsetType,
        Meta(
            description="Face models only: every face, largest first; the result's own label is "
            "the first one's."
        ),
    ] = UNSET

    @property
    def parts(self) -> list[SubjectAnswer]:
        """The subjects, under either name."""
        return self.faces or self.subjects or []


class ProblemDetails(Struct):
    """A problem, as RFC 9457 has it."""

    type: Annotated[str, Meta(description="urn:glimpse:problem: and the kind of problem")]
    title: Annotated[str, Meta(description="The kind of problem, in words")]
    status: Annotated[int, Meta(description="The HTTP status")]
    detail: Annotated[str, Meta(description="A sentence that says what to do")]

    @classmethod
    def of(cls, problem: Problem) -> ProblemDetails:
        """The response for `problem`."""
        return cls(problem.type, problem.title, problem.status, problem.detail)


class ProtocolProblem(ProblemDetails):
    """A problem whose detail also stands under the name that clients of others look for."""

    error: str = ""

    def __post_init__(self) -> None:
        self.error = self.detail


class FailedResult(Struct):
    """Instead of a result: why a picture could not be classified."""

    filename: Name
    error: ProblemDetails


EITHER = [{"$ref": f"#/components/schemas/{name}"} for name in ("Result", "FailedResult")]


class Predictions(Struct, kw_only=True):
    """The answer to a request."""

    model: Annotated[str, Meta(description="The model's name")]
    version: Annotated[str, Meta(description="The model's version")]
    results: Annotated[
        list[Any],  # msgspec does not support a union of two structs
        Meta(
            description="One for each picture, in the order in which they were sent",
            extra_json_schema={"items": {"anyOf": EITHER}},
        ),
    ]
    ignored: Annotated[
        list[str] | UnsetType, Meta(description="The names of unknown parameters")
    ] = UNSET
    elapsed_ms: Annotated[float, Meta(ge=0, description="Processing time in milliseconds")]


class Unavailable(Struct):
    """A model of the store that cannot be used."""

    name: str
    reason: str


class Cards(Struct):
    """The cards of the models."""

    models: list[Card]
    unavailable: list[Unavailable]


View = TypeVar("View", bound=Callable[..., Response])


def documented(answer: Any, *problems: Problem, unready: Any = None) -> Callable[[View], View]:
    """Records for `/openapi.json` what a view returns: JSON of a type or of a list of
    one, or text of a content type.

    The first line of the view's docstring is its summary. `problems` are examples of its errors,
    `unready` is an example of its response with status 503.
    """

    def note(view: View) -> View:
        view.documented = answer, problems, unready  # type: ignore[attr-defined]
        return view

    return note


def json_response(answer: Any, status: int = 200) -> Response:
    """The response whose body is `answer` as JSON."""
    return Response(msgspec.json.encode(answer), status, mimetype="application/json")

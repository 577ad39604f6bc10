"""`POST /models/<name>`: image classification as Hugging Face's inference clients ask for it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from flask import Blueprint, Response, request
from msgspec import Meta, Struct

from app.answers import Result, documented, json_response
from app.api import from_base64, options, parse_json, received
from app.errors import BUSY, GUARDS, NOT_READY, UNKNOWN, BadParameter, MissingImage
from app.metrics import count_results
from app.predict import Upload, predict
from app.trial import trials
from tasks.base import Prediction
from tasks.problems import Problem

hugging_face = Blueprint("hugging_face", __name__)


# The clients send null for what was not chosen.
class ClassificationParameters(Struct, frozen=True):
    """What a client may choose."""

    top_k: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="How many predictions to return, best first; by default all"),
    ] = None
    function_to_apply: Annotated[
        Literal["softmax"] | None, Meta(description="What makes scores of the network's outputs")
    ] = None


class Classification(Struct, frozen=True):
    """A picture in JSON."""

    inputs: Annotated[str, Meta(description="The picture: base64, or a data: URL")]
    parameters: ClassificationParameters | None = None


@hugging_face.post("/models/<name>")
@documented(
    list[Prediction],
    BadParameter("“top_k” must be a whole number from 1."),
    MissingImage("The body is empty. Send the bytes of a picture."),
    UNKNOWN,
    BUSY,
    NOT_READY,
    *GUARDS,
)
def classify_image(name: str) -> Response:
    """Classify a picture, for Hugging Face’s clients."""
    model = trials().answering(name)
    content, parameters = received(_read)
    asked = options(top_k=parameters.top_k)
    results = predict(model, [Upload(content)], asked, trials().watch(model))
    count_results(model.card, results)
    return json_response(
        [each for result in results if isinstance(result, Result) for each in result.predictions]
    )


def _read(body: bytes) -> tuple[bytes | Problem, ClassificationParameters]:
    """The picture in a body, JSON or else its bytes whatever their type, and the parameters."""
    if not body:
        raise MissingImage("The body is empty. Send the bytes of a picture.")
    if request.mimetype != "application/json":
        return body, ClassificationParameters()
    try:
        asked = msgspec.convert(parse_json(body), Classification)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("$.")[2].rstrip("`")
        rules = {
            "parameters.top_k": "“top_k” must be a whole number from 1.",
            "parameters.function_to_apply": "“function_to_apply” must be softmax.",
            "parameters": "“parameters” must be an object.",
        }
        rule = rules.get(field, "“inputs” must be a text: the picture in base64.")
        raise BadParameter(rule) from error
    return from_base64(asked.inputs, "inputs"), asked.parameters or ClassificationParameters()

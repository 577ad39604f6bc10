"""The JSON API: predictions and cards."""

from __future__ import annotations

import base64
import binascii
import time
import unicodedata
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from flask import Blueprint, Response, current_app, request
from msgspec import UNSET, Meta, Struct, UnsetType

from app import form
from app.answers import Cards, Predictions, Unavailable, documented, json_response
from app.body import PLAIN, SMALL, body_encoding, decompressed, whole_body
from app.errors import NOT_READY, UNKNOWN, BadParameter, MissingImage
from app.metrics import count_results
from app.models import Model, models
from app.predict import Options, Upload, predict, work
from app.trial import trials
from model_store import Card
from tasks.decode import FORMAT_NAMES
from tasks.problems import Problem, TooLarge, UnreadableImage, UnsupportedMediaType

api = Blueprint("api", __name__, url_prefix="/api")

MOST_VALUES = 10_000  # in JSON: each takes up to twenty times its own bytes
SPACE = b" \t\n\r\f\v"
URL_SAFE = bytes.maketrans(b"-_", b"+/")  # from URL-safe base64
# The signs of base64, and the white space in it, that may be percent-encoded in a URL.
ENCODED = [
    (spelt, sign) for sign in "+/=\r\n " for spelt in {f"%{ord(sign):02X}", f"%{ord(sign):02x}"}
]


Read = TypeVar("Read")


class Parameters(Struct, frozen=True):
    """Parameters of a prediction, in the query, the form or the JSON."""

    model: Annotated[str, Meta(description="A model’s name, as GET /api/models lists them.")] = ""
    top_k: (
        Annotated[
            int,
            Meta(
                ge=1,
                description="How many predictions to return, best first, up to the number of "
                "labels; by default all.",
            ),
        ]
        | UnsetType
    ) = UNSET
    faces: Annotated[
        Literal["detect", "whole"],
        Meta(
            description="Face models only: find the faces, or take the whole picture as the crop "
            "of one face."
        ),
    ] = "detect"
    explain: Annotated[
        bool,
        Meta(
            description="Whether to add a heat map of the evidence for the label, as a PNG data "
            "URL."
        ),
    ] = False
    label: Annotated[
        str,
        Meta(description="With explain=true: the label to explain, in place of each best one."),
    ] = ""
    seen: Annotated[
        bool, Meta(description="Whether to add what the network saw, as a PNG data URL.")
    ] = False


@api.post("/predict", endpoint="predict")
def predict_route() -> Response:
    """Classifies the pictures of a request."""
    started = time.perf_counter()
    uploads, given = received(_read)
    model = trials().answering(_name(given))
    parameters = _parameters(given, model)
    asked = options(
        top_k=parameters.top_k or None,
        whole=parameters.faces == "whole",
        seen=parameters.seen,
        explain=parameters.explain,
        explained=model.card.labels.index(parameters.label) if parameters.label else None,
    )
    results = predict(model, uploads, asked, trials().watch(model))
    count_results(model.card, results)
    ignored = [name[:255] for name in given if name not in Parameters.__struct_fields__]
    return json_response(
        Predictions(
            model=model.card.name,
            version=model.card.version,
            results=results,
            ignored=ignored or UNSET,
            elapsed_ms=round((time.perf_counter() - started) * 1000, 2),
        )
    )


@api.get("/models")
@documented(Cards)
def list_models() -> Response:
    """List the models that can be used, and why the others cannot."""
    held = models()
    unavailable = [Unavailable(name, reason) for name, reason in held.left_out.items()]
    return json_response(Cards([model.card for model in held.ready.values()], unavailable))


@api.get("/models/<name>")
@documented(Card, UNKNOWN, NOT_READY)
def show_model(name: str) -> Response:
    """A model’s card."""
    return json_response(models().get(name).card)


def options(**asked: Any) -> Options:
    """What a request asks for, within the limits that the settings set."""
    config = current_app.config
    return Options(
        max_pixels=config["MAX_PIXELS"],
        max_pixels_in_all=config["MAX_PIXELS_IN_ALL"],
        max_seconds=config["MAX_SECONDS"],
        max_wait=config["MAX_WAIT"],
        **asked,
    )


def received(read: Callable[[bytes], Read]) -> Read:
    """What `read` makes of the request's body; raises an HTTP error or a `Problem`."""
    encoding = body_encoding()
    content = whole_body()
    # Reading a large one takes several times its memory, so one is read at a time.
    is_small = len(content) <= SMALL and encoding == PLAIN
    patience = current_app.config["MAX_WAIT"]
    with nullcontext() if is_small else work(light=False, patience=patience):
        return read(decompressed(content, encoding))


def _read(content: bytes) -> tuple[list[Upload], Mapping[str, Any]]:
    """The pictures of a request, in any of the three forms, and its parameters."""
    query: dict[str, Any] = request.args.to_dict()
    kind = request.mimetype
    if kind == "multipart/form-data":
        files, fields = form.read(content)
        _check_count(len(files))
        body: dict[str, Any] = {**fields}
        uploads = [Upload(file.content, filename(file.filename)) for file in files]
        uploads = uploads or _json_uploads(body)
    elif kind == "application/json":
        body = parse_json(content)
        uploads = _json_uploads(body)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        uploads, body = [Upload(content)] if content else [], {}
    elif kind == "" and not content:
        uploads, body = [], {}
    else:
        raise UnsupportedMediaType(
            f"The content type {kind[:100] or '(none)'} is not supported. Send multipart/form-data "
            "with a part named file, the picture's bytes as image/png (or its own type), or "
            "application/json."
        )
    if not uploads:
        raise MissingImage(
            "The request holds no image. Send a file part named file, the picture's bytes as the "
            'body, or JSON with an "image".'
        )
    return uploads, {**query, **body}


def _check_count(count: int) -> None:
    most = current_app.config["MAX_IMAGES"]
    if count > most:
        raise TooLarge(f"The request holds {count} images; at most {most} are allowed. Send fewer.")


def filename(name: str | None) -> str | None:
    """The last part of a path, without control characters, or none."""
    name = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(sign for sign in name if unicodedata.category(sign)[0] != "C")[:255] or None


def parse_json(content: bytes) -> dict[str, Any]:
    """The object that a body holds, empty for an empty body; raises `BadParameter`."""
    if not content.strip():
        return {}
    try:
        if sum(map(content.count, (b",", b"[", b"{"))) > MOST_VALUES:
            raise ValueError("too many values")
        body = msgspec.json.decode(content.removeprefix(BOM_UTF8))
    except (ValueError, RecursionError) as error:
        raise BadParameter(
            f"The body is not valid JSON of at most {MOST_VALUES} values. Send an object in UTF-8."
        ) from error
    if not isinstance(body, dict):
        raise BadParameter('The JSON body must be an object, such as {"image": "<base64>"}.')
    return body


def _json_uploads(body: dict[str, Any]) -> list[Upload]:
    """Takes `image` and `images` out of `body`."""
    if "image" in body and "images" in body:
        raise BadParameter("Send either “image” or “images”, not both.")
    if "image" in body:
        return [Upload(from_base64(body.pop("image"), "image"))]
    several = body.pop("images", [])
    if not isinstance(several, list):
        raise BadParameter("“images” must be a list of base64 texts or data: URLs.")
    _check_count(len(several))
    return [Upload(from_base64(text, f"images[{index}]")) for index, text in enumerate(several)]


def from_base64(text: object, field: str) -> bytes | Problem:
    """The bytes of base64 text (plain or URL-safe, with or without padding) or a data: URL.

    Bad base64 is the problem of that picture alone; another type is the whole request's, and
    raised.
    """
    if not isinstance(text, str):
        raise BadParameter(f"“{field}” must be a text: base64, or a data: URL.")
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            return UnreadableImage(f"“{field}” is a data: URL without “;base64,”.")
    try:
        if text.count("%") > len(text) // 8:  # far more than base64 has signs to encode
            raise ValueError
        if "%" in text:
            for spelt, sign in ENCODED:
                text = text.replace(spelt, sign)
        signs = text.encode("ascii").translate(URL_SAFE, SPACE).rstrip(b"=")
        return base64.b64decode(signs + b"=" * (-len(signs) % 4), validate=True)
    except (binascii.Error, ValueError):
        return UnreadableImage(
            f"“{field}” is not valid base64. Encode the bytes of a {FORMAT_NAMES} file."
        )


def _name(parameters: Mapping[str, Any]) -> str:
    name = parameters.get("model", current_app.config["DEFAULT_MODEL"])
    if not isinstance(name, str):
        raise BadParameter("“model” must be a text: the name of a model.")
    return name


def _parameters(given: Mapping[str, Any], model: Model) -> Parameters:
    """The parameters of a request for `model`; raises `BadParameter`."""
    most = len(model.card.labels)
    rules = {
        "label": "one of the model’s labels, as its card lists them",
        "top_k": f"a whole number from 1 to {most}",
        "faces": "detect or whole",
    }
    try:
        # A query's and a form's values are texts; JSON's have their types.
        parameters = msgspec.convert(given, Parameters, strict=False)
        wrong = "top_k" if parameters.top_k and parameters.top_k > most else None
        if parameters.label and parameters.label not in model.card.labels:
            wrong = "label"
    except msgspec.ValidationError as error:
        wrong = str(error).rpartition("$.")[2].rstrip("`")
    if wrong is not None:
        raise BadParameter(f"“{wrong}” must be {rules.get(wrong, 'true or false')}.")
    return parameters

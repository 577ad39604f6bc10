"""The JSON API: predictions and cards."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import time
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Blueprint, Response, current_app, jsonify, request

from app.body import whole_body
from app.decode import FORMAT_NAMES
from app.errors import (
    BadParameter,
    MissingImage,
    Problem,
    TooLarge,
    UnreadableImage,
    UnsupportedMediaType,
)
from app.metrics import count_results
from app.models import Model, models
from app.predict import Shows, Upload, predict

api = Blueprint("api", __name__, url_prefix="/api")

FACES = ("detect", "whole")
TRUTH = {"true": True, "1": True, "false": False, "0": False}


@api.post("/predict", endpoint="predict")
def predict_route() -> Response:
    """Classifies the pictures of a request."""
    started = time.perf_counter()
    uploads, parameters = _request()
    model = models().get(_name(parameters))
    results = predict(
        model,
        uploads,
        top_k=_top_k(parameters, model),
        whole=_whole(parameters),
        shows=Shows(_flag(parameters, "seen"), _flag(parameters, "explain")),
        max_pixels=current_app.config["MAX_PIXELS"],
        max_seconds=current_app.config["MAX_SECONDS"],
    )
    count_results(model.card.name, results)
    return jsonify(
        model=model.card.name,
        version=model.card.version,
        results=results,
        elapsed_ms=round((time.perf_counter() - started) * 1000, 2),
    )


@api.get("/models")
def list_models() -> Response:
    """The cards of the models that serve, and why others do not."""
    return jsonify(
        models=[dataclasses.asdict(model.card) for model in models().ready.values()],
        unavailable=[
            {"name": name, "reason": reason} for name, reason in models().unavailable.items()
        ],
    )


@api.get("/models/<name>")
def show_model(name: str) -> Response:
    """The card of a model."""
    return jsonify(dataclasses.asdict(models().get(name).card))


def _request() -> tuple[list[Upload], Mapping[str, Any]]:
    """The pictures of the request, in any of the three forms, and its parameters."""
    query: dict[str, Any] = request.args.to_dict()
    kind, content = request.mimetype, whole_body()
    if kind == "multipart/form-data":
        files = request.files.getlist("file")
        _check_count(len(files))
        uploads = [Upload(file.read(), _filename(file.filename)) for file in files]
        body: dict[str, Any] = request.form.to_dict()
    elif kind == "application/json":
        body = _json(content)
        uploads = _json_uploads(body)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        uploads, body = [Upload(content)] if content else [], {}
    elif kind == "" and not content:
        uploads, body = [], {}
    else:
        raise UnsupportedMediaType(
            f"The content type {kind[:100] or '(none)'} is not taken. Send multipart/form-data "
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
        raise TooLarge(f"The request holds {count} images; at most {most} are taken. Send fewer.")


def _filename(name: str | None) -> str | None:
    """The last part of a path, without control characters, or none."""
    name = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(sign for sign in name if unicodedata.category(sign)[0] != "C")[:255] or None


def _json(content: bytes) -> dict[str, Any]:
    if not content.strip():
        return {}
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadParameter("The body is not valid JSON. Send an object in UTF-8.") from error
    if not isinstance(body, dict):
        raise BadParameter('The JSON body must be an object, such as {"image": "<base64>"}.')
    return body


def _json_uploads(body: dict[str, Any]) -> list[Upload]:
    """Takes `image` and `images` out of `body`."""
    if "image" in body and "images" in body:
        raise BadParameter("Send either “image” or “images”, not both.")
    if "image" in body:
        return [Upload(_base64(body.pop("image"), "image"))]
    several = body.pop("images", [])
    if not isinstance(several, list):
        raise BadParameter("“images” must be a list of base64 texts or data: URLs.")
    _check_count(len(several))
    return [Upload(_base64(text, f"images[{index}]")) for index, text in enumerate(several)]


def _base64(text: object, field: str) -> bytes | Problem:
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
        text = unquote_to_bytes(text).decode("ascii", "replace") if "%" in text else text
    text = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return UnreadableImage(
            f"“{field}” is not valid base64. Encode the bytes of a {FORMAT_NAMES} file."
        )


def _name(parameters: Mapping[str, Any]) -> str:
    name = parameters.get("model", current_app.config["DEFAULT_MODEL"])
    if not isinstance(name, str):
        raise BadParameter("“model” must be a text: the name of a model.")
    return name


def _top_k(parameters: Mapping[str, Any], model: Model) -> int:
    most = len(model.card.labels)
    given = parameters.get("top_k", most)
    text = str(given) if type(given) in (int, str) else ""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise BadParameter(f"“top_k” must be a whole number from 1 to {most}.")
    return int(text)


def _whole(parameters: Mapping[str, Any]) -> bool:
    faces = parameters.get("faces", FACES[0])
    if faces not in FACES:
        raise BadParameter("“faces” must be detect or whole.")
    return bool(faces == "whole")


def _flag(parameters: Mapping[str, Any], name: str) -> bool:
    given = parameters.get(name, False)
    if isinstance(given, bool):
        return given
    if not isinstance(given, str) or given.lower() not in TRUTH:
        raise BadParameter(f"“{name}” must be true or false.")
    return TRUTH[given.lower()]

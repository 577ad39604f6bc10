"""`GET /openapi.json`: the HTTP contract for programs, OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, jsonify

from app.decode import FORMAT_NAMES

openapi = Blueprint("openapi", __name__)

Schema = dict[str, Any]

PARAMETERS: dict[str, tuple[str, Schema]] = {
    "model": ("A model's name; GET /api/models lists them.", {"type": "string"}),
    "top_k": (
        "How many predictions to give, best first; all where it is not given.",
        {"type": "integer", "minimum": 1},
    ),
    "faces": (
        "Face models only: find the faces, or take the whole picture as one face crop.",
        {"type": "string", "enum": ["detect", "whole"], "default": "detect"},
    ),
    "explain": (
        "Whether to give, as a PNG data URL, what in the picture speaks for the label.",
        {"type": "boolean", "default": False},
    ),
    "seen": (
        "Whether to give, as a PNG data URL, what the network saw.",
        {"type": "boolean", "default": False},
    ),
}
PROBLEMS = {
    400: "No image, an unreadable one, or a bad parameter",
    401: "No key, or a wrong one, where the server asks for keys",
    404: "Unknown model",
    413: "Too many bytes, pixels or images",
    415: "A content type or picture format that is not taken",
    422: "A readable picture with nothing to classify",
    429: "Too many requests; Retry-After says how many seconds to wait",
    503: "The model cannot be used now",
}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: list[str], **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": required}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
SCORE = {"type": "number", "minimum": 0, "maximum": 1}

SCHEMAS: dict[str, Schema] = {
    "Problem": _object(
        ["type", "title", "status", "detail"], type=TEXT, title=TEXT, status=COUNT, detail=TEXT
    ),
    "Prediction": _object(["label", "score"], label=TEXT, score=SCORE),
    "Box": _object(["x", "y", "width", "height"], x=COUNT, y=COUNT, width=COUNT, height=COUNT),
    "Subject": _object(
        ["box", "label", "score", "predictions"],
        box=_reference("Box"),
        label=TEXT,
        score=SCORE,
        predictions=_list(_reference("Prediction")),
        seen={"type": "string", "description": "PNG data URL; with seen=true only"},
        explanation={"type": "string", "description": "PNG data URL; with explain=true only"},
    ),
    "Result": _object(
        ["filename", "width", "height", "label", "score", "predictions"],
        filename={"type": ["string", "null"]},
        width=COUNT,
        height=COUNT,
        label=TEXT,
        score=SCORE,
        predictions=_list(_reference("Prediction")),
        seen={"type": "string", "description": "PNG data URL; with seen=true only"},
        explanation={"type": "string", "description": "PNG data URL; with explain=true only"},
        subjects={
            **_list(_reference("Subject")),
            "description": "Digit models only: the digit, or the digits of a number from left to "
            "right. The label of a number's result is the whole number, its predictions are the "
            "ten likeliest numbers, and its score is its share among them.",
        },
        faces={
            **_list(_reference("Subject")),
            "description": "Face models only: every face, largest first; the result's own label "
            "is the first one's. Boxes are in pixels of the upright picture.",
        },
    ),
    "FailedResult": _object(
        ["filename", "error"], filename={"type": ["string", "null"]}, error=_reference("Problem")
    ),
    "Predictions": _object(
        ["model", "version", "results", "elapsed_ms"],
        model=TEXT,
        version=TEXT,
        results=_list({"anyOf": [_reference("Result"), _reference("FailedResult")]}),
        elapsed_ms={"type": "number", "minimum": 0},
    ),
    "Card": {
        **_object(
            ["name", "version", "task", "labels", "input", "metrics", "date", "sha256"],
            name=TEXT,
            version=TEXT,
            task={"type": "string", "enum": ["digit", "face"]},
            labels=_list(TEXT),
            input={"type": "object"},
            metrics={"type": "object"},
            date=TEXT,
            sha256=TEXT,
        ),
        "additionalProperties": True,
    },
    "Cards": _object(
        ["models", "unavailable"],
        models=_list(_reference("Card")),
        unavailable=_list(_object(["name", "reason"], name=TEXT, reason=TEXT)),
    ),
    "Readiness": _object(
        ["ready", "models", "unavailable"],
        ready={"type": "boolean"},
        models=_list(TEXT),
        unavailable={"type": "object", "additionalProperties": TEXT},
    ),
}


def _response(description: str, schema: str, kind: str = "application/json") -> Schema:
    return {"description": description, "content": {kind: {"schema": _reference(schema)}}}


def _problems(*statuses: int) -> Schema:
    return {
        str(status): _response(PROBLEMS[status], "Problem", "application/problem+json")
        for status in statuses
    }


def _predict() -> Schema:
    fields = {name: {**schema, "description": text} for name, (text, schema) in PARAMETERS.items()}
    base64 = {"type": "string", "description": "base64, or a data: URL"}
    picture = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
    most = current_app.config["MAX_IMAGES"]
    files = {**_list({"type": "string", "contentMediaType": "image/*"}), "maxItems": most}
    return {
        "operationId": "predict",
        "summary": "Classify pictures",
        "description": f"Pictures are {FORMAT_NAMES} files. Parameters are taken from the query, "
        "the form or the JSON; the body wins. Of several pictures one that fails has its "
        "problem in its result's place.",
        "parameters": [
            {"name": name, "in": "query", "description": text, "schema": schema}
            for name, (text, schema) in PARAMETERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _object(["file"], file=files, **fields)},
                "image/*": picture,
                "application/octet-stream": picture,
                "application/json": {
                    "schema": {
                        **_object(
                            [], image=base64, images={**_list(base64), "maxItems": most}, **fields
                        ),
                        "oneOf": [{"required": ["image"]}, {"required": ["images"]}],
                    }
                },
            },
        },
        "responses": {
            "200": _response("A result for each picture, in order", "Predictions"),
            **_problems(400, 401, 404, 413, 415, 422, 429, 503),
        },
    }


def _get(operation: str, summary: str, responses: Schema) -> Schema:
    return {"operationId": operation, "summary": summary, "responses": responses}


def document() -> Schema:
    """The whole document."""
    name = {"name": "name", "in": "path", "required": True, "schema": TEXT}
    alive = _response("Alive", "Alive")
    not_ready = _response("Not ready", "Readiness")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Glimpse",
            "version": "1",
            "description": "Small trained image classifiers over HTTP.",
        },
        "paths": {
            "/api/predict": {"post": _predict()},
            "/api/models": {
                "get": _get("listModels", "List models", {"200": _response("Cards", "Cards")})
            },
            "/api/models/{name}": {
                "parameters": [name],
                "get": _get(
                    "showModel",
                    "A model's card",
                    {"200": _response("The card", "Card"), **_problems(404, 503)},
                ),
            },
            "/healthz": {"get": _get("alive", "Is the process alive", {"200": alive})},
            "/readyz": {
                "get": _get(
                    "ready",
                    "Are the models loaded and warm",
                    {"200": _response("Ready", "Readiness"), "503": not_ready},
                )
            },
        },
        "components": {"schemas": {**SCHEMAS, "Alive": _object(["status"], status=TEXT)}},
    }


@openapi.get("/openapi.json")
def show() -> Response:
    """The document as JSON."""
    return jsonify(document())

"""`GET /openapi.json`: the HTTP contract for programs, OpenAPI 3.1; `/docs` shows it to people."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request

from app.decode import FORMAT_NAMES
from app.errors import (
    BadParameter,
    MissingImage,
    NothingToClassify,
    NotReady,
    Problem,
    TooLarge,
    TooManyRequests,
    Unauthorised,
    UnknownModel,
    UnreadableImage,
    UnsupportedMediaType,
)
from app.inference_protocol import HEADER, INPUT, MOST
from app.models import models
from app.schemas import BYTES, COUNT, SCHEMAS, TEXT, Schema, record, reference, rows

openapi = Blueprint("openapi", __name__)

SAMPLE = "seven.png"  # in the static folder
TAGS = {
    "Predictions": "What a picture shows.",
    "Models": "What each model is, and how good.",
    "Open Inference Protocol": "For clients of KServe and Triton: a model takes tensors as its "
    "network does. Nothing is looked for in them: what /api/predict does to a picture first is "
    "yours to do.",
    "Server": "What a supervisor asks.",
}

MODEL = "A model’s name, as GET /api/models lists them."
PARAMETERS: dict[str, tuple[str, Schema]] = {
    "top_k": (
        "How many predictions to give, best first, up to the number of labels; all where it is "
        "not given.",
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
MEANINGS = {
    400: "No image, an unreadable one, or a bad parameter",
    401: "No key, or a wrong one, where the server asks for keys",
    404: "Unknown model",
    413: "Too many bytes, pixels, images or seconds of work",
    415: "A content type or picture format that is not taken",
    422: "A readable picture with nothing to classify",
    429: "Too many requests, where the server limits them",
    503: "The model cannot be used now",
}
UNKNOWN = UnknownModel("There is no model of that name; known are: digits, emotions.")
NOT_READY = NotReady("The model cannot be used: digits: its file model.pt is missing.")
GUARDS = (
    Unauthorised(
        "This server asks for a key. Send it as “Authorization: Bearer <key>”; whoever runs the "
        "server gives you one."
    ),
    TooManyRequests(
        "Too many requests from 192.0.2.7; 60 per 1 minute are served. Wait 20 s, then send it "
        "again.",
        headers={"Retry-After": "20"},
    ),
)
OF_PICTURES = (
    BadParameter("“top_k” must be a whole number from 1 to 10."),
    MissingImage(
        "The request holds no image. Send a file part named file, the picture’s bytes as the "
        "body, or JSON with an “image”."
    ),
    UnreadableImage(f"This is not an image. Send a {FORMAT_NAMES} file."),
    TooLarge(
        "The image has 20000 × 20000 pixels; at most 50000000 are taken. Send it at a smaller size."
    ),
    UnsupportedMediaType(
        f"HEIC pictures are not read. Convert it to {FORMAT_NAMES} and send it again."
    ),
    NothingToClassify(
        "The picture is blank: no ink was found. Draw a digit, or send a picture in which the "
        "digit stands out from its background."
    ),
)
OF_TENSORS = (
    BadParameter(f"“inputs” must hold one tensor with the name {INPUT}."),
    TooLarge(f"The tensor holds 2000 pictures; at most {MOST} are taken."),
)
HEADERS: dict[str, tuple[str, Schema]] = {
    "X-Request-ID": (
        "In every answer: the request’s own, where it is 1 to 64 letters, digits, dots, hyphens "
        "or underscores, or a new one. It stands in the access log too.",
        TEXT,
    ),
    "Retry-After": ("How many seconds to wait.", COUNT),
    "WWW-Authenticate": ("How to send a key.", TEXT),
    HEADER: ("How many bytes of the body are JSON; the tensor’s follow.", COUNT),
}
EVERYWHERE = "X-Request-ID"


def document() -> Schema:
    """The whole document."""
    headers = {
        name: {"description": text, "schema": schema, "required": name == EVERYWHERE}
        for name, (text, schema) in HEADERS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Glimpse",
            "version": "1",
            "description": "Small trained image classifiers over HTTP. Every error is a problem "
            "as RFC 9457 has it, application/problem+json: its detail says what to do.",
        },
        "servers": [{"url": request.script_root or "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": {**_pictures(), **_cards(), **_protocol(), **_server()},
        "components": {
            "schemas": SCHEMAS,
            "headers": headers,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


@openapi.get("/openapi.json")
def show() -> Response:
    """The document as JSON."""
    return jsonify(document())


def _pictures() -> Schema:
    default = current_app.config["DEFAULT_MODEL"]
    parameters = {"model": (MODEL, {"type": "string", "default": default}), **PARAMETERS}
    fields = {name: {**schema, "description": text} for name, (text, schema) in parameters.items()}
    base64_text = {"type": "string", "description": "base64, or a data: URL"}
    most = {"maxItems": current_app.config["MAX_IMAGES"]}
    files = rows({"type": "string", "contentMediaType": "image/*"}, **most)
    as_json = record("", image=base64_text, images=rows(base64_text, **most), **fields)
    sample = Path(current_app.static_folder or "", SAMPLE).read_bytes()
    predict = _operation(
        "Predictions",
        "predict",
        "Classify pictures",
        {
            "200": _json("A result for each picture, in order", "Predictions"),
            **_problems(*OF_PICTURES, UNKNOWN, NOT_READY, *GUARDS),
        },
        description=f"Pictures are {FORMAT_NAMES} files. Parameters are taken from the query, the "
        "form or the JSON; the body wins. Of several pictures one that fails has its problem in "
        "its result’s place; where all fail, the answer is the first one’s problem.",
        parameters=[
            {"name": name, "in": "query", "description": text, "schema": schema}
            for name, (text, schema) in parameters.items()
        ],
        requestBody={
            "required": True,
            "content": {
                "multipart/form-data": {"schema": record("file", file=files, **fields)},
                "image/*": {"schema": BYTES},
                "application/octet-stream": {"schema": BYTES},
                "application/json": {
                    "schema": {
                        **as_json,
                        "oneOf": [{"required": ["image"]}, {"required": ["images"]}],
                    },
                    "example": {
                        "image": f"data:image/png;base64,{base64.b64encode(sample).decode()}"
                    },
                },
            },
        },
    )
    return {"/api/predict": {"post": _guarded(predict)}}


def _cards() -> Schema:
    listed = {"200": _json("The cards of the models", "Cards")}
    shown = {"200": _json("The card", "Card"), **_problems(UNKNOWN, NOT_READY)}
    return {
        "/api/models": {"get": _operation("Models", "listModels", "List the models", listed)},
        "/api/models/{name}": {
            "get": _operation(
                "Models", "showModel", "A model’s card", shown, parameters=[_model_in_path()]
            )
        },
    }


def _protocol() -> Schema:
    tag = "Open Inference Protocol"
    wrong = _problems(UNKNOWN, NOT_READY, schema="ProtocolProblem")
    ready = {"200": _json("It serves", "ModelReady"), **wrong}
    metadata = {"200": _json("Its tensors and labels", "ModelMetadata"), **wrong}

    def of_server(name: str, summary: str, responses: Schema) -> Schema:
        return {"get": _operation(tag, name, summary, responses)}

    paths = {
        "/v2": of_server(
            "protocolServer", "What this server is", {"200": _json("This", "ProtocolServer")}
        ),
        "/v2/health/live": of_server(
            "protocolLive", "Whether the process answers", {"200": _json("Yes", "ProtocolLive")}
        ),
        "/v2/health/ready": of_server(
            "protocolReady",
            "Whether every model serves",
            {
                "200": _json("Yes", "ProtocolReady"),
                "503": _json("No", "ProtocolReady", {"ready": False}),
            },
        ),
    }
    for suffix, at, of, parameters in (
        ("", "", "a model", [_model_in_path()]),
        ("Version", "/versions/{version}", "a version", [_model_in_path(), _version_in_path()]),
    ):
        path = "/v2/models/{name}" + at
        paths |= {
            path: {
                "get": _operation(
                    tag,
                    f"modelMetadata{suffix}",
                    f"The tensors of {of}",
                    metadata,
                    parameters=parameters,
                )
            },
            f"{path}/ready": {
                "get": _operation(
                    tag, f"modelReady{suffix}", f"Whether {of} serves", ready, parameters=parameters
                )
            },
            f"{path}/infer": {
                "post": _guarded(
                    _operation(tag, f"infer{suffix}", f"Ask {of}", **_infer(parameters))
                )
            },
        }
    return paths


def _infer(parameters: list[Schema]) -> Schema:
    """What the operations that infer share."""
    length = {"name": HEADER, "in": "header", "description": HEADERS[HEADER][0], "schema": COUNT}
    model = models().ready.get(current_app.config["DEFAULT_MODEL"])
    blank = {"schema": reference("InferRequest")}
    if model:
        shape = [1, *model.card.input["shape"]]
        tensor = {
            "name": INPUT,
            "datatype": "UINT8",
            "shape": shape,
            "data": [0] * math.prod(shape),
        }
        blank["example"] = {"inputs": [tensor]}
    answer = _json("The probabilities", "InferResponse")
    answer["headers"][HEADER] = {"$ref": f"#/components/headers/{HEADER}"}
    answer["content"]["application/octet-stream"] = {"schema": BYTES}
    return {
        "description": "Tensors travel as JSON or, by Triton’s extension binary_tensor_data, as "
        "bytes after the JSON.",
        "parameters": [*parameters, length],
        "requestBody": {
            "required": True,
            "content": {"application/json": blank, "application/octet-stream": {"schema": BYTES}},
        },
        "responses": {
            "200": answer,
            **_problems(*OF_TENSORS, UNKNOWN, NOT_READY, *GUARDS, schema="ProtocolProblem"),
        },
    }


def _server() -> Schema:
    text = {"text/plain": {"schema": TEXT}}
    not_ready = {"ready": False, "models": [], "unavailable": {"digits": "model.pt is missing"}}
    operations = {
        "/healthz": (
            "alive",
            "Whether the process answers",
            {"200": _json("Yes", "Alive")},
        ),
        "/readyz": (
            "ready",
            "Whether the default model is loaded and warm",
            {"200": _json("Yes", "Readiness"), "503": _json("No", "Readiness", not_ready)},
        ),
        "/metrics": ("metrics", "Counts and times for Prometheus", {"200": _answer("Them", text)}),
        "/openapi.json": (
            "openapi",
            "This contract for programs",
            {"200": _answer("OpenAPI 3.1", {"application/json": {"schema": {"type": "object"}}})},
        ),
    }
    return {path: {"get": _operation("Server", *rest)} for path, rest in operations.items()}


def _operation(tag: str, name: str, summary: str, responses: Schema, **more: Any) -> Schema:
    return {"operationId": name, "tags": [tag], "summary": summary, **more, "responses": responses}


def _guarded(operation: Schema) -> Schema:
    """The operation and, where this server asks for keys, how they are sent."""
    if current_app.config["API_KEYS"]:
        operation["security"] = [{"bearer": []}, {"header": []}]
    return operation


def _in_path(name: str, description: str, example: str | None) -> Schema:
    parameter = {"name": name, "in": "path", "required": True, "description": description}
    return {**parameter, "schema": TEXT, **({"example": example} if example else {})}


def _model_in_path() -> Schema:
    return _in_path("name", MODEL, current_app.config["DEFAULT_MODEL"])


def _version_in_path() -> Schema:
    model = models().ready.get(current_app.config["DEFAULT_MODEL"])
    return _in_path("version", "The version of its card.", model.card.version if model else None)


def _answer(description: str, content: Schema, *headers: str) -> Schema:
    names = (EVERYWHERE, *headers)
    return {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": content,
    }


def _json(description: str, schema: str, example: Any = None) -> Schema:
    """An answer of a schema, with an example, the schema's own if none is given."""
    example = example or SCHEMAS[schema]["examples"][0]
    media = {"schema": reference(schema), "example": example}
    return _answer(description, {"application/json": media})


def _problems(*problems: Problem, schema: str = "Problem") -> Schema:
    """The answers that tell `problems`, by status, each kind as an example."""
    answers: Schema = {}
    for problem in sorted(problems, key=lambda each: each.status):
        value = problem.to_dict()
        if schema == "ProtocolProblem":
            value["error"] = problem.detail
        answer = answers.setdefault(
            str(problem.status),
            _answer(
                MEANINGS[problem.status],
                {"application/problem+json": {"schema": reference(schema), "examples": {}}},
                *problem.headers,
            ),
        )
        answer["content"]["application/problem+json"]["examples"][problem.slug] = {"value": value}
    return answers

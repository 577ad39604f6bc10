"""`GET /openapi.json`: the HTTP contract for programs, OpenAPI 3.1; `/docs` shows it to people."""

from __future__ import annotations

import base64
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
from flask import Blueprint, Response, current_app, jsonify, request

from app.answers import ProblemDetails, ProtocolProblem, documented
from app.api import Parameters
from app.errors import BUSY, GUARDS, NOT_READY, UNKNOWN, BadParameter, MissingImage
from app.hugging_face import hugging_face
from app.inference_protocol import HEADER, INPUT, protocol
from app.models import models
from app.schemas import BYTES, COUNT, TEXT, Schema, components, record, reference, rows
from tasks.decode import FORMAT_NAMES
from tasks.problems import Problem, TooLarge, UnreadableImage, UnsupportedMediaType, blank_picture

openapi = Blueprint("openapi", __name__)

SAMPLE = "seven.png"  # in the static folder
TAGS = {
    "Predictions": "What a picture shows.",
    "Reports": "What is wrong with an answer: for review, and for the model to learn from. Off "
    "unless the server’s operator turns it on.",
    "Models": "What each model is, and how accurate.",
    "Open Inference Protocol": "For clients of KServe and Triton: tensors go straight to a model's "
    "network. Preparing the pictures as /api/predict does is up to the client.",
    "Server": "For supervisors and monitoring.",
}

TAG_OF = {
    "api": "Models",
    "hugging_face": "Predictions",
    "inference_protocol": "Open Inference Protocol",
    "reports": "Reports",
}  # by blueprint
MODEL = "A model’s name, as GET /api/models lists them."
MEANINGS = {
    400: "No image, an unreadable one, or a bad parameter",
    401: "No key, or a wrong one, if the server requires keys",
    404: "Unknown model",
    413: "Too many bytes, pixels, images or seconds of work",
    415: "An unsupported content type or picture format",
    422: "A readable picture with nothing to classify",
    429: "Too many requests, if the server limits them",
    503: "The model cannot be used now, or the server has too much to do",
}
OF_REPORTS = MEANINGS | {
    404: "Unknown model or report, or a server that takes no reports",
    409: "The answer was reported with another label before",
    429: "Too many requests or reports, if the server limits them",
    503: "The model or the database of reports cannot be used now",
}
OF_PICTURES = (
    BadParameter("“top_k” must be a whole number from 1 to 10."),
    MissingImage(
        "The request holds no image. Send a file part named file, the picture’s bytes as the "
        "body, or JSON with an “image”."
    ),
    UnreadableImage(f"This is not an image. Send a {FORMAT_NAMES} file."),
    TooLarge(
        "The image has 20000 × 20000 pixels; at most 50000000 are allowed. "
        "Send it at a smaller size."
    ),
    UnsupportedMediaType(
        f"TIFF pictures are not supported. Convert it to {FORMAT_NAMES} and send it again."
    ),
    blank_picture(),
)
HEADERS: dict[str, tuple[str, Schema]] = {
    "X-Request-ID": (
        "In every response: the request’s own, if it is 1 to 64 letters, digits, dots, hyphens "
        "or underscores, otherwise a new one. The access log has it too.",
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
        "paths": _paths(),
        "components": {
            "schemas": components(),
            "headers": headers,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


@openapi.get("/openapi.json", endpoint="openapi")
@documented("application/json")
def show() -> Response:
    """This contract for programs."""
    return jsonify(document())


def _predict() -> Schema:
    default = current_app.config["DEFAULT_MODEL"]
    fields = msgspec.json.schema_components([Parameters])[1]["Parameters"]["properties"]
    fields["model"]["default"] = default
    base64_text = {"type": "string", "description": "base64, or a data: URL"}
    most = {"maxItems": current_app.config["MAX_IMAGES"]}
    files = rows({"type": "string", "contentMediaType": "image/*"}, **most)
    as_json = record("", image=base64_text, images=rows(base64_text, **most), **fields)
    as_json["oneOf"] = [{"required": ["image"]}, {"required": ["images"]}]
    return {
        "operationId": "predict",
        "tags": ["Predictions"],
        "summary": "Classify pictures",
        "responses": {
            "200": _json("A result for each picture, in order", "Predictions"),
            **_problems(*OF_PICTURES, UNKNOWN, BUSY, NOT_READY, *GUARDS),
        },
        "description": f"Pictures are {FORMAT_NAMES} files. Parameters are taken from the query, "
        "the form or the JSON; the body takes precedence. If one of several pictures fails, its "
        "problem replaces its result; if all fail, the response is the first one’s problem. A "
        f"picture may have {current_app.config['MAX_PIXELS']} pixels, all different pictures of a "
        f"request together {current_app.config['MAX_PIXELS_IN_ALL']}.",
        "parameters": [
            {
                "name": name,
                "in": "query",
                "description": schema["description"],
                "schema": {key: each for key, each in schema.items() if key != "description"},
            }
            for name, schema in fields.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": record("file", file=files, **fields)},
                "image/*": {"schema": BYTES},
                "application/octet-stream": {"schema": BYTES},
                "application/json": {"schema": as_json, "example": {"image": _sample()}},
            },
        },
    }


def _sample() -> str:
    """A digit, as a data: URL."""
    sample = Path(current_app.static_folder or "", SAMPLE).read_bytes()
    return f"data:image/png;base64,{base64.b64encode(sample).decode()}"


def _classify_image(operation: Schema) -> Schema:
    """The operation of Hugging Face's clients, with what they send."""
    example = {"inputs": _sample(), "parameters": {"top_k": 3}}
    content = {
        "application/json": {"schema": reference("Classification"), "example": example},
        "image/*": {"schema": BYTES},
        "application/octet-stream": {"schema": BYTES},
    }
    return {**operation, "requestBody": {"required": True, "content": content}}


def _report(operation: Schema) -> Schema:
    """The operation that sends a report, with what is sent."""
    example = {"answer": "3f9c2a1b.0", "label": "7", "picture": _sample(), "consent": True}
    content = {"application/json": {"schema": reference("Report"), "example": example}}
    ok = operation["responses"]["200"]
    responses = {
        "200": {**ok, "description": "It had been sent before"},
        "201": {**ok, "description": "It is kept"},
        **{status: each for status, each in operation["responses"].items() if status != "200"},
    }
    body = {"required": True, "content": content}
    return {**operation, "responses": responses, "requestBody": body}


def _withdraw(operation: Schema) -> Schema:
    """The operation that withdraws a report by its code, with what is sent."""
    example = {"code": components()["KeptReport"]["examples"][0]["code"]}
    content = {"application/json": {"schema": reference("Withdrawal"), "example": example}}
    return {**operation, "requestBody": {"required": True, "content": content}}


def _paths() -> Schema:
    """Every operation, as its view is documented."""
    paths: Schema = {"/api/predict": {"post": _guarded(_predict())}}
    for rule in current_app.url_map.iter_rules():
        view = current_app.view_functions[rule.endpoint]
        if not hasattr(view, "documented"):
            continue
        blueprint, _, endpoint = rule.endpoint.rpartition(".")
        first, *others = endpoint.split("_")
        name = first + "".join(map(str.capitalize, others))
        path = rule.rule.replace("<", "{").replace(">", "}")
        operation = {
            "operationId": f"{name}Version" if "version" in rule.arguments else name,
            "tags": [TAG_OF.get(blueprint, "Server")],
            "summary": (view.__doc__ or "").splitlines()[0].rstrip("."),
            "responses": _responses(
                *view.documented,
                protocol=blueprint in (protocol.name, hugging_face.name),
                meanings=OF_REPORTS if blueprint == "reports" else MEANINGS,
            ),
        }
        if parameters := _in_path(rule.arguments):
            operation["parameters"] = parameters
        if endpoint == "repository_index":  # which needs no key and no body
            paths[path] = {"post": operation}
        elif rule.methods and "POST" in rule.methods:
            complete = COMPLETE.get(rule.endpoint, _infer)
            paths[path] = {"post": _guarded(complete(operation))}
        elif rule.methods and "DELETE" in rule.methods:
            paths[path] = {"delete": _guarded(operation)}
        else:
            paths[path] = {"get": operation}
    return paths


def _responses(
    answer: Any,
    problems: Sequence[Problem],
    unready: Any,
    *,
    protocol: bool,
    meanings: Mapping[int, str],
) -> Schema:
    kind = ProtocolProblem if protocol else ProblemDetails
    if isinstance(answer, str):
        is_json = answer == "application/json"
        return {"200": _answer("OK", {answer: {"schema": {"type": "object"} if is_json else TEXT}})}
    if get_origin(answer) is list:
        (item,) = get_args(answer)
        schema = {"schema": rows(reference(item.__name__))}
        return {"200": _answer("OK", {"application/json": schema})} | _problems(
            *problems, kind=kind, meanings=meanings
        )
    found = {"200": _json("OK", answer.__name__)}
    if unready is not None:
        found["503"] = _json("Not ready", answer.__name__, msgspec.to_builtins(unready))
    return found | _problems(*problems, kind=kind, meanings=meanings)


def _in_path(names: Collection[str]) -> list[Schema]:
    """The parameters of a path."""
    default = current_app.config["DEFAULT_MODEL"]
    model = models().ready.get(default)
    version = model.card.version if model else ""
    described = {
        "name": (MODEL, default),
        "version": ("The version of its card.", version),
        "code": ("The report’s code", "574aef9de2eaae14192b5beefa85c4c3"),
    }
    always = {"in": "path", "required": True, "schema": TEXT}
    return [
        {"name": name, "description": text, "example": example, **always}
        for name, (text, example) in described.items()
        if name in names
    ]


def _infer(operation: Schema) -> Schema:
    """The operation that infers, with its tensors."""
    length = {"name": HEADER, "in": "header", "description": HEADERS[HEADER][0], "schema": COUNT}
    model = models().ready.get(current_app.config["DEFAULT_MODEL"])
    blank = {"schema": reference("InferRequest")}
    if model:
        shape = [1, *model.spec.shape]
        data = [0] * math.prod(shape)
        tensor = {"name": INPUT, "datatype": "UINT8", "shape": shape, "data": data}
        blank["example"] = {"inputs": [tensor]}
    answer = operation["responses"]["200"]
    answer["headers"][HEADER] = {"$ref": f"#/components/headers/{HEADER}"}
    answer["content"]["application/octet-stream"] = {"schema": BYTES}
    return {
        **operation,
        "description": "Tensors travel as JSON or, by Triton’s extension binary_tensor_data, as "
        "bytes after the JSON.",
        "parameters": [*operation["parameters"], length],
        "requestBody": {
            "required": True,
            "content": {"application/json": blank, "application/octet-stream": {"schema": BYTES}},
        },
    }


def _guarded(operation: Schema) -> Schema:
    """The operation and, where this server asks for keys, how they are sent."""
    if current_app.config["API_KEYS"]:
        operation["security"] = [{"bearer": []}, {"header": []}]
    return operation


def _answer(description: str, content: Schema, *headers: str) -> Schema:
    names = (EVERYWHERE, *headers)
    return {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": content,
    }


def _json(description: str, schema: str, example: Any = None) -> Schema:
    """An answer of a schema, with an example, the schema's own if none is given."""
    example = example or components()[schema]["examples"][0]
    media = {"schema": reference(schema), "example": example}
    return _answer(description, {"application/json": media})


COMPLETE = {
    "hugging_face.classify_image": _classify_image,
    "reports.report": _report,
    "reports.withdraw_report": _withdraw,
}  # by endpoint: what adds to an operation what is sent


def _problems(
    *problems: Problem,
    kind: type[ProblemDetails] = ProblemDetails,
    meanings: Mapping[int, str] = MEANINGS,
) -> Schema:
    """The answers that tell `problems`, by status, each kind as an example."""
    answers: Schema = {}
    for problem in sorted(problems, key=lambda each: each.status):
        value = msgspec.to_builtins(kind.of(problem))
        answer = answers.setdefault(
            str(problem.status),
            _answer(
                meanings[problem.status],
                {"application/problem+json": {"schema": reference(kind.__name__), "examples": {}}},
                *problem.headers,
            ),
        )
        answer["content"]["application/problem+json"]["examples"][problem.slug] = {"value": value}
    return answers

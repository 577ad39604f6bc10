"""`/v2`: the Open Inference Protocol, so that clients of KServe and Triton work unchanged.

The tensor ``pictures`` holds what a network takes, uint8 (N, C, H, W): nothing is looked for in
it, unlike in the pictures of `/api/predict`. Tensors travel as JSON or, by Triton's extension
``binary_tensor_data``, as bytes after the JSON.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from flask import Blueprint, Response, jsonify, request
from numpy.typing import NDArray

from app.body import whole_body
from app.errors import BadParameter, TooLarge, UnknownModel
from app.metrics import PREDICTIONS
from app.models import Model, models

protocol = Blueprint("inference_protocol", __name__, url_prefix="/v2")

INPUT, OUTPUT = "pictures", "probabilities"
MOST = 1024  # pictures of a request
HEADER = "Inference-Header-Content-Length"  # bytes of JSON before the tensors' own
MODEL = "/models/<name>"
VERSION = MODEL + "/versions/<version>"

Options = dict[str, Any]


@protocol.get("")
def server() -> Response:
    """What this server is."""
    return jsonify(name="glimpse", version="2", extensions=["binary_tensor_data"])


@protocol.get("/health/live")
def live() -> Response:
    """200 while the process answers."""
    return jsonify(live=True)


@protocol.get("/health/ready")
def ready() -> Response:
    """200 where every model of the store serves, else 503."""
    is_ready = bool(models().ready) and not models().unavailable
    return Response(
        json.dumps({"ready": is_ready}), 200 if is_ready else 503, mimetype="application/json"
    )


@protocol.get(MODEL + "/ready")
@protocol.get(VERSION + "/ready")
def model_ready(name: str, version: str | None = None) -> Response:
    """200 where the model serves."""
    model = _model(name, version)
    return jsonify(name=model.card.name, ready=True)


@protocol.get(MODEL)
@protocol.get(VERSION)
def metadata(name: str, version: str | None = None) -> Response:
    """The model's tensors; the labels are those of the output's columns."""
    card = _model(name, version).card
    return jsonify(
        name=card.name,
        versions=[card.version],
        platform=models().platform,
        inputs=[{"name": INPUT, "datatype": "UINT8", "shape": [-1, *card.input["shape"]]}],
        outputs=[{"name": OUTPUT, "datatype": "FP32", "shape": [-1, len(card.labels)]}],
        parameters={"labels": card.labels},
    )


@protocol.post(MODEL + "/infer")
@protocol.post(VERSION + "/infer")
def infer(name: str, version: str | None = None) -> Response:
    """Probabilities of a tensor of pictures."""
    model = _model(name, version)
    body, tensors = _parts()
    pictures = _pictures(body, tensors, model)
    as_bytes = _wants_bytes(body)
    probabilities = model.network(pictures).astype(np.float32, copy=False)
    for index in probabilities.argmax(axis=1).tolist():
        PREDICTIONS.labels(model.card.name, model.card.labels[index]).inc()
    output: Options = {"name": OUTPUT, "datatype": "FP32", "shape": list(probabilities.shape)}
    answer: Options = {"model_name": model.card.name, "model_version": model.card.version}
    if body.get("id") is not None:
        answer["id"] = body["id"]
    if not as_bytes:
        output["data"] = [round(value, 9) for value in probabilities.ravel().tolist()]
        return jsonify(**answer, outputs=[output])
    content = probabilities.tobytes()
    output["parameters"] = {"binary_data_size": len(content)}
    head = json.dumps({**answer, "outputs": [output]}).encode()
    return Response(
        head + content, headers={HEADER: str(len(head))}, mimetype="application/octet-stream"
    )


def _model(name: str, version: str | None) -> Model:
    model = models().get(name)
    if version not in (None, model.card.version):
        raise UnknownModel(
            f"The model {model.card.name} has no such version; it has {model.card.version}."
        )
    return model


def _parts() -> tuple[Options, bytes]:
    """The request's JSON, and the bytes of its tensors after it."""
    content = whole_body()
    given = request.headers.get(HEADER, str(len(content)))
    if not (given.isascii() and given.isdigit() and len(given) < 12 and int(given) <= len(content)):
        raise BadParameter(f"The header {HEADER} must be the number of bytes of JSON in the body.")
    size = int(given)
    try:
        body = json.loads(content[:size])
    except (ValueError, RecursionError) as error:
        raise BadParameter("The body does not begin with valid JSON in UTF-8.") from error
    if not isinstance(body, dict):
        raise BadParameter("The JSON must be an object with “inputs”.")
    if not isinstance(body.get("id"), str | None):
        raise BadParameter("“id” must be a text.")
    return body, content[size:]


def _pictures(body: Options, tensors: bytes, model: Model) -> NDArray[np.uint8]:
    """The one input tensor, uint8 (N, C, H, W)."""
    shape = model.card.input["shape"]
    inputs = body.get("inputs")
    tensor = inputs[0] if isinstance(inputs, list) and len(inputs) == 1 else None
    if not isinstance(tensor, dict) or tensor.get("name") != INPUT:
        raise BadParameter(f"“inputs” must hold one tensor with the name {INPUT}.")
    if tensor.get("datatype") != "UINT8":
        raise BadParameter(f"The tensor {INPUT} must have the datatype UINT8.")
    given = tensor.get("shape")
    if not (
        isinstance(given, list)
        and all(type(side) is int for side in given)
        and given[1:] == shape
        and given[0] >= 1
    ):
        raise BadParameter(f"The tensor {INPUT} must have the shape {['N', *shape]}, N from 1.")
    if given[0] > MOST:
        raise TooLarge(f"The tensor holds {given[0]} pictures; at most {MOST} are taken.")
    count = math.prod(given)
    options = _options(tensor)
    if "binary_data_size" in options:
        if options["binary_data_size"] != count or len(tensors) != count:
            raise BadParameter(f"A tensor of the shape {given} takes {count} bytes.")
        pictures: NDArray[np.uint8] = np.frombuffer(tensors, np.uint8).reshape(given).copy()
        return pictures
    try:
        values = np.array(tensor.get("data"))
    except ValueError:
        values = np.array(None)
    if values.dtype.kind not in "iu" or values.size != count:
        raise BadParameter(f"“data” must be {count} whole numbers from 0 to 255.")
    if values.min() < 0 or values.max() > 255:
        raise BadParameter("“data” must be whole numbers from 0 to 255.")
    return values.astype(np.uint8).reshape(given)


def _wants_bytes(body: Options) -> bool:
    """Whether the output is to come as bytes; raises `BadParameter` where that is not said well."""
    everything = _flag(body, "binary_data_output")
    outputs = body.get("outputs")
    if outputs is None:
        return everything
    if not (
        isinstance(outputs, list)
        and len(outputs) == 1
        and isinstance(outputs[0], dict)
        and outputs[0].get("name") == OUTPUT
    ):
        raise BadParameter(f"“outputs” may hold one tensor, of the name {OUTPUT}.")
    return _flag(outputs[0], "binary_data")


def _flag(holder: Options, name: str) -> bool:
    given = _options(holder).get(name, False)
    if not isinstance(given, bool):
        raise BadParameter(f"“{name}” must be true or false.")
    return given


def _options(holder: Options) -> Options:
    """The options of a request, a tensor or an output, which extensions of the protocol have.

    Clients send null for what they leave out.
    """
    given = holder.get("parameters")
    if not isinstance(given, dict | None):
        raise BadParameter("“parameters” must be an object.")
    return given or {}

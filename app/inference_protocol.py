"""`/v2`: the Open Inference Protocol, so that clients of KServe and Triton work unchanged.

The tensor ``pictures``, uint8 (N, C, H, W), goes straight to the network: unlike `/api/predict`,
this prepares no pictures. Tensors travel as JSON or, by Triton's extension
``binary_tensor_data``, as bytes after the JSON.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from flask import Blueprint, Response, current_app, request
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from numpy.typing import NDArray

import model_store
from app.answers import Count, Score, documented, json_response
from app.body import PLAIN, SMALL, body_encoding, decompressed, whole_body
from app.errors import BUSY, GUARDS, NOT_READY, UNKNOWN, BadParameter
from app.metrics import PREDICTIONS
from app.models import Model, models
from app.predict import MOST_SUBJECTS, classify, work
from app.scheduler import Turn
from app.trial import trials
from tasks.problems import TooLarge

protocol = Blueprint("inference_protocol", __name__, url_prefix="/v2")

INPUT, OUTPUT = "pictures", "probabilities"
HEADER = "Inference-Header-Content-Length"  # bytes of JSON before the tensors' own
MODEL = "/models/<name>"
VERSION = MODEL + "/versions/<version>"


class ServerMetadata(Struct):
    """What this server is."""

    name: str = "glimpse"
    version: str = "2"
    extensions: list[str] = msgspec.field(
        default_factory=lambda: ["binary_tensor_data", "classification"]
    )


class Live(Struct):
    """Whether the process answers."""

    live: bool


class ServerReady(Struct):
    """Whether every model can be used."""

    ready: bool


class IndexEntry(Struct):
    """A model of the store."""

    name: str
    state: Literal["READY", "UNAVAILABLE"]
    version: str = ""
    reason: Annotated[str, Meta(description="Why it cannot be used")] = ""


class ModelReady(Struct):
    """Whether a model can be used."""

    name: str
    ready: bool


class TensorMetadata(Struct):
    """A tensor of a model."""

    name: str
    datatype: str
    shape: Annotated[list[int], Meta(description="−1: any number")]


class ModelParameters(Struct):
    """What a model's metadata adds to the protocol."""

    labels: Annotated[list[str], Meta(description="The labels of the output’s columns")]


class ModelMetadata(Struct):
    """A model's tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: ModelParameters


# Clients may send null instead of leaving a field out.
class InferParameters(Struct):
    """Options of a request, a tensor or an output, as extensions of the protocol define them."""

    binary_data_output: Annotated[
        bool | None,
        Meta(description="Whether to send the output as bytes, if “outputs” is left out"),
    ] = None
    binary_data: Annotated[
        bool | None, Meta(description="For an output: whether to send it as bytes")
    ] = None
    binary_data_size: Annotated[
        int | None,
        Meta(description="For a tensor: the number of its bytes, which follow the JSON"),
    ] = None
    classification: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(
            description="For an output: how many labels to send in place of the numbers, best "
            "first, as texts such as 0.999700:7:7 (score, column, label)"
        ),
    ] = None


class InferInput(Struct):
    """The tensor of pictures."""

    name: Literal["pictures"]
    datatype: Literal["UINT8"]
    shape: Annotated[
        list[Annotated[int, Meta(ge=1)]],
        Meta(
            min_length=4,
            max_length=4,
            description=f"N, C, H, W: up to {MOST_SUBJECTS} pictures, each as the model's metadata "
            "says",
        ),
    ]
    data: Annotated[
        Raw,
        Meta(
            description="Whole numbers from 0 to 255, flat or nested; left out if the bytes "
            "follow the JSON",
            extra_json_schema={"type": ["array", "null"]},
        ),
    ] = msgspec.field(default_factory=Raw)
    parameters: InferParameters | None = None


class InferWanted(Struct):
    """The requested output."""

    name: Literal["probabilities"]
    parameters: InferParameters | None = None


class InferRequest(Struct):
    """A request."""

    inputs: Annotated[list[InferInput], Meta(min_length=1, max_length=1)]
    outputs: Annotated[list[InferWanted], Meta(min_length=1, max_length=1)] | None = None
    id: Annotated[str | None, Meta(description="Returned with the response")] = None
    parameters: InferParameters | None = None


class OutputParameters(Struct):
    """Where the bytes of an output are."""

    binary_data_size: Count


class InferOutput(Struct, kw_only=True):
    """The probabilities."""

    name: Literal["probabilities"] = "probabilities"
    datatype: Literal["FP32", "BYTES"] = "FP32"
    shape: Annotated[list[int], Meta(description="Pictures and labels")]
    data: (
        Annotated[
            list[Score | str],
            Meta(description="Row by row; missing if the bytes follow the JSON"),
        ]
        | UnsetType
    ) = UNSET
    parameters: OutputParameters | UnsetType = UNSET


class InferResponse(Struct):
    """A response."""

    model_name: str
    model_version: str
    outputs: list[InferOutput]
    id: str | UnsetType = UNSET


@protocol.get("")
@documented(ServerMetadata)
def protocol_server() -> Response:
    """What this server is."""
    return json_response(ServerMetadata())


@protocol.post("/repository/index")
@documented(list[IndexEntry])
def repository_index() -> Response:
    """The models of the store and their versions."""
    held = models()
    # A version that does not serve is ready, too: it is loaded when it is asked for.
    ready = [
        IndexEntry(name, "READY", version)
        for name, model in held.ready.items()
        for version in _versions(model)
    ]
    others = [
        IndexEntry(name, "UNAVAILABLE", reason=reason) for name, reason in held.unavailable.items()
    ]
    return json_response(ready + others)


@protocol.get("/health/live")
@documented(Live)
def protocol_live() -> Response:
    """Whether the process answers."""
    return json_response(Live(True))


@protocol.get("/health/ready")
@documented(ServerReady, unready=ServerReady(False))
def protocol_ready() -> Response:
    """Whether every model of the store can be used."""
    is_ready = bool(models().ready) and not models().unavailable
    return json_response(ServerReady(is_ready), 200 if is_ready else 503)


@protocol.get(MODEL + "/ready")
@protocol.get(VERSION + "/ready")
@documented(ModelReady, UNKNOWN, NOT_READY)
def model_ready(name: str, version: str | None = None) -> Response:
    """Whether a model can be used."""
    return json_response(ModelReady(_model(name, version).card.name, True))


@protocol.get(MODEL)
@protocol.get(VERSION)
@documented(ModelMetadata, UNKNOWN, NOT_READY)
def model_metadata(name: str, version: str | None = None) -> Response:
    """A model’s tensors; the labels are those of the output’s columns."""
    model = _model(name, version)
    card = model.card
    return json_response(
        ModelMetadata(
            card.name,
            _versions(model),
            model.platform,
            [TensorMetadata(INPUT, "UINT8", [-1, *model.spec.shape])],
            [TensorMetadata(OUTPUT, "FP32", [-1, len(card.labels)])],
            ModelParameters(card.labels),
        )
    )


@protocol.post(MODEL + "/infer")
@protocol.post(VERSION + "/infer")
@documented(
    InferResponse,
    BadParameter("“inputs” must hold one tensor with the name pictures."),
    TooLarge(f"The tensor holds 2000 pictures; at most {MOST_SUBJECTS} are allowed. Send fewer."),
    UNKNOWN,
    BUSY,
    NOT_READY,
    *GUARDS,
)
def infer(name: str, version: str | None = None) -> Response:
    """Classify a tensor of pictures."""
    model = _model(name, version) if version else trials().answering(name)
    encoding = body_encoding()
    content = whole_body()
    seconds, patience = current_app.config["MAX_SECONDS"], current_app.config["MAX_WAIT"]
    is_light = len(content) <= SMALL and encoding == PLAIN
    with work(light=is_light, seconds=seconds, patience=patience) as turn:
        asked, probabilities = _infer(decompressed(content, encoding), model, turn)
    for index in probabilities.argmax(axis=1).tolist():
        PREDICTIONS.labels(model.card.name, model.card.labels[index]).inc()
    output, tensor = _output(probabilities, _classes(asked), model)
    answer = InferResponse(model.card.name, model.card.version, [output], asked.id or UNSET)
    if not _wants_bytes(asked):
        return json_response(answer)
    output.data = UNSET
    output.parameters = OutputParameters(len(tensor))
    head = msgspec.json.encode(answer)
    return Response(
        head + tensor, headers={HEADER: str(len(head))}, mimetype="application/octet-stream"
    )


def _classes(asked: InferRequest) -> int:
    """How many labels are to be sent in place of the numbers, or 0."""
    parameters = asked.outputs[0].parameters if asked.outputs else None
    return (parameters and parameters.classification) or 0


def _output(
    probabilities: NDArray[np.float32], classes: int, model: Model
) -> tuple[InferOutput, bytes]:
    """The output with its data, and these as bytes."""
    if not classes:
        data = [round(value, 9) for value in probabilities.ravel().tolist()]
        return InferOutput(shape=list(probabilities.shape), data=data), probabilities.tobytes()
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :classes]
    texts = [
        f"{row[column]:f}:{column}:{model.card.labels[column]}"
        for row, columns in zip(probabilities, best.tolist(), strict=True)
        for column in columns
    ]
    encoded = [text.encode() for text in texts]
    tensor = b"".join(struct.pack("<I", len(each)) + each for each in encoded)
    return InferOutput(datatype="BYTES", shape=list(best.shape), data=[*texts]), tensor


def _model(name: str, version: str | None) -> Model:
    return models().get(f"{name}@{version}" if version else name)


def _versions(model: Model) -> list[str]:
    """The versions of a model that can be asked for, oldest first."""
    folder = Path(current_app.config["MODEL_STORE"]) / model.card.name
    return list(dict.fromkeys([*model_store.versions(folder), model.card.version]))


def _infer(content: bytes, model: Model, turn: Turn) -> tuple[InferRequest, NDArray[np.float32]]:
    """The request in a body, and its probabilities; raises `BadParameter` or `TooLarge`."""
    given = request.headers.get(HEADER, str(len(content)))
    if not (given.isascii() and given.isdigit() and len(given) < 12 and int(given) <= len(content)):
        raise BadParameter(f"The header {HEADER} must be the number of bytes of JSON in the body.")
    size = int(given)
    try:
        asked = msgspec.json.decode(content[:size], type=InferRequest)
    except msgspec.ValidationError as error:
        raise BadParameter(_sentence(str(error))) from error
    except (ValueError, RecursionError) as error:
        raise BadParameter("The body does not begin with valid JSON in UTF-8.") from error
    pictures = _pictures(asked.inputs.pop(), content[size:], model)  # frees its list of numbers
    probabilities, _ = classify(model, pictures, turn)
    return asked, probabilities.astype(np.float32)


def _sentence(error: str) -> str:
    """msgspec's message about a field, as a sentence that names the field."""
    said, _, path = error.partition(" - at `$")
    said = said[0].lower() + said[1:].replace("`", "")
    field = path.rstrip("`").lstrip(".")
    rules = {
        "inputs": f"“inputs” must hold one tensor with the name {INPUT}",
        "outputs": f"“outputs” may hold one tensor, of the name {OUTPUT}",
    }
    place = f" (“{field}”: {said})" if field else f" ({said})"
    rule = rules.get(field.partition("[")[0], "The JSON does not follow the protocol")
    return f"{rule}{place}. See /docs for its form."


def _pictures(tensor: InferInput, after: bytes, model: Model) -> NDArray[np.uint8]:
    """The input tensor, uint8 (N, C, H, W)."""
    if tensor.shape[1:] != list(model.spec.shape):
        raise BadParameter(
            f"The tensor {INPUT} must have the shape {['N', *model.spec.shape]}, N from 1."
        )
    if tensor.shape[0] > MOST_SUBJECTS:
        raise TooLarge(
            f"The tensor holds {tensor.shape[0]} pictures; at most {MOST_SUBJECTS} are allowed. "
            "Send fewer."
        )
    count = math.prod(tensor.shape)
    size = tensor.parameters.binary_data_size if tensor.parameters else None
    if size is not None:
        if not size == count == len(after):
            raise BadParameter(f"A tensor of the shape {tensor.shape} takes {count} bytes.")
        return np.frombuffer(bytearray(after), np.uint8).reshape(tensor.shape)
    numbers = _numbers(bytes(tensor.data), count)
    if numbers is None:
        raise BadParameter(f"“data” must be {count} whole numbers from 0 to 255.")
    return numbers.reshape(tensor.shape)


def _numbers(data: bytes, count: int) -> NDArray[np.uint8] | None:
    """The `count` numbers of valid JSON, a flat or nested list, or none if it holds others.

    Nothing is made of what is no number: as Python's objects it would take twenty times its bytes.
    """
    digits = data.translate(None, b"[] \t\n\r")
    if not data.startswith(b"[") or digits.translate(None, b"0123456789,"):
        return None
    if digits.count(b",") != count - 1 or b",," in b",%b," % digits:  # an empty list leaves two
        return None
    numbers = np.fromstring(digits, np.int64, sep=",")  # what exceeds 64 bits is the largest
    return numbers.astype(np.uint8) if len(numbers) == count and numbers.max() <= 255 else None


def _wants_bytes(asked: InferRequest) -> bool:
    if asked.outputs:
        parameters = asked.outputs[0].parameters
        return bool(parameters and parameters.binary_data)
    return bool(asked.parameters and asked.parameters.binary_data_output)

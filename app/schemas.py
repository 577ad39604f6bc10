"""JSON Schemas (2020-12) of requests and responses, generated from the types, with examples."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

import tasks
from app import inference_protocol as protocol
from app.answers import (
    Cards,
    FailedResult,
    Predictions,
    ProblemDetails,
    ProtocolProblem,
    Result,
    SubjectAnswer,
    Unavailable,
)
from app.health import Alive, Readiness
from app.hugging_face import Classification
from app.reporting import KeptReport, Report, Withdrawal, Withdrawn
from model_store import Card
from tasks.base import Box, Prediction

Schema = dict[str, Any]

REFERENCE = "#/components/schemas/{name}"
TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
BYTES = {"type": "string", "contentMediaType": "application/octet-stream"}


_SURE: dict[str, Any] = {
    "label": "7",
    "score": 0.9997,
    "predictions": [Prediction("7", 0.9997), Prediction("1", 0.0003)],
    "verdict": "sure",
}
_CARD = {
    "name": "digits",
    "version": "2026.11.21-3f9c2a1",
    "task": "digit",
    "labels": [str(digit) for digit in range(10)],
    "input": {"shape": [1, 28, 28], "dtype": "uint8", "range": [0, 255]},
    "preprocessing": {},
    "metrics": {"test_accuracy": 0.9966},
    "recipe": {},
    "data": {},
    "date": "2026-11-21",
    "libraries": {},
    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
}
EXAMPLES = [
    Predictions(
        model="digits",
        version="2026.11.21-3f9c2a1",
        results=[
            Result(
                filename="seven.png",
                width=84,
                height=84,
                **_SURE,
                subjects=[SubjectAnswer(box=Box(18, 8, 48, 69), **_SURE)],
            )
        ],
        elapsed_ms=4.2,
    ),
    Cards([msgspec.convert(_CARD, Card)], []),
    msgspec.convert(_CARD, Card),
    Prediction("7", 0.9997),
    KeptReport(1, "574aef9de2eaae14192b5beefa85c4c3", ["seen"]),
    Withdrawn(True),
    Alive("alive"),
    Readiness(True, ["digits"], {}),
    protocol.ServerMetadata(),
    protocol.Live(True),
    protocol.IndexEntry("digits", "READY", "2026.11.21-3f9c2a1"),
    protocol.ServerReady(True),
    protocol.ModelReady("digits", True),
    protocol.ModelMetadata(
        "digits",
        ["2026.11.21-3f9c2a1"],
        "pytorch_torchscript",
        [protocol.TensorMetadata(protocol.INPUT, "UINT8", [-1, 1, 28, 28])],
        [protocol.TensorMetadata(protocol.OUTPUT, "FP32", [-1, 10])],
        protocol.ModelParameters([str(digit) for digit in range(10)]),
    ),
    protocol.InferResponse(
        "digits",
        "2026.11.21-3f9c2a1",
        [protocol.InferOutput(shape=[1, 10], data=[0.0, 0.0001, *[0.0] * 5, 0.9999, 0.0, 0.0])],
    ),
]
OTHERS = (
    Classification,
    Report,
    Withdrawal,
    Result,
    FailedResult,
    Unavailable,
    protocol.InferRequest,
    ProblemDetails,
    ProtocolProblem,
)


def reference(name: str) -> Schema:
    """A reference to the schema `name`."""
    return {"$ref": REFERENCE.format(name=name)}


def record(required: str, **properties: Schema) -> Schema:
    """An object with `properties`; `required` names those that are always present."""
    return {"type": "object", "properties": properties, "required": required.split()}


def rows(items: Schema, **limits: Any) -> Schema:
    """An array."""
    return {"type": "array", "items": items, **limits}


def components() -> dict[str, Schema]:
    """Every schema by name, with examples for responses; callers must not change it."""
    return _components(tuple(tasks.names()))


@lru_cache(maxsize=1)
def _components(task_names: tuple[str, ...]) -> dict[str, Schema]:
    types = [*map(type, EXAMPLES), *OTHERS]
    _, found = msgspec.json.schema_components(types, ref_template=REFERENCE)
    for each in EXAMPLES:
        found[type(each).__name__]["examples"] = [msgspec.to_builtins(each)]
    found["Card"]["properties"]["task"]["enum"] = list(task_names)
    return dict(found)

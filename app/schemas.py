"""The JSON that travels, as JSON Schema (2020-12); what answers hold has an example."""

from __future__ import annotations

from typing import Any

from app.inference_protocol import INPUT, MOST, OUTPUT

Schema = dict[str, Any]

TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
SCORE = {"type": "number", "minimum": 0, "maximum": 1}
TRUTH = {"type": "boolean"}
BYTES = {"type": "string", "contentMediaType": "application/octet-stream"}
OPTIONS = {"type": ["object", "null"]}


def reference(name: str) -> Schema:
    """Where the schema `name` stands."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(required: str, **properties: Schema) -> Schema:
    """An object with `properties`; `required` names those that are never missing."""
    return {"type": "object", "properties": properties, "required": required.split()}


def rows(items: Schema, **limits: Any) -> Schema:
    """An array."""
    return {"type": "array", "items": items, **limits}


def _shown(schema: Schema, example: Any) -> Schema:
    return {**schema, "examples": [example]}


SEEN = {"type": "string", "description": "With seen=true: what the network saw, a PNG data URL"}
WHY = {
    "type": "string",
    "description": "With explain=true: what in it speaks for the label, a PNG data URL",
}
NAME = {"type": ["string", "null"], "description": "The file's name, where it was sent with one"}
RANKED = {**rows(reference("Prediction")), "description": "Best first"}
TENSOR_SHAPE = rows({"type": "integer"})

PROBLEM = {
    "type": {"type": "string", "description": "urn:glimpse:problem: and the kind of problem"},
    "title": {"type": "string", "description": "The kind in words"},
    "status": {"type": "integer", "description": "The HTTP status"},
    "detail": {"type": "string", "description": "A sentence that says what to do"},
}
PREDICTIONS = [{"label": "7", "score": 0.9997}, {"label": "1", "score": 0.0003}]
CARD = {
    "name": "digits",
    "version": "2026.11.21-3f9c2a1",
    "task": "digit",
    "labels": [str(digit) for digit in range(10)],
    "input": {"shape": [1, 28, 28], "dtype": "uint8", "range": [0, 255]},
    "metrics": {"test_accuracy": 0.9966},
    "date": "2026-11-21",
    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
}

SCHEMAS: dict[str, Schema] = {
    "Predictions": _shown(
        record(
            "model version results elapsed_ms",
            model={"type": "string", "description": "The model's name"},
            version={"type": "string", "description": "The model's version"},
            results={
                **rows({"anyOf": [reference("Result"), reference("FailedResult")]}),
                "description": "One for each picture, in the order in which they were sent",
            },
            elapsed_ms={"type": "number", "minimum": 0, "description": "Time of the work"},
        ),
        {
            "model": CARD["name"],
            "version": CARD["version"],
            "results": [
                {
                    "filename": "seven.png",
                    "width": 84,
                    "height": 84,
                    **PREDICTIONS[0],
                    "predictions": PREDICTIONS,
                    "subjects": [
                        {
                            "box": {"x": 18, "y": 8, "width": 48, "height": 69},
                            **PREDICTIONS[0],
                            "predictions": PREDICTIONS,
                        }
                    ],
                }
            ],
            "elapsed_ms": 4.2,
        },
    ),
    "Result": record(
        "filename width height label score predictions",
        filename=NAME,
        width={**COUNT, "description": "Pixels of the upright picture"},
        height={**COUNT, "description": "Pixels of the upright picture"},
        label={"type": "string", "description": "The best prediction’s"},
        score=SCORE,
        predictions=RANKED,
        seen=SEEN,
        explanation=WHY,
        subjects={
            **rows(reference("Subject")),
            "description": "Digit models only: the digit, or the digits of a number from left to "
            "right. The label of a number's result is the whole number, its predictions are the "
            "ten likeliest numbers, and its score is its share among them.",
        },
        faces={
            **rows(reference("Subject")),
            "description": "Face models only: every face, largest first; the result's own label "
            "is the first one's.",
        },
    ),
    "FailedResult": record("filename error", filename=NAME, error=reference("Problem")),
    "Subject": record(
        "box label score predictions",
        box=reference("Box"),
        label=TEXT,
        score=SCORE,
        predictions=RANKED,
        seen=SEEN,
        explanation=WHY,
    ),
    "Prediction": record("label score", label=TEXT, score=SCORE),
    "Box": {
        **record("x y width height", x=COUNT, y=COUNT, width=COUNT, height=COUNT),
        "description": "In pixels of the upright picture, from its top left corner",
    },
    "Problem": {**record("type title status detail", **PROBLEM), "description": "As in RFC 9457"},
    "Cards": _shown(
        record(
            "models unavailable",
            models=rows(reference("Card")),
            unavailable={
                **rows(record("name reason", name=TEXT, reason=TEXT)),
                "description": "The models of the store that cannot be used",
            },
        ),
        {"models": [CARD], "unavailable": []},
    ),
    "Card": _shown(
        {
            **record(
                "name version task labels input metrics date sha256",
                name=TEXT,
                version=TEXT,
                task={"type": "string", "enum": ["digit", "face"]},
                labels={**rows(TEXT), "description": "In the order of the network’s outputs"},
                input={"type": "object", "description": "What the network takes"},
                metrics={"type": "object", "description": "Measured on pictures held back"},
                date={"type": "string", "description": "Of its training"},
                sha256={"type": "string", "description": "Of the checkpoint"},
            ),
            "additionalProperties": True,
            "description": "What a model is; it also says how it was trained and with what",
        },
        CARD,
    ),
    "Alive": _shown(record("status", status=TEXT), {"status": "alive"}),
    "Readiness": _shown(
        record(
            "ready models unavailable",
            ready={"type": "boolean", "description": "Whether the default model serves"},
            models={**rows(TEXT), "description": "Those that serve"},
            unavailable={
                "type": "object",
                "additionalProperties": TEXT,
                "description": "The reason, by model, why another does not",
            },
        ),
        {"ready": True, "models": ["digits"], "unavailable": {}},
    ),
    "ProtocolServer": _shown(
        record("name version extensions", name=TEXT, version=TEXT, extensions=rows(TEXT)),
        {"name": "glimpse", "version": "2", "extensions": ["binary_tensor_data"]},
    ),
    "ProtocolLive": _shown(record("live", live=TRUTH), {"live": True}),
    "ProtocolReady": _shown(record("ready", ready=TRUTH), {"ready": True}),
    "ModelReady": _shown(
        record("name ready", name=TEXT, ready=TRUTH), {"name": "digits", "ready": True}
    ),
    "ModelMetadata": _shown(
        record(
            "name versions platform inputs outputs parameters",
            name=TEXT,
            versions=rows(TEXT),
            platform=TEXT,
            inputs=rows(reference("TensorMetadata")),
            outputs=rows(reference("TensorMetadata")),
            parameters=record(
                "labels",
                labels={**rows(TEXT), "description": "Of the output’s columns"},
            ),
        ),
        {
            "name": CARD["name"],
            "versions": [CARD["version"]],
            "platform": "pytorch_torchscript",
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, 1, 28, 28]}],
            "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, 10]}],
            "parameters": {"labels": CARD["labels"]},
        },
    ),
    "TensorMetadata": record(
        "name datatype shape",
        name=TEXT,
        datatype=TEXT,
        shape={**TENSOR_SHAPE, "description": "−1 is as many as you like"},
    ),
    "InferRequest": record(
        "inputs",
        inputs=rows(reference("InferInput"), minItems=1, maxItems=1),
        outputs={
            "type": ["array", "null"],
            "items": reference("InferWanted"),
            "minItems": 1,
            "maxItems": 1,
        },
        id={"type": ["string", "null"], "description": "Given back with the answer"},
        parameters={
            **OPTIONS,
            "properties": {"binary_data_output": TRUTH},
            "description": "Whether the output is to come as bytes, where “outputs” is left out",
        },
    ),
    "InferInput": record(
        "name datatype shape",
        name={"const": INPUT},
        datatype={"const": "UINT8"},
        shape={
            **rows({"type": "integer", "minimum": 1}, minItems=4, maxItems=4),
            "description": f"N, C, H, W: up to {MOST} pictures, each as the model's metadata says",
        },
        data={
            **rows({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 255}, rows({})]}),
            "description": "Flat or nested; left out where the bytes follow the JSON",
        },
        parameters={
            **OPTIONS,
            "properties": {"binary_data_size": COUNT},
            "description": "The number of bytes that follow the JSON",
        },
    ),
    "InferWanted": record(
        "name",
        name={"const": OUTPUT},
        parameters={
            **OPTIONS,
            "properties": {"binary_data": TRUTH},
            "description": "Whether it is to come as bytes",
        },
    ),
    "InferResponse": _shown(
        record(
            "model_name model_version outputs",
            model_name=TEXT,
            model_version=TEXT,
            id=TEXT,
            outputs=rows(reference("InferOutput")),
        ),
        {
            "model_name": CARD["name"],
            "model_version": CARD["version"],
            "outputs": [
                {
                    "name": OUTPUT,
                    "datatype": "FP32",
                    "shape": [1, 10],
                    "data": [0.0, 0.0001, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9999, 0.0, 0.0],
                }
            ],
        },
    ),
    "InferOutput": record(
        "name datatype shape",
        name={"const": OUTPUT},
        datatype={"const": "FP32"},
        shape={**TENSOR_SHAPE, "description": "Pictures and labels"},
        data={**rows(SCORE), "description": "Row by row; missing where the bytes follow the JSON"},
        parameters=record("binary_data_size", binary_data_size=COUNT),
    ),
    "ProtocolProblem": {
        **record("type title status detail error", **PROBLEM, error=TEXT),
        "description": "A Problem whose detail also stands under the protocol's own name for it",
    },
}

"""Small samples that tests are made of: a module, a card, pictures."""

from __future__ import annotations

import io
import json

import jsonschema
import torch
from PIL import Image, ImageDraw

from model_store import Card, unsaid_deprecation


class ByInk(torch.nn.Module):
    """Answers by the amount of ink alone: enough for tests to tell pictures apart."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        ink = pictures.float().mean((1, 2, 3)).unsqueeze(1) / 25.5
        return torch.softmax(-((torch.arange(10).unsqueeze(0) - ink) ** 2), dim=1)


class ByLight(torch.nn.Module):
    """Answers by how light a face's crop is: "dark" or "light"."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        light = pictures.float().mean((1, 2, 3)).unsqueeze(1) / 255
        return torch.cat([1 - light, light], 1)


def card(name="digits", **changes):
    values = {
        "name": name,
        "version": "2026.01.01-abcdef0",
        "task": "digit",
        "labels": [str(digit) for digit in range(10)],
        "input": {"shape": [1, 28, 28], "dtype": "uint8", "range": [0, 255]},
        "preprocessing": {},
        "metrics": {"test_accuracy": 0.5},
        "recipe": {},
        "data": {},
        "date": "2026-01-01",
        "libraries": {},
    }
    return Card.from_json(json.dumps({**values, **changes}))


def face_card(**changes):
    values = {
        "name": "emotions",
        "task": "face",
        "labels": ["dark", "light"],
        "input": {"shape": [1, 48, 48], "dtype": "uint8", "range": [0, 255]},
        "metrics": {"test_accuracy": 0.5, "test_recall": [0.4, 0.6]},
    }
    return card(**{**values, **changes})


def script(module):
    with unsaid_deprecation():
        return torch.jit.script(module.eval())


def encode(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def seven(mode="L", size=(280, 280), ink=0, ground=255):
    """A picture of a seven."""
    picture = Image.new(mode, size, ground)
    width, height = size
    points = [(0.2, 0.2), (0.75, 0.2), (0.4, 0.85)]
    line = [(x * width, y * height) for x, y in points]
    ImageDraw.Draw(picture).line(line, fill=ink, width=max(1, min(size) // 14))
    return picture


def validate(app, answer, schema):
    """Checks an answer against a schema, or the name of one, of the published document."""
    document = app.test_client().get("/openapi.json").get_json()
    if isinstance(schema, str):
        schema = {"$ref": f"#/components/schemas/{schema}"}
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(
        answer
    )

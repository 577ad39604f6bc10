"""The card of a checkpoint: what it is, what it was made from and how well it does."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

TASKS = ("digit", "face")


class CardError(ValueError):
    """A card that lacks a field or holds one of the wrong kind; the message names it."""


@dataclass(frozen=True)
class Card:
    """What a checkpoint says of itself.

    `input` holds ``shape`` ([channels, height, width]), ``dtype`` ("uint8") and ``range``
    ([0, 255]); the module takes a batch of such pictures and gives probabilities of shape
    (N, len(labels)). `metrics` are fractions in 0..1 unless their name says otherwise.
    `sha256` and `size` (in bytes) describe the checkpoint file, `onnx_sha256` and `onnx_size` its
    ONNX twin; they stand only in the card beside them, since a file cannot hold its own hash.
    """

    name: str
    version: str
    task: str
    labels: list[str]
    input: dict[str, Any]
    preprocessing: dict[str, Any]
    metrics: dict[str, Any]
    recipe: dict[str, Any]
    data: dict[str, Any]
    date: str
    libraries: dict[str, str]
    description: str = ""
    limits: list[str] = field(default_factory=list)
    parameters: int = 0
    sha256: str = ""
    size: int = 0
    onnx_sha256: str = ""
    onnx_size: int = 0

    def __post_init__(self) -> None:
        kinds = {"str": str, "int": int}
        for item in fields(self):
            kind = kinds.get(str(item.type), list if str(item.type).startswith("list") else dict)
            if not isinstance(getattr(self, item.name), kind):
                raise CardError(f"the card's “{item.name}” must be a {kind.__name__}")
        if self.task not in TASKS:
            raise CardError(f"the card's “task” is {self.task!r}; it must be one of {TASKS}")
        if not self.labels or not all(isinstance(label, str) for label in self.labels):
            raise CardError("the card's “labels” must be a list of one or more names")
        shape = self.input.get("shape")
        if not (isinstance(shape, list) and len(shape) == 3 and all(type(n) is int for n in shape)):
            raise CardError("the card's “input” must have a “shape” of [channels, height, width]")

    def bare(self) -> Card:
        """The card as a file can hold it: without hashes and sizes."""
        return replace(self, sha256="", size=0, onnx_sha256="", onnx_size=0)

    def to_json(self) -> str:
        """The card as indented JSON, ending in a newline."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Card:
        """Reads a card, passing over unknown fields; raises `CardError` where the text is none."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise CardError(f"the card is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise CardError("the card must be a JSON object")
        names = {item.name for item in fields(cls)}
        try:
            return cls(**{name: value for name, value in values.items() if name in names})
        except TypeError as error:
            raise CardError(f"the card lacks a field: {error}") from error

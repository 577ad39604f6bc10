"""The card of a checkpoint: what it is, how it was trained and how accurate it is."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from model_store.validation import PlainName, complaint

# Keys in older cards, and their present names.
RENAMED_IN_RECIPES = {"finish": "fine_tune", "standardise": "normalise"}
RENAMED_IN_DATA = {"twins_left_out": "duplicates_left_out"}

Size = Annotated[int, Meta(ge=1)]


class CardError(ValueError):
    """A card with a missing or invalid field; the message names it."""


class Input(msgspec.Struct, frozen=True):
    """The pictures that a module takes: `shape` is (channels, height, width), without the batch."""

    shape: tuple[Size, Size, Size]
    dtype: Literal["uint8"] = "uint8"
    range: tuple[int, int] = (0, 255)


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a checkpoint.

    The module takes a batch of pictures as `input` says and gives probabilities of shape (N,
    len(labels)); of a network that `rejects`, a column more: how likely a picture shows none of the
    labels. `task` names one of `tasks`. `metrics` are fractions in 0..1 unless their name says
    otherwise. `thresholds` are scores in 0..1: below ``unsure`` the best prediction is reported as
    unsure, and above ``none`` a picture as none of the labels. `sha256` and `size` (in bytes)
    describe the checkpoint file, `onnx_sha256` and `onnx_size` its ONNX form; they are only in the
    card beside them, since a file cannot contain its own hash.
    """

    name: str
    version: str
    task: PlainName
    labels: Annotated[list[str], Meta(min_length=1)]
    input: Input
    preprocessing: dict[str, Any]
    metrics: dict[str, Any]
    recipe: dict[str, Any]
    data: dict[str, Any]
    date: str
    libraries: dict[str, str]
    description: str = ""
    limits: list[str] = []
    thresholds: dict[str, Annotated[float, Meta(ge=0, le=1)]] = {}
    parameters: int = 0
    sha256: str = ""
    size: int = 0
    onnx_sha256: str = ""
    onnx_size: int = 0

    @property
    def rejects(self) -> bool:
        """Whether the network also tells how likely a picture shows none of the labels."""
        return "none" in self.thresholds

    @property
    def onnx_only(self) -> bool:
        """Whether the checkpoint is an ONNX file alone, as some imported ones are."""
        return bool(self.onnx_sha256) and not self.sha256

    def bare(self) -> Card:
        """The card as a file can hold it: without hashes and sizes."""
        return msgspec.structs.replace(self, sha256="", size=0, onnx_sha256="", onnx_size=0)

    def to_json(self) -> str:
        """The card as indented JSON, ending in a newline; raises `CardError` for a number that is
        not finite.
        """
        values = msgspec.to_builtins(self)
        if not self.thresholds:
            del values["thresholds"]
        try:
            text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise CardError(
                f"the card of {self.name} holds a number that is not finite: {error}"
            ) from error
        return text + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Card:
        """Reads a card; raises `CardError` if the text is not a card.

        Unknown fields are ignored; keys of older cards get their present names.
        """
        try:
            card = msgspec.json.decode(text, type=cls)
        except msgspec.ValidationError as error:
            raise CardError(f"the card is not valid: {complaint(error, cls)}") from error
        except msgspec.DecodeError as error:
            content = text if isinstance(text, str) else text.decode(errors="replace")
            if re.search(r"[:,\[]\s*-?(NaN|Infinity)\b", content):
                raise CardError("the card holds NaN or Infinity, which are not numbers") from error
            raise CardError(f"the card is not JSON: {error}") from error
        return msgspec.structs.replace(
            card,
            recipe={RENAMED_IN_RECIPES.get(key, key): each for key, each in card.recipe.items()},
            data={RENAMED_IN_DATA.get(key, key): each for key, each in card.data.items()},
        )

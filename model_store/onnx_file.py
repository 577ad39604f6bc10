"""Loading of a checkpoint's ONNX form, for machines without torch; `training` writes it.

`model.onnx` gives probabilities. Its metadata holds a second graph, which gives the heat of an
explanation from the same weights. The weights stand first in the file: serialised protocol buffers
that follow one another are read as one message, so the weights and either graph are a whole model.
A session for answers thus costs what it does without the heat.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING

from model_store.card import Card, CardError
from model_store.store import CARD, StoreError, read_card, title, vouched

if TYPE_CHECKING:
    import onnxruntime

ONNX_FILE = "model.onnx"
PICTURES, LABELS, PROBABILITIES, HEAT = "pictures", "labels", "probabilities", "heat"
WEIGHTS_SIZE = "weights_size"  # of the weights at the start of the file, bytes


def load_onnx(folder: Path) -> tuple[onnxruntime.InferenceSession, Card]:
    """Loads the ONNX file in `folder`, for one thread of the CPU, and its card.

    Its SHA-256 is compared with the card's first. Raises `StoreError`.
    """
    card = read_card(folder)
    session = session_of(vouched_onnx(folder, card), folder)
    try:
        embedded = Card.from_json(session.get_modelmeta().custom_metadata_map[CARD])
    except (CardError, KeyError) as error:
        raise StoreError(
            f"{title(folder)}: {ONNX_FILE} is not a valid checkpoint ({error}); {_again(folder)}"
        ) from error
    if embedded != card.bare():
        raise StoreError(
            f"{title(folder)}: the card in {ONNX_FILE} differs from {CARD}; "
            f"restore both from one place, or {_again(folder)}"
        )
    return session, card


def load_onnx_heat(
    folder: Path, session: onnxruntime.InferenceSession, card: Card
) -> onnxruntime.InferenceSession | None:
    """The session that gives ``heat``, float32 (N, h, w), for ``labels``, int64 (N,).

    `session` and `card` are what `load_onnx` gave. None where the file holds no heat. Raises
    `StoreError`, also where the file has been replaced since.
    """
    metadata = session.get_modelmeta().custom_metadata_map
    if HEAT not in metadata:
        return None
    weights = vouched_onnx(folder, card)[: int(metadata[WEIGHTS_SIZE])]
    return session_of(weights + base64.b64decode(metadata[HEAT]), folder)


def _again(folder: Path) -> str:
    return f"write it again: python -m training export {title(folder)}"


def vouched_onnx(folder: Path, card: Card) -> bytes:
    """The bytes of the ONNX file, if they match `card`; raises `StoreError`."""
    if not card.onnx_sha256:
        raise StoreError(f"{title(folder)}: it has no {ONNX_FILE}; {_again(folder)}")
    return vouched(folder / ONNX_FILE, card.onnx_sha256, _again(folder))


def session_of(content: bytes, folder: Path) -> onnxruntime.InferenceSession:
    """The session of a model's bytes, for one thread of the CPU; raises `StoreError`."""
    # Its telemetry would write to the home folder, and its thread does not survive a fork.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    # One thread needs no pool, which would not survive a fork.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base class
        raise StoreError(
            f"{title(folder)}: {ONNX_FILE} is not a valid checkpoint ({error}); {_again(folder)}"
        ) from error

"""The ONNX twin of a checkpoint, for machines without torch: the one place that knows ONNX."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from model_store.card import Card, CardError
from model_store.store import (
    CARD,
    StoreError,
    read_card,
    replace_file,
    unsaid_deprecation,
    vouched,
)

if TYPE_CHECKING:
    import onnxruntime
    import torch

TWIN = "model.onnx"
INPUT, OUTPUT = "pictures", "probabilities"
OPSET = 17


def save_twin(module: torch.jit.ScriptModule, card: Card, folder: Path) -> Card:
    """Writes `module` as ONNX with its card embedded, and the card beside it, into `folder`.

    Input ``pictures``, uint8 (N, C, H, W); output ``probabilities``, float32 (N, K). Returns the
    card with `onnx_sha256` and `onnx_size`.
    """
    import onnx  # noqa: PLC0415
    import torch  # noqa: PLC0415

    buffer = io.BytesIO()
    example = torch.zeros(2, *card.input["shape"], dtype=torch.uint8)
    with unsaid_deprecation(), warnings.catch_warnings():
        # The exporter that takes TorchScript is the old one, and says so at length.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            buffer,  # type: ignore[arg-type]  # taken, and not said
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}},
        )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(model, {CARD: card.bare().to_json()})
    content = model.SerializeToString()
    card = replace(card, onnx_sha256=hashlib.sha256(content).hexdigest(), onnx_size=len(content))
    replace_file(folder / TWIN, content)
    replace_file(folder / CARD, card.to_json().encode())
    return card


def load_twin(folder: Path) -> tuple[onnxruntime.InferenceSession, Card]:
    """Loads the twin in `folder`, for one thread of the CPU, and its card.

    Its SHA-256 is compared with the card's first. Raises `StoreError`.
    """
    # Its telemetry would write to the home folder, and its thread does not live on after a fork.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # noqa: PLC0415

    card = read_card(folder)
    again = f"write it again: python -m training twin {folder.name}"
    if not card.onnx_sha256:
        raise StoreError(f"{folder.name}: it has no {TWIN}; {again}")
    content = vouched(folder / TWIN, card.onnx_sha256, again)
    options = onnxruntime.SessionOptions()
    # One thread needs no pool, which would not live on after a fork.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        embedded = Card.from_json(session.get_modelmeta().custom_metadata_map[CARD])
    except (CardError, KeyError, RuntimeError, ValueError) as error:
        raise StoreError(f"{folder.name}: {TWIN} is no twin of ours: {error}") from error
    if embedded != card.bare():
        raise StoreError(
            f"{folder.name}: the card in {TWIN} differs from {CARD}; "
            f"restore both from one place, or {again}"
        )
    return session, card

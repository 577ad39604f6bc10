"""What runs a network: torch its TorchScript file, or onnxruntime its ONNX twin."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import model_store
from app.explain import covering, layer_cam
from model_store import Card

BATCH = 16  # pictures that go through a network at once: more takes memory, but no less time

# Probabilities, float32 (N, K), of pictures, uint8 (N, C, H, W).
Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
# Heat, float32 (H, W) in 0..1, of what in a picture, uint8 (C, H, W), speaks for a label.
Explainer = Callable[[NDArray[np.uint8], int], NDArray[np.float32]]
Load = Callable[[Path], tuple[Network, Explainer, Card]]


@dataclass(frozen=True)
class Engine:
    """How a checkpoint's folder becomes a network; `platform` is Triton's word for it.

    `load` raises `StoreError`.
    """

    platform: str
    load: Load


class NoEngineError(RuntimeError):
    """Nothing that runs networks is installed; the message says what to install."""


def engine(name: str) -> Engine:
    """The engine `name`: torch, onnx, or auto, which is torch where it is installed.

    Raises `NoEngineError` where it is not installed.
    """
    packages = {"torch": "torch", "onnx": "onnxruntime"}
    wanted = [name] if name in packages else list(packages)
    for each in wanted:
        if find_spec(packages[each]) is not None:
            return ENGINES[each]
    raise NoEngineError(
        f"{' or '.join(packages[each] for each in wanted)} must be installed to run the models: "
        "pip install -r requirements-serve.txt for torch, requirements-light.txt for onnxruntime"
    )


def _torch(folder: Path) -> tuple[Network, Explainer, Card]:
    import torch  # noqa: PLC0415

    # A pool of threads does not live on after a fork, as under a pre-forking server: the first
    # forward there would wait for ever. One thread needs no pool.
    torch.set_num_threads(1)
    _once_in_each_child()
    module, card = model_store.load(folder)
    with model_store.unsaid_deprecation():
        fast = torch.jit.optimize_for_inference(torch.jit.freeze(module))

    def network(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            parts = [fast(part) for part in torch.from_numpy(batch).split(BATCH)]
            probabilities: NDArray[np.float32] = torch.cat(parts).numpy()
        return probabilities

    def explainer(pixels: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
        try:
            return layer_cam(module, pixels, label)
        except (AttributeError, RuntimeError):  # a module that was not made by training/
            return covering(network, pixels, label)

    return network, explainer, card


@lru_cache(maxsize=1)
def _once_in_each_child() -> None:
    """Has each forked worker set its number of threads before its own threads need it.

    Where two of them make their first forward at once, torch builds its pool twice and fails.
    """
    import torch  # noqa: PLC0415

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def _onnx(folder: Path) -> tuple[Network, Explainer, Card]:
    session, card = model_store.load_twin(folder)

    def network(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = [
            session.run(None, {model_store.TWIN_INPUT: batch[start : start + BATCH]})[0]
            for start in range(0, len(batch), BATCH)
        ]
        return np.concatenate(parts)

    return network, partial(covering, network), card


ENGINES = {
    "torch": Engine("pytorch_torchscript", _torch),
    "onnx": Engine("onnxruntime_onnx", _onnx),
}

"""Engines, which run networks: torch (TorchScript files) or onnxruntime (ONNX files)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import model_store
from app.explain import explainer
from model_store import Card

BATCH = 16  # pictures in a forward pass: more would take more memory, but not less time

# Probabilities, float32 (N, K), of pictures, uint8 (N, C, H, W); of a network that rejects, with a
# column more.
Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
# A checkpoint's own heat, float32 (N, h, w), of pictures, uint8 (N, C, H, W), for labels,
# int64 (N,): how much each part supports its picture's label, 0 or more.
Heat = Callable[[NDArray[np.uint8], NDArray[np.int64]], NDArray[np.float32]]
# The heat map, float32 (H, W) in 0..1, of a picture, uint8 (C, H, W), for a label.
Explainer = Callable[[NDArray[np.uint8], int], NDArray[np.float32]]

TORCH, ONNX = "pytorch_torchscript", "onnxruntime_onnx"  # Triton's names


class Loaded(NamedTuple):
    """A checkpoint that is ready, and the `platform` that runs it: `TORCH` or `ONNX`."""

    network: Network
    explainer: Explainer
    card: Card
    platform: str


@dataclass(frozen=True)
class Engine:
    """How a checkpoint's folder becomes a network; `load` raises `StoreError`."""

    name: str
    load: Callable[[Path], Loaded]


class NoEngineError(RuntimeError):
    """No engine is installed; the message says what to install."""


def engine(name: str) -> Engine:
    """The engine `name`: torch, onnx, or auto, which is onnx if it is installed.

    With auto, torch runs the models that have no ONNX file. Raises `NoEngineError` if the engine
    is not installed.
    """
    wanted = [name] if name in PACKAGES else list(PACKAGES)
    installed = [each for each in wanted if find_spec(PACKAGES[each]) is not None]
    if not installed:
        raise NoEngineError(
            f"{' or '.join(PACKAGES[each] for each in wanted)} must be installed to run the "
            "models: pip install -r requirements-light.txt for onnxruntime, "
            "requirements-serve.txt for torch"
        )
    return ENGINES["auto" if len(installed) > 1 else installed[0]]


def _auto(folder: Path) -> Loaded:
    has_onnx = (folder / model_store.ONNX_FILE).is_file()
    return (
        _onnx(folder) if has_onnx and model_store.read_card(folder).onnx_sha256 else _torch(folder)
    )


def _torch(folder: Path) -> Loaded:
    if model_store.read_card(folder).onnx_only:
        return _onnx(folder)
    import torch  # noqa: PLC0415

    # A thread pool does not survive a fork, as in a pre-forking server: the first forward pass
    # would then wait for ever. One thread needs no pool.
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

    def heat(batch: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = module.heat(
                torch.from_numpy(batch), torch.from_numpy(labels)
            ).numpy()
        return found

    has_heat = hasattr(module, model_store.HEAT)
    return Loaded(network, explainer(network, lambda: heat if has_heat else None), card, TORCH)


@lru_cache(maxsize=1)
def _once_in_each_child() -> None:
    """Sets the number of threads in each forked worker before its own threads start.

    If two threads make their first forward pass at once, torch builds its pool twice and fails.
    """
    import torch  # noqa: PLC0415

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def _onnx(folder: Path) -> Loaded:
    session, card = model_store.load_onnx(folder)

    def network(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = [
            session.run(None, {model_store.PICTURES: batch[start : start + BATCH]})[0]
            for start in range(0, len(batch), BATCH)
        ]
        return np.concatenate(parts)

    # Concurrent threads may each load it, and one stays. A lock could be held during a fork.
    @lru_cache(maxsize=1)
    def load_heat() -> Heat | None:
        heat_session = model_store.load_onnx_heat(folder, session, card)
        if heat_session is None:
            return None

        def heat(batch: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.float32]:
            inputs = {model_store.PICTURES: batch, model_store.LABELS: labels}
            found: NDArray[np.float32] = heat_session.run(None, inputs)[0]
            return found

        return heat

    return Loaded(network, explainer(network, load_heat), card, ONNX)


PACKAGES = {"onnx": "onnxruntime", "torch": "torch"}  # what the engines need, the best first
LOADERS = {"onnx": _onnx, "torch": _torch, "auto": _auto}
ENGINES = {name: Engine(name, load) for name, load in LOADERS.items()}

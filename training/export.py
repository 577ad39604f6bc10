"""From a trained network to a checkpoint: TorchScript and its ONNX twin, checked, with its card."""

from __future__ import annotations

import datetime
import hashlib
import platform
from pathlib import Path
from typing import Any

import numpy
import torch
import torchvision
from torch import Tensor

from model_store import TWIN_INPUT, Card, ink, load_twin, save, save_twin, unsaid_deprecation
from training.architectures import Classifier
from training.datasets import Data
from training.loop import Result
from training.recipe import Recipe

TWIN_TOLERANCE = 1e-4  # of a probability

PREPROCESSING: dict[str, dict[str, Any]] = {
    "digit": ink.PREPROCESSING,
    "face": {"subject": "the largest faces found, upright, as squares", "colour": "as input"},
}


def export(
    result: Result, recipe: Recipe, data: Data, metrics: dict[str, Any], folder: Path
) -> Card:
    """Writes the best epoch's network and its card into `folder`; returns the card.

    Raises `AssertionError` where TorchScript or ONNX does not give the network's own answers.
    """
    classifier = result.classifier.eval().to(memory_format=torch.contiguous_format)
    pictures = data.validation.pictures[:64]
    with unsaid_deprecation():
        module = torch.jit.script(classifier)
    with torch.inference_mode():
        torch.testing.assert_close(module(pictures), classifier(pictures), rtol=0, atol=1e-5)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    card = Card(
        name=recipe.name,
        version=f"{today:%Y.%m.%d}-{fingerprint(classifier)[:7]}",
        task=recipe.task,
        labels=data.labels,
        input={"shape": list(pictures.shape[1:]), "dtype": "uint8", "range": [0, 255]},
        preprocessing=PREPROCESSING[recipe.task],
        metrics={
            **metrics,
            "temperature": classifier.temperature,
            "best_epoch": result.best_epoch,
            "epochs": len(result.history),
        },
        recipe=recipe.to_dict(),
        data=data.description,
        date=today.isoformat(),
        libraries={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": numpy.__version__,
        },
        description=recipe.description,
        limits=recipe.limits,
        parameters=sum(parameter.numel() for parameter in classifier.parameters()),
    )
    return export_twin(module, save(module, card, folder), pictures, folder)


def export_twin(module: torch.jit.ScriptModule, card: Card, pictures: Tensor, folder: Path) -> Card:
    """Writes the ONNX twin of the checkpoint in `folder`; returns the card that names it.

    Raises `AssertionError` where the twin does not give the module's answers to `pictures`.
    """
    card = save_twin(module, card, folder)
    session, _ = load_twin(folder)
    (answers,) = session.run(None, {TWIN_INPUT: pictures.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.from_numpy(answers), module(pictures), rtol=0, atol=TWIN_TOLERANCE
        )
    return card


def fingerprint(classifier: Classifier) -> str:
    """The SHA-256 of all weights: the same for the same network, whenever it is saved."""
    digest = hashlib.sha256()
    for name, values in classifier.state_dict().items():
        digest.update(name.encode())
        digest.update(values.contiguous().numpy().tobytes())
    return digest.hexdigest()

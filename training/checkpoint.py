"""From a trained network to a checkpoint: TorchScript and ONNX, checked, with its card."""

from __future__ import annotations

import datetime
import hashlib
import inspect
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn

import model_store
import tasks
from model_store import (
    CARD,
    CHECKPOINT,
    ONNX_FILE,
    PICTURES,
    PROBABILITIES,
    PROBE,
    Card,
    Input,
    load,
    load_onnx,
    read_card,
    replace_file,
    save,
    unsaid_deprecation,
)
from training.architectures import ARCHITECTURES, Classifier, build
from training.datasets import Data
from training.errors import TrainingError
from training.explain import explained, folded
from training.loop import Result
from training.onnx_export import save_onnx
from training.recipe import Recipe

KEPT = ("mean", "std")  # what a classifier is made with, not trained weights
ONNX_TOLERANCE = 1e-4  # of a probability
SAME = 1e-6  # of a probability: what another order of sums may change


def export(
    result: Result,
    recipe: Recipe,
    data: Data,
    metrics: dict[str, Any],
    folder: Path,
    *,
    name: str | None = None,
) -> Card:
    """Writes the best epoch's network and its card into `folder`; returns the card.

    `name` is the model's, by default the recipe's.

    Raises `AssertionError` if TorchScript or ONNX gives other answers than the network.
    """
    classifier = result.classifier.eval().cpu().to(memory_format=torch.contiguous_format)
    pictures = data.validation.batch(torch.arange(min(64, len(data.validation))))
    _, channels, height, width = pictures.shape
    today = today_utc()
    card = Card(
        name=name or recipe.name,
        version=version(today, fingerprint(classifier)),
        task=recipe.task,
        labels=data.labels,
        input=Input((channels, height, width)),
        preprocessing={**tasks.get(recipe.task).preprocessing, **data.preprocessing},
        metrics={
            **metrics,
            "temperature": classifier.temperature,
            "best_epoch": result.best_epoch,
            "epochs": len(result.history),
        },
        recipe=recipe.to_dict(),
        data=data.description,
        date=today.isoformat(),
        libraries={**libraries(), "device": result.device},
        description=recipe.description,
        limits=recipe.limits,
        thresholds=result.thresholds,
        parameters=sum(parameter.numel() for parameter in classifier.parameters()),
    )
    module, for_onnx = _forms(classifier, pictures.shape[1:])
    with torch.inference_mode():
        torch.testing.assert_close(module(pictures), classifier(pictures), rtol=0, atol=1e-5)
    return write(module, for_onnx, card, pictures, folder)


def export_again(folder: Path) -> Card:
    """Writes the files of the checkpoint in `folder` again, from its own weights; returns the card.

    An older checkpoint thus gains what newer ones hold; one that was not made by this package gets
    its ONNX file. The card stays, but for hashes and sizes. Raises `StoreError`, and
    `TrainingError` where the network cannot be built or would give other answers; nothing is
    written then.
    """
    held, card = load(folder)
    shape = torch.Size(card.input.shape)
    pictures = torch.randint(0, 256, (64, *shape), generator=torch.Generator().manual_seed(0))
    pictures = pictures.to(torch.uint8)
    module, for_onnx = forms(held, card)
    with tempfile.TemporaryDirectory() as place:
        try:
            with torch.inference_mode():
                torch.testing.assert_close(module(pictures), held(pictures), rtol=0, atol=SAME)
            card = write(module, for_onnx, card, pictures, Path(place))
        except AssertionError as error:
            raise TrainingError(
                f"nothing was written: {card.name} would give other answers; train it again "
                f"({error})"
            ) from error
        has_probe = (folder / PROBE).exists()  # of pictures that say more than noise
        for name in (CHECKPOINT, ONNX_FILE, CARD, *(() if has_probe else (PROBE,))):
            replace_file(folder / name, (Path(place) / name).read_bytes())
    return card


def forms(
    held: torch.jit.ScriptModule, card: Card
) -> tuple[torch.jit.ScriptModule, torch.jit.ScriptModule]:
    """A loaded checkpoint with its heat, as TorchScript, and as ONNX; as it is, where it was not
    made by this package. Raises `TrainingError` where the network cannot be built.
    """
    if "network" not in card.recipe:
        return held, held
    return _forms(_built_again(held, card), torch.Size(card.input.shape))


def _forms(
    classifier: Classifier, shape: torch.Size
) -> tuple[torch.jit.ScriptModule, torch.jit.ScriptModule]:
    """The classifier with its heat, as TorchScript, and as ONNX."""
    with unsaid_deprecation():
        return (
            torch.jit.script(explained(classifier, shape).eval()),
            torch.jit.script(explained(folded(classifier), shape).eval()),
        )


def write(
    module: torch.jit.ScriptModule,
    for_onnx: torch.jit.ScriptModule,
    card: Card,
    pictures: Tensor,
    folder: Path,
) -> Card:
    """Writes a checkpoint, its ONNX file, its card and its probe into `folder`; returns the card.

    Raises `AssertionError` if the two give different answers to `pictures`.
    """
    card = save_onnx(for_onnx, save(module, card, folder), folder)
    check_onnx(module, pictures, folder)
    write_probe(module, pictures, folder)
    return card


def write_probe(network: nn.Module, pictures: Tensor, folder: Path) -> None:
    """Writes what `network` answers to some of `pictures`, uint8 (N, C, H, W), into `folder`."""

    def answers(batch: NDArray[numpy.uint8]) -> NDArray[numpy.float32]:
        with torch.inference_mode():
            found: NDArray[numpy.float32] = network(torch.from_numpy(batch)).numpy()
        return found

    model_store.write_probe(folder, pictures.numpy(), answers)


def check_onnx(module: nn.Module, pictures: Tensor, folder: Path) -> None:
    """Raises `AssertionError` if the ONNX file in `folder` answers `pictures` otherwise."""
    session, _ = load_onnx(folder)
    (answers,) = session.run([PROBABILITIES], {PICTURES: pictures.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.from_numpy(answers), module(pictures), rtol=0, atol=ONNX_TOLERANCE
        )


def _built_again(module: torch.jit.ScriptModule, card: Card) -> Classifier:
    """The classifier that a checkpoint was written from; raises `TrainingError`."""
    held = getattr(module, "classifier", module)
    try:
        name, options = card.recipe["network"]["name"], dict(card.recipe["network"]["options"])
        if "pretrained" in inspect.signature(ARCHITECTURES[name]).parameters:
            options["pretrained"] = False  # its weights are replaced below
        classifier = Classifier(
            build(name, len(card.labels) + card.rejects, card.input.shape[0], options),
            held.mean,
            held.std,
            # Missing in the first checkpoints.
            by_picture=getattr(held, "by_picture", False),
            mirror=getattr(held, "mirror", False),
            zoom=getattr(held, "zoom", 0),
            bias=getattr(held, "bias", None),
        )
        classifier.temperature = held.temperature
        # Older checkpoints lack the bias; TorchScript keeps every buffer.
        weights = {"bias": classifier.bias, **held.state_dict()}
        classifier.load_state_dict({key: weights[key] for key in weights if key not in KEPT})
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise TrainingError(
            f"the network of {card.name} is not the one that its card's recipe names: train it "
            f"again ({error!r})"
        ) from error
    return classifier.eval()


class OnnxNetwork(nn.Module):
    """A checkpoint's ONNX file as a module: uint8 pictures (N, C, H, W) in, probabilities out."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        super().__init__()
        self.session = session

    def forward(self, pictures: Tensor) -> Tensor:
        """Probabilities (N, K)."""
        (found,) = self.session.run([PROBABILITIES], {PICTURES: pictures.numpy()})
        return torch.from_numpy(found)


def load_either(folder: Path) -> tuple[nn.Module, Card]:
    """The network of the checkpoint in `folder`: model.pt, or model.onnx where that is all there
    is. Raises `StoreError`.
    """
    if not read_card(folder).onnx_only:
        return load(folder)
    session, card = load_onnx(folder)
    return OnnxNetwork(session), card


def today_utc() -> datetime.date:
    """Today."""
    return datetime.datetime.now(datetime.timezone.utc).date()


def version(date: datetime.date, digest: str) -> str:
    """The version of a network that was made on `date` and whose weights have that `digest`."""
    return f"{date:%Y.%m.%d}-{digest[:7]}"


def libraries() -> dict[str, str]:
    """The versions of what made a network."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
    }


def fingerprint(module: nn.Module) -> str:
    """The SHA-256 of all weights: the same for the same network, whenever it is saved."""
    digest = hashlib.sha256()
    for name, values in module.state_dict().items():
        digest.update(name.encode())
        digest.update(values.contiguous().numpy().tobytes())
    return digest.hexdigest()

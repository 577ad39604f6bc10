"""Classifiers that were made elsewhere: TorchScript, torch.export or ONNX files as checkpoints."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from msgspec.structs import replace
from onnx import TensorProto, compose, helper, numpy_helper
from torch import Tensor, nn

import model_store
import tasks
from model_store import Card, Input
from tasks import InputSpec
from training import checkpoint
from training.api import IMPORTED, Say, plain_name
from training.architectures import as_channels
from training.errors import TrainingError
from training.onnx_export import save_onnx, write_onnx

KINDS = {".pt": "TorchScript", ".pth": "TorchScript", ".ts": "TorchScript"}
KINDS |= {".torchscript": "TorchScript", ".pt2": "torch.export", ".onnx": "ONNX"}
TRUST = "A {kind} file can run code of its own when it is loaded: import only files that you trust."


@dataclass(frozen=True)
class Takes:
    """What a network takes and gives.

    Pictures are divided by 255, less `mean`, and divided by `std`, a number for each channel or
    one for all. It gives `logits`, or else probabilities; none: what it gives is looked at.
    """

    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    logits: bool | None = None


@dataclass(frozen=True)
class Imported:
    """An imported model's card, and the folder of its files; `published` is that in the store."""

    card: Card
    folder: Path
    published: Path | None = None


class Wrapped(nn.Module):
    """A network that takes uint8 pictures (N, C, H, W) and gives probabilities (N, K)."""

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor, *, logits: bool) -> None:
        super().__init__()
        self.network = network
        self.logits = logits
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, pictures: Tensor) -> Tensor:
        """Probabilities (N, K)."""
        # TorchScript cannot read annotations of the buffers in the class.
        values = (pictures.float() / 255 - self.mean) / self.std  # type: ignore[operator]
        given: Tensor = self.network(values)
        return torch.softmax(given, dim=1) if self.logits else given


def import_model(
    file: str | Path,
    *,
    name: str,
    labels: Sequence[str],
    shape: tuple[int, int, int],
    task: str = "image",
    takes: Takes = Takes(),
    out: str | Path | None = None,
    publish: str | Path | None = None,
    say: Say = print,
) -> Imported:
    """Makes a checkpoint of a classifier in a TorchScript, torch.export or ONNX `file`.

    It takes float32 pictures of `shape` (C, H, W) in a batch of any size, and gives a value for
    each of `labels`. Of TorchScript and torch.export the ONNX form is made too, and compared; an
    ONNX file stays the only form. The files are written into `out` (runs/NAME) and, with
    `publish`, a store's folder, added there as the version that is served. Raises `TrainingError`.
    """
    file = Path(file)
    kind = KINDS.get(file.suffix.lower())
    if kind is None:
        raise TrainingError(
            f"cannot import {file.name}: convert it to TorchScript (.pt), torch.export (.pt2) or "
            "ONNX (.onnx)"
        )
    spec = _spec(task, shape)
    _check(labels, takes, shape)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise TrainingError(f"cannot read {file}: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    today = checkpoint.today_utc()
    card = Card(
        name=plain_name(name),
        version=checkpoint.version(today, digest),
        task=task,
        labels=list(labels),
        input=Input(shape),
        preprocessing=dict(spec.preprocessing),
        metrics={},
        recipe={"name": name, IMPORTED: {"file": file.name, "kind": kind, "sha256": digest}},
        data={},
        date=today.isoformat(),
        libraries=checkpoint.libraries(),
        description=f"Imported from {file.name} ({kind}).",
        limits=["It was made elsewhere: its accuracy was not measured when it was imported."],
    )
    folder = Path(out) if out is not None else Path("runs") / card.name
    if (folder / "report.json").exists():
        raise TrainingError(f"{folder} holds another model's report: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "ONNX":
        card = _from_onnx(file, card, takes, folder, say)
    else:
        say(TRUST.format(kind=kind))
        load = _torchscript if kind == "TorchScript" else _exported
        card = _from_torch(load(file, shape), card, takes, folder, say)
    say(f"{card.name} {card.version}: written to {folder}")
    if publish is None:
        return Imported(card, folder)
    return Imported(card, folder, model_store.add_version(folder, Path(publish) / card.name))


def read_labels(given: str) -> list[str]:
    """Labels from “a,b,c”, or from a text file with one a line; raises `TrainingError`."""
    if not given.endswith(".txt"):
        return [label.strip() for label in given.split(",")]
    try:
        lines = Path(given).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"cannot read the labels in {given}: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def read_shape(given: str) -> tuple[int, int, int]:
    """The shape (C, H, W) from “1x28x28”; raises `TrainingError`."""
    found = re.fullmatch(r"(\d{1,5})[x×,](\d{1,5})[x×,](\d{1,5})", given)
    if not found:
        raise TrainingError(
            f"--input {given}: give channels, height and width, such as 1x28x28 or 3x224x224"
        )
    channels, height, width = map(int, found.groups())
    return channels, height, width


def read_numbers(given: str) -> list[float]:
    """Numbers from “0.485,0.456,0.406”; raises `TrainingError`."""
    try:
        return [float(number) for number in given.split(",")]
    except ValueError as error:
        raise TrainingError(f"“{given}”: give numbers, such as 0.485,0.456,0.406") from error


def _spec(task: str, shape: tuple[int, int, int]) -> InputSpec:
    """The input of a network of this task; raises `TrainingError`."""
    try:
        held = tasks.get(task)
    except tasks.UnknownTaskError as error:
        raise TrainingError(f"--task: {error}") from error
    spec = InputSpec(shape, held.preprocessing)
    if reason := held.misfit(spec):
        raise TrainingError(f"--input: a model of the task {task} cannot take this: {reason}")
    return spec


def _check(labels: Sequence[str], takes: Takes, shape: tuple[int, int, int]) -> None:
    """Raises `TrainingError` for what cannot be meant."""
    if len(labels) < 2 or not all(labels) or len(set(labels)) < len(labels):
        raise TrainingError("--labels: give two or more, each once and none empty")
    for option, values in (("--mean", takes.mean), ("--std", takes.std)):
        if len(values) not in (1, shape[0]):
            raise TrainingError(
                f"{option}: give one number, or one for each of {shape[0]} channels"
            )
    if min(takes.std) <= 0:
        raise TrainingError("--std: give numbers above 0")


def _torchscript(file: Path, shape: tuple[int, int, int]) -> torch.jit.ScriptModule:
    """The network in a TorchScript file; raises `TrainingError`."""
    try:
        with model_store.unsaid_deprecation():
            network: torch.jit.ScriptModule = torch.jit.load(file, map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"{file.name} is not TorchScript. A state_dict, or a pickled module, is not a network "
            "without its code: there, make one with torch.jit.trace(model.eval(), "
            f"torch.zeros(1, {', '.join(map(str, shape))})).save(“model.pt”)"
        ) from error
    return network.eval()


def _exported(file: Path, shape: tuple[int, int, int]) -> torch.jit.ScriptModule:
    """The network in a file of torch.export, as TorchScript; raises `TrainingError`."""
    try:
        network = torch.export.load(file).module()
    except Exception as error:  # of many kinds
        raise TrainingError(f"{file.name} is not of torch.export: {_first_line(error)}") from error
    try:
        with model_store.unsaid_deprecation(), torch.inference_mode():
            traced = torch.jit.trace(network, torch.rand(3, *shape), check_trace=False)
    except Exception as error:
        raise TrainingError(
            f"the network in {file.name} does not take a batch of 3 pictures of {_listed(shape)} "
            f"({_first_line(error)}): give its shape as --input, and export it with "
            "dynamic_shapes=({0: torch.export.Dim(“n”)},)"
        ) from error
    assert isinstance(traced, torch.jit.ScriptModule)
    return traced


def _from_torch(
    network: torch.jit.ScriptModule, card: Card, takes: Takes, folder: Path, say: Say
) -> Card:
    """Writes the checkpoint of a TorchScript network, with its ONNX form where that can be made."""
    pictures = _examples(card)
    mean, std = as_channels(takes.mean), as_channels(takes.std)
    bare = Wrapped(network, mean, std, logits=False).eval()
    try:
        with torch.inference_mode():
            given = bare(pictures)
            one = bare(pictures[:1])
    except Exception as error:  # the file may hold any code
        raise _unfit(card, error) from error
    logits = _gives_logits(given, one, card, takes, say)
    with model_store.unsaid_deprecation():
        module = torch.jit.script(Wrapped(network, mean, std, logits=logits).eval())
    numbers = sum(parameter.numel() for parameter in network.parameters())
    card = model_store.save(module, replace(card, parameters=numbers), folder)
    checkpoint.write_probe(module, pictures, folder)
    try:
        whole = save_onnx(module, card, folder)
        checkpoint.check_onnx(module, pictures, folder)
    except Exception as error:  # an operation that ONNX lacks, or that it computes otherwise
        (folder / model_store.ONNX_FILE).unlink(missing_ok=True)
        model_store.replace_file(folder / model_store.CARD, card.to_json().encode())
        say(f"No ONNX form, so that torch alone can serve it: {_first_line(error)}")
        return card
    say("Its ONNX form gives the same answers")
    return whole


def _from_onnx(file: Path, card: Card, takes: Takes, folder: Path, say: Say) -> Card:
    """Writes the checkpoint of an ONNX file: the same graph with its input and output as ours."""
    try:
        model = onnx.load(file)
        onnx.checker.check_model(model)
        model = compose.add_prefix(model, "given_")  # its names may be those that are added
    except Exception as error:  # protobuf's and onnx's have no common base class
        raise TrainingError(f"{file.name} is not valid ONNX: {_first_line(error)}") from error
    weights = {value.name for value in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise TrainingError(
            f"{file.name} has {len(inputs)} inputs and {len(model.graph.output)} outputs: import a "
            "classifier with one of each"
        )
    numbers = sum(math.prod(value.dims) for value in model.graph.initializer)
    card = replace(card, parameters=numbers)
    bare = _wrapped(model, inputs[0], card, takes, logits=False)
    pictures = _examples(card)
    try:
        session = onnxruntime.InferenceSession(bare.SerializeToString())
        given, one = (
            torch.from_numpy(session.run(None, {model_store.PICTURES: each.numpy()})[0])
            for each in (pictures, pictures[:1])
        )
    except Exception as error:  # onnxruntime's have no common base class
        raise _unfit(card, error) from error
    logits = _gives_logits(given, one, card, takes, say)
    card = write_onnx(_wrapped(model, inputs[0], card, takes, logits=logits), card, folder)
    (folder / model_store.CHECKPOINT).unlink(missing_ok=True)  # of another import
    checkpoint.write_probe(checkpoint.load_either(folder)[0], pictures, folder)
    say("ONNX is its only form: onnxruntime serves it, also beside torch")
    return card


def _wrapped(
    model: onnx.ModelProto, given: onnx.ValueInfoProto, card: Card, takes: Takes, *, logits: bool
) -> onnx.ModelProto:
    """An ONNX model that takes uint8 pictures and gives probabilities, as `Wrapped` does."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph = whole.graph
    channels, height, width = card.input.shape
    sides = [side.dim_value for side in given.type.tensor_type.shape.dim]
    last = sides[1:] == [height, width, channels] != [channels, height, width]
    kind = given.type.tensor_type.elem_type
    at = "glimpse_"  # before the names of what is added
    constants = {
        "255": np.float32(255),
        "mean": np.array(takes.mean, np.float32).reshape(1, -1, 1, 1),
        "std": np.array(takes.std, np.float32).reshape(1, -1, 1, 1),
    }
    first = [
        helper.make_node("Cast", [model_store.PICTURES], [at + "float"], to=TensorProto.FLOAT),
        helper.make_node("Div", [at + "float", at + "255"], [at + "share"]),
        helper.make_node("Sub", [at + "share", at + "mean"], [at + "centred"]),
        helper.make_node("Div", [at + "centred", at + "std"], [at + "normal"]),
        helper.make_node("Cast", [at + "normal"], [at + "cast"], to=kind),
        helper.make_node("Transpose", [at + "cast"], [given.name], perm=[0, 2, 3, 1])
        if last
        else helper.make_node("Identity", [at + "cast"], [given.name]),
    ]
    told = [at + "told"]
    last_node = helper.make_node("Identity", told, [model_store.PROBABILITIES])
    if logits:
        last_node = helper.make_node("Softmax", told, [model_store.PROBABILITIES], axis=1)
    end = [
        helper.make_node("Cast", [graph.output[0].name], told, to=TensorProto.FLOAT),
        last_node,
    ]
    nodes = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend([*first, *nodes, *end])
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), at + name))
    graph.input.append(
        helper.make_tensor_value_info(
            model_store.PICTURES, TensorProto.UINT8, ["n", channels, height, width]
        )
    )
    graph.output.append(
        helper.make_tensor_value_info(
            model_store.PROBABILITIES, TensorProto.FLOAT, ["n", len(card.labels)]
        )
    )
    return whole


def _examples(card: Card) -> Tensor:
    """Three pictures of noise, of which no two are alike."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, *card.input.shape), generator=generator, dtype=torch.uint8)


def _gives_logits(given: Tensor, one: Tensor, card: Card, takes: Takes, say: Say) -> bool:
    """Whether a network's answers to three pictures, and to the first alone, are logits.

    Raises `TrainingError` where they are no answers of a classifier with the card's labels.
    """
    if given.dim() != 2 or len(given) != 3 or len(one) != 1:
        raise TrainingError(
            f"for 3 pictures the network gives values of shape {_listed(given.shape)}, not 3 × "
            f"{len(card.labels)}: import a classifier that takes batches of any size"
        )
    if given.shape[1] != len(card.labels):
        raise TrainingError(
            f"the network gives {given.shape[1]} values a picture, but there are "
            f"{len(card.labels)} labels: name one for each, in its order"
        )
    if not given.isfinite().all():
        raise TrainingError("the network gives values that are not finite; check --mean and --std")
    if not torch.allclose(given[:1], one, atol=1e-3):
        raise TrainingError(
            "the network's answer to a picture changes with the others in its batch: export it in "
            "evaluation mode, after model.eval()"
        )
    sums = given.double().sum(dim=1)
    like_shares = bool((given >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all())
    if takes.logits is False and not like_shares:
        raise TrainingError("the network does not give probabilities: leave out --probabilities")
    if takes.logits is None:
        say(
            "It gives probabilities"
            if like_shares
            else "It gives logits, which softmax makes probabilities"
        )
    return not like_shares if takes.logits is None else takes.logits


def _unfit(card: Card, error: Exception) -> TrainingError:
    return TrainingError(
        f"the network does not take pictures of {_listed(card.input.shape)} as float32 batches of "
        f"3 and of 1 ({_first_line(error)}): check --input, and export it for batches of any size"
    )


def _listed(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

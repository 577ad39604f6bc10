"""The training loop: epochs, the best of them, and a state to resume from."""

from __future__ import annotations

import contextlib
import copy
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace as struct_replace
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from training import bases, devices, distributed
from training.architectures import Classifier, Columns, build
from training.datasets import Data, Part
from training.errors import TrainingError
from training.optimisers import falling, make_optimiser, make_schedule
from training.recipe import OptimiserRecipe, Recipe, fitted
from training.sampling import sample_indices, topped_up

STATE = "state.pt"
PIXELS = 500 * 48 * 48  # of the pictures that are evaluated at once


@dataclass(frozen=True)
class Result:
    """The best epoch's network, which epoch that was (from 1), and the figures of every epoch.

    `recipe` is the one that was run, with all that was left open; `device` describes what computed.
    `thresholds` are those of the card.
    """

    classifier: Classifier
    best_epoch: int
    history: list[dict[str, float]]
    recipe: Recipe
    device: str
    thresholds: dict[str, float] = field(default_factory=dict)


class Run:
    """A training run that can be saved after each epoch and resumed."""

    def __init__(self, recipe: Recipe, data: Data, device: torch.device | None = None) -> None:
        count = len(data.training)
        if not count:
            raise TrainingError(
                "no picture is left to train on: all of them are also in the validation or the "
                "test part; give different pictures"
            )
        if count < 2 * distributed.size():
            raise TrainingError(
                f"{count} training pictures are too few for {distributed.size()} processes, of "
                "which each needs two; start fewer, or give more pictures"
            )
        fingerprint = data.fingerprint  # of the pictures as they were given
        torch.manual_seed(recipe.seed)
        self.device = device or torch.device("cpu")
        base = bases.read(recipe.network.base) if recipe.network.base else None
        self.recipe = recipe = fitted(recipe, count, base)
        generator = torch.Generator().manual_seed(recipe.seed)
        part = topped_up(data.training, recipe.top_up, recipe.augmentation, generator)
        data = replace(data, training=part)
        self.data = data
        self.training, self.synthetic = data.training, data.synthetic
        classifier = make_classifier(recipe, data, base)
        self.classifier = classifier.to(self.device).to(memory_format=torch.channels_last)
        distributed.share_batch_norms(self.classifier)
        self.averaged = AveragedModel(
            self.classifier, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True
        )
        self.optimiser = make_optimiser(
            recipe.optimiser, self.classifier, recipe.transfer.first_layer
        )
        self.schedule = make_schedule(recipe, self.optimiser, self.steps)
        self.half = devices.half_precision(self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.half is torch.float16)
        self.order = torch.Generator().manual_seed(recipe.seed)  # the same in all processes
        self.changes = torch.Generator(self.device)
        self.changes.manual_seed((recipe.seed + 1 + distributed.rank()) % 2**63)
        if distributed.rank():
            torch.manual_seed(recipe.seed + distributed.rank())  # other drops than the others'
        self.logits: Callable[[Tensor], Tensor] = self.classifier.logits
        self.is_joined = False
        self.data_fingerprint = fingerprint
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best: dict[str, Tensor] = {}

    @property
    def evaluated(self) -> nn.Module:
        """What is validated and exported: the averaged weights, if the recipe averages."""
        return self.averaged.module if self.recipe.average else self.classifier

    @property
    def steps(self) -> int:
        """How many batches an epoch has; each gives every process two pictures at least."""
        count = len(self.training)
        return max(1, min(-(-count // self.recipe.batch_size), count // (2 * distributed.size())))

    @property
    def fine_tuning(self) -> bool:
        """Whether the next epoch fine-tunes."""
        return len(self.history) >= self.recipe.epochs

    def begin_fine_tuning(self) -> None:
        """Sets up the training part, optimiser and schedule of the fine-tuning phase."""
        fine_tune, optimiser = self.recipe.fine_tune, self.recipe.optimiser
        synthetic = self.data.synthetic
        count = round(fine_tune.handwriting * len(synthetic))
        self.synthetic, left_out = synthetic[:count], synthetic[count:]
        if left_out:  # else the pictures would be copied needlessly
            kept = torch.ones(len(self.data.training), dtype=torch.bool)
            kept[left_out.start : left_out.stop] = False
            self.training = self.data.training.subset(kept)
        options = {**optimiser.options, "lr": fine_tune.lr}
        self.optimiser = make_optimiser(
            OptimiserRecipe(optimiser.name, options),
            self.classifier,
            self.recipe.transfer.first_layer,
        )
        self.schedule = falling(self.optimiser, self.steps * fine_tune.epochs)

    def begin_epoch(self) -> None:
        """Brings the network into the mode of the next epoch."""
        transfer, done = self.recipe.transfer, len(self.history)
        if done == self.recipe.epochs:
            self.begin_fine_tuning()
        is_head_only = done < transfer.head_epochs
        self.classifier.train()
        self.classifier.requires_grad_(not is_head_only)
        for layer in self.classifier.modules():
            is_norm = isinstance(layer, nn.modules.batchnorm._BatchNorm)
            if is_norm and (is_head_only or transfer.keep_norms):
                layer.eval()
        for head in bases.heads(self.classifier.network):
            head.requires_grad_(True)
        if isinstance(columns := self.classifier.network, Columns):
            for column in columns.columns[: columns.kept]:
                column.eval().requires_grad_(False)
        # Which weights are trained is fixed when the processes are joined.
        if distributed.size() > 1 and (done == transfer.head_epochs or not self.is_joined):
            self.logits, self.is_joined = joined(self.classifier), True

    def epoch(self) -> dict[str, float]:
        """Trains on every picture once; returns the figures of the epoch."""
        started = time.perf_counter()
        self.begin_epoch()
        part, steps = self.training, self.steps
        order = sample_indices(part.labels, self.recipe.sampler, self.order)
        batches = order.tensor_split(steps)
        own = (self.synthetic_last(distributed.own_share(batch)) for batch in batches)
        totals = torch.zeros(2, device=self.device)  # read once: reading waits for the device
        for batch, chosen_and_pictures in zip(
            batches, shown(part.batches(own), steps, len(self.history) + 1), strict=True
        ):
            totals += self.step(*chosen_and_pictures, len(batch))
        loss, hits = (distributed.summed(totals) / len(part)).tolist()
        if not math.isfinite(loss):
            raise TrainingError("the loss is no longer a number; lower the optimiser's “lr”")
        validation_loss, validation_accuracy = evaluate(
            self.evaluated, self.data.validation, self.smoothing
        )
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(validation_loss)
        return {
            "train_loss": loss,
            "train_accuracy": hits,
            "validation_loss": validation_loss,
            "validation_accuracy": validation_accuracy,
            "seconds": time.perf_counter() - started,
        }

    @property
    def smoothing(self) -> float:
        """The label smoothing of the next epoch."""
        return 0.0 if self.fine_tuning else self.recipe.label_smoothing

    def step(self, chosen: Tensor, pictures: Tensor, count: int) -> Tensor:
        """Trains on this process's share of a batch of `count` pictures: uint8 `pictures` at the
        indices `chosen`. Returns the sums (2,) of its losses and of its hits, on the device.
        """
        recipe, part = self.recipe, self.training
        augment = recipe.fine_tune.augmentation if self.fine_tuning else recipe.augmentation
        values = devices.moved(pictures, self.device).float() / 255
        values = augment(values, self.changes).contiguous(memory_format=torch.channels_last)
        labels = target = devices.moved(part.labels[chosen], self.device)
        if part.shares is not None and (recipe.fine_tune.soft or not self.fine_tuning):
            target = devices.moved(part.shares[chosen], self.device)
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            logits = self.logits(values)
        total = functional.cross_entropy(
            logits.float(), target, label_smoothing=self.smoothing, reduction="sum"
        )
        self.optimiser.zero_grad()
        # The gradients of several processes are averaged.
        self.scaler.scale(total * (distributed.size() / count)).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()
        if recipe.average:
            self.averaged.update_parameters(self.classifier)
        return torch.stack([total.detach(), (logits.argmax(1) == labels).sum()])

    def synthetic_last(self, chosen: Tensor) -> Tensor:
        """The batch with its synthetic pictures at the end: of several columns the last one, which
        takes the end of each batch, sees them, and the others see real ones alone.
        """
        is_synthetic = (chosen >= self.synthetic.start) & (chosen < self.synthetic.stop)
        return torch.cat([chosen[~is_synthetic], chosen[is_synthetic]])

    def keep_if_best(self) -> bool:
        """Keeps the newest epoch's weights if their validation is the best so far, or always if the
        recipe chooses the last one.
        """

        def rank(figures: dict[str, float]) -> tuple[float, float]:
            accuracy, loss = figures["validation_accuracy"], figures["validation_loss"]
            return (-loss, accuracy) if self.recipe.choose_by == "loss" else (accuracy, -loss)

        newest = self.history[-1]
        is_best = not self.best_epoch or rank(newest) > rank(self.history[self.best_epoch - 1])
        if not is_best and self.recipe.choose_by != "last":
            return False
        self.best_epoch = len(self.history)
        self.best = copy.deepcopy(self.evaluated.state_dict())
        return True

    def save(self, file: Path) -> None:
        """Writes all that the next epoch depends on, in one step; raises `OSError`.

        Of several processes only the first one writes.
        """
        own = {"changes": self.changes.get_state(), **devices.random_state(self.device)}
        random = distributed.gathered(own)
        if not distributed.is_writer():
            return
        state = {
            "recipe": self.recipe.to_dict(),
            "data": self.data_fingerprint,
            "classifier": self.classifier.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "order": self.order.get_state(),
            "random": random,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best": self.best,
        }
        buffer = io.BytesIO()  # torch.save does not report a full disk, write_bytes does
        torch.save(state, buffer)
        partial = file.with_name(file.name + ".partial")
        partial.write_bytes(buffer.getbuffer())
        partial.replace(file)

    def restore(self, file: Path) -> None:
        """Resumes the run saved in `file`; raises `TrainingError` if it is of another run.

        A recipe with more `epochs` goes on. A one-cycle schedule then is the longer one from there
        on: the learning rate jumps to where that would be.
        """
        state = distributed.shared(read_state(file) if distributed.is_writer() else None)
        wanted, held = self.recipe.to_dict(), state["recipe"]
        is_longer = self.recipe.epochs > held["epochs"] >= len(state["history"])
        if wanted != (held | {"epochs": wanted["epochs"]} if is_longer else held):
            raise TrainingError(
                f"{file} is of a run with another recipe; train without --resume, or choose "
                "another --out"
            )
        if state["data"] != self.data_fingerprint:
            raise TrainingError(
                f"{file} is of a run on other pictures or another split of them: what it was "
                "trained on could now be tested; give the same data, or train without --resume"
            )
        self.classifier.load_state_dict(state["classifier"])
        self.averaged.load_state_dict(state["averaged"])
        self.history, self.best_epoch = state["history"], state["best_epoch"]
        if len(self.history) > self.recipe.epochs:
            self.begin_fine_tuning()
        self.optimiser.load_state_dict(state["optimiser"])
        if is_longer and isinstance(self.schedule, OneCycleLR):
            steps = state["schedule"]["last_epoch"]
            self.schedule.load_state_dict({"last_epoch": steps - 1, "_step_count": steps})
            self.schedule.step()
        else:
            self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.order.set_state(state["order"])
        if len(state["random"]) == distributed.size():
            own = state["random"][distributed.rank()]
            self.changes.set_state(own["changes"])
            devices.set_random_state(own, self.device)
        self.best = state["best"]


def read_state(file: Path) -> dict[str, Any]:
    """The state of a run; raises `TrainingError`."""
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(state["recipe"], dict) or "random" not in state:
            raise ValueError
    except FileNotFoundError as error:
        raise TrainingError(f"nothing to resume: there is no {file}; leave --resume out") from error
    except Exception as error:  # torch.load may raise anything at all
        raise TrainingError(
            f"{file} is damaged, of an older version, or not the state of a run; train without "
            "--resume"
        ) from error
    return state


def train(
    recipe: Recipe,
    data: Data,
    folder: Path,
    *,
    resume: bool,
    say: Callable[[str], None],
    device: str = "auto",
    each_epoch: Callable[[list[dict[str, float]]], None] | None = None,
) -> Result:
    """Runs `recipe` on `data`; keeps its state in `folder`, passes a line per epoch to `say`.

    `each_epoch` gets the figures of all epochs so far, after each.
    `device` is auto (the best that there is), cpu, cuda, cuda:1 or mps. Where torchrun started
    several processes, each trains on its share of every batch; the first one speaks and writes.
    Raises `TrainingError`.
    """
    chosen = devices.choose(distributed.join(device))
    devices.prepare(chosen)
    if not distributed.is_writer():
        say, each_epoch = _unsaid, None
    with sentences(chosen):
        run = Run(recipe, data, chosen)
        recipe = run.recipe
        many = f", {distributed.size()} processes" if distributed.size() > 1 else ""
        say(f"Device: {devices.describe(chosen)}{many}")
        if resume:
            run.restore(folder / STATE)
            say(f"Resumed after epoch {len(run.history)}")
        epochs = recipe.epochs + recipe.fine_tune.epochs
        while len(run.history) < epochs and not out_of_patience(run):
            run.history.append(run.epoch())
            say(epoch_line(len(run.history), epochs, run.history[-1]))
            if run.keep_if_best() and recipe.choose_by != "last":
                say(f"New best: Val Acc {run.history[-1]['validation_accuracy']:.2%}, saved")
            run.save(folder / STATE)
            if each_epoch is not None:
                each_epoch(run.history)
        distributed.unshare_batch_norms(run.classifier)
        run.classifier.load_state_dict(run.best)
        labels = len(data.labels)
        run.classifier.temperature = fit_temperature(run.classifier, data.validation, labels)
        thresholds = {}
        if data.rejects:
            thresholds["none"] = reject_threshold(
                predict(run.classifier, data.validation), data.validation, recipe.most_refused
            )
    return Result(
        run.classifier.eval(),
        run.best_epoch,
        run.history,
        recipe,
        devices.describe(chosen) + many,
        thresholds,
    )


def _unsaid(_line: str) -> None:
    pass


@contextlib.contextmanager
def sentences(device: torch.device) -> Iterator[None]:
    """Turns what a device or another process may raise into a `TrainingError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if devices.is_out_of_memory(error):
            raise TrainingError(
                f"out of memory on {device}; lower the recipe's “batch_size” or “data.size”, or "
                "choose a smaller network"
            ) from error
        if distributed.is_failure(error):
            raise TrainingError(distributed.ENDED) from error
        raise


def joined(classifier: Classifier) -> nn.Module:
    """The classifier's logits, whose gradients are the mean of all processes'."""

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier

        def forward(self, pictures: Tensor) -> Tensor:
            return self.classifier.logits(pictures)

    return DistributedDataParallel(Logits())


def shown(
    batches: Iterator[tuple[Tensor, Tensor]], count: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches, with a progress bar where there is a terminal."""
    is_silent = None if distributed.is_writer() else True
    return iter(tqdm(batches, f"Epoch {epoch}", count, leave=False, disable=is_silent))


def make_classifier(recipe: Recipe, data: Data, base: bases.Base | None) -> Classifier:
    """The untrained classifier of a recipe, on the CPU, with the weights that it goes on from."""
    channels, height, width = data.training.shape
    options = dict(recipe.network.options)
    if base is not None and "pretrained" in options:
        options["pretrained"] = False  # its weights are replaced below
    network = build(recipe.network.name, data.outputs, channels, options)
    by_picture = recipe.normalise == "picture"
    if base is not None:
        keep = recipe.network.keep
        base.load_into(network, data.labels, rejects=data.rejects, keep=keep)
        if isinstance(network, Columns):
            network.kept = keep or base.kept
    if recipe.normalise != "base":
        mean, std = brightness(data.training)
        means, stds = [mean], [std]
    elif base is not None:
        means, stds, by_picture = base.mean, base.std, base.by_picture
    else:
        means, stds = map(list, bases.normalisation(recipe.network.name))
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, channels, height, width))
    except RuntimeError as error:
        raise TrainingError(
            f"the network {recipe.network.name} does not take pictures of {height} × {width} "
            f"pixels in {channels} channel(s); change “data.size” ({error})"
        ) from error
    return Classifier(
        network,
        means,
        stds,
        by_picture=by_picture,
        mirror=recipe.mirror,
        zoom=recipe.zoom,
        bias=logit_adjustment(data.training.labels, data.outputs, recipe.balance),
    )


def epoch_line(epoch: int, epochs: int, figures: dict[str, float]) -> str:
    """An epoch's figures in one line."""
    return (
        f"Epoch [{epoch}/{epochs}]  Train Loss: {figures['train_loss']:.4f} | "
        f"Train Acc: {figures['train_accuracy']:.2%}  || "
        f"Val Loss: {figures['validation_loss']:.4f} | "
        f"Val Acc: {figures['validation_accuracy']:.2%}"
    )


def out_of_patience(run: Run) -> bool:
    """Whether as many epochs as the recipe's `patience` have passed without a new best."""
    return 0 < run.recipe.patience <= len(run.history) - run.best_epoch


def logit_adjustment(labels: Tensor, classes: int, balance: float) -> Tensor:
    """What is added to the logits (K) so that rare classes are predicted more often.

    `balance` times the negative logarithm of each class's share, as Menon et al. (2021) adjust
    logits: 0 keeps the training part's shares as the prior, 1 makes it uniform, -1 undoes the
    uniform prior of the balanced sampler.
    """
    shares = torch.bincount(labels, minlength=classes).clamp_min(1) / len(labels)
    return -balance * shares.log()


def brightness(part: Part) -> tuple[float, float]:
    """The mean and standard deviation of a part's pictures in 0..1; of large ones, of a sample."""
    stride = max(1, len(part) * math.prod(part.shape) // 200_000_000)
    values = part.batch(torch.arange(0, len(part), stride)).float() / 255
    return float(values.mean()), max(float(values.std()), 1e-3)


@torch.inference_mode()
def outputs(
    function: Callable[[Tensor], Tensor], pictures: Part | Tensor, device: torch.device
) -> Tensor:
    """What `function` makes of uint8 pictures on the device, in batches, on the CPU."""
    part = pictures if isinstance(pictures, Part) else Part(pictures, torch.zeros(len(pictures)))
    at_once = max(1, min(500, PIXELS // (part.shape[1] * part.shape[2])))
    batches = part.batches(torch.arange(len(part)).split(at_once))
    return torch.cat([function(devices.moved(batch, device)).cpu() for _, batch in batches])


def device_of(module: nn.Module) -> torch.device:
    """The device on which a module's weights are."""
    return next((values.device for values in module.parameters()), torch.device("cpu"))


def predict(classifier: nn.Module, pictures: Part | Tensor) -> Tensor:
    """Probabilities (N, K) of uint8 pictures, in batches, in evaluation mode, on the CPU."""
    classifier.eval()
    return outputs(classifier, pictures, device_of(classifier))


def evaluate(classifier: nn.Module, part: Part, label_smoothing: float) -> tuple[float, float]:
    """Mean cross entropy, smoothed as in training, and accuracy on `part`.

    Without the smoothing, a network that has not yet learnt the smoothed labels would seem best.
    Each of several processes computes a share.
    """
    own = distributed.own_share(torch.arange(len(part)))
    totals = torch.zeros(2, dtype=torch.float64)
    if len(own):
        held = part if len(own) == len(part) else part.subset(own)
        probabilities = predict(classifier, held)
        logs = probabilities.clamp_min(1e-12).log()
        totals[0] = functional.cross_entropy(
            logs, held.labels, label_smoothing=label_smoothing, reduction="sum"
        )
        totals[1] = (probabilities.argmax(1) == held.labels).sum()
    loss, hits = (distributed.summed_on_cpu(totals) / len(part)).tolist()
    return loss, hits


def split_scores(scores: Tensor, labels: int) -> tuple[Tensor, Tensor]:
    """What a network gives, (N, K) or (N, K + 1), as the probabilities of its `labels` alone (N, K)
    and how likely each picture shows none of them (N,), 0 where the network does not reject.
    """
    none = scores[:, labels] if scores.shape[1] > labels else torch.zeros(len(scores))
    own = scores[:, :labels].clamp_min(1e-30)
    return own / own.sum(dim=1, keepdim=True), none


def reject_threshold(scores: Tensor, part: Part, most_refused: float) -> float:
    """The score for none of the labels above which at most that share of the pictures of a label
    in `part` lies, by a network's `scores` (N, K + 1) of them.
    """
    labels = scores.shape[1] - 1
    none = scores[part.labels < labels, labels].sort(descending=True).values
    return round(float(none[int(most_refused * len(none))]), 4)


def fit_temperature(classifier: Any, part: Part, labels: int) -> float:
    """The temperature that calibrates the probabilities (Guo et al., 2017), between 0.2 and 5.

    It has the lowest cross entropy on the pictures of the `labels` in `part`, the validation part,
    by the scores of these alone, plus a penalty for being far from 1: where a few pictures are all
    classified correctly, every score would become 1.
    """
    classifier.eval()
    part = part.subset(part.labels < labels)
    logits = outputs(classifier.tta_logits, part, device_of(classifier))[:, :labels]
    candidates: list[float] = torch.logspace(math.log10(0.2), math.log10(5), 200).tolist()

    def loss(temperature: float) -> float:
        total = float(functional.cross_entropy(logits / temperature, part.labels, reduction="sum"))
        return total + 2 * math.log(temperature) ** 2  # a normal prior of deviation 0.5 on its log

    return min(candidates, key=loss)


def lr_range(
    recipe: Recipe,
    data: Data,
    *,
    device: str = "auto",
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
) -> list[dict[str, float]]:
    """The learning-rate range test (Smith, 2017): the rate rises from step to step, geometrically.

    Each row has the `lr`, that of the last layer, and the `loss`, a moving average over about ten
    steps. It ends early once the loss is four times its lowest. Raises `TrainingError`.
    """
    chosen = devices.choose(device)
    options = {**recipe.optimiser.options, "lr": lowest}
    recipe = struct_replace(
        recipe,
        schedule="constant",
        average=0.0,
        optimiser=OptimiserRecipe(recipe.optimiser.name, options),
        transfer=struct_replace(recipe.transfer, head_epochs=0),
    )
    rows: list[dict[str, float]] = []
    with sentences(chosen):
        run = Run(recipe, data, chosen)
        run.begin_epoch()
        batches = _endless(run)
        factor = (highest / lowest) ** (1 / max(steps - 1, 1))
        average = 0.0
        for step in range(steps):
            indices, pictures = next(batches)
            loss = float(run.step(indices, pictures, len(indices))[0]) / len(indices)
            average = 0.9 * average + 0.1 * loss
            smooth = average / (1 - 0.9 ** (step + 1))
            if not math.isfinite(loss) or smooth > 4 * min(
                [row["loss"] for row in rows], default=math.inf
            ):
                break
            rows.append({"lr": lowest * factor**step, "loss": smooth})
            for group in run.optimiser.param_groups:
                group["lr"] *= factor
    return rows


def _endless(run: Run) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        order = sample_indices(run.training.labels, run.recipe.sampler, run.order)
        yield from run.training.batches(order.tensor_split(run.steps))


def suggested_lr(rows: list[dict[str, float]]) -> float:
    """The learning rate to train with, by a range test: that at which the loss falls fastest.

    Falls are measured over a tenth of the steps, since each single one is mostly chance.
    """
    lowest = rows.index(min(rows, key=lambda row: row["loss"]))  # beyond, it falls after a rise
    width = max(1, lowest // 10)
    falls = [
        rows[at]["loss"] - rows[at + width]["loss"] for at in range(max(lowest - width, 0) + 1)
    ]
    return rows[falls.index(max(falls)) + width // 2]["lr"]

"""The training loop: epochs, the best of them, and a state to resume from."""

from __future__ import annotations

import copy
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from training.architectures import Classifier, build
from training.datasets import Data, Part
from training.errors import TrainingError
from training.recipe import OptimiserRecipe, Recipe
from training.sampling import sample_indices, topped_up

STATE = "state.pt"
UNFIT = ("LBFGS", "SparseAdam")  # they need a closure, or sparse gradients


@dataclass(frozen=True)
class Result:
    """The best epoch's network, which epoch that was (from 1), and the figures of every epoch."""

    classifier: Classifier
    best_epoch: int
    history: list[dict[str, float]]


class Run:
    """A training run that can be saved after each epoch and resumed."""

    def __init__(self, recipe: Recipe, data: Data) -> None:
        if not len(data.training):
            raise TrainingError(
                "no picture is left to train on: all of them are also in the validation or the "
                "test part; give different pictures"
            )
        torch.manual_seed(recipe.seed)
        mean, std = brightness(data.training.pictures)
        channels = data.training.pictures.shape[1]
        network = build(recipe.network.name, len(data.labels), channels, recipe.network.options)
        classifier = Classifier(
            network,
            mean,
            std,
            by_picture=recipe.normalise == "picture",
            mirror=recipe.mirror,
            zoom=recipe.zoom,
            bias=logit_adjustment(data.training.labels, len(data.labels), recipe.balance),
        )
        if recipe.top_up:
            generator = torch.Generator().manual_seed(recipe.seed)
            part = topped_up(data.training, recipe.top_up, recipe.augmentation, generator)
            data = replace(data, training=part)
        self.recipe, self.data = recipe, data
        self.training, self.synthetic = data.training, data.synthetic
        self.classifier = classifier.to(memory_format=torch.channels_last)
        self.averaged = AveragedModel(
            self.classifier, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True
        )
        self.optimiser = make_optimiser(recipe.optimiser, self.classifier)
        self.schedule = make_schedule(recipe, self.optimiser, self.steps)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best: dict[str, Tensor] = {}

    @property
    def evaluated(self) -> nn.Module:
        """What is validated and exported: the averaged weights, if the recipe averages."""
        return self.averaged.module if self.recipe.average else self.classifier

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return -(-len(self.training) // self.recipe.batch_size)

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
        self.optimiser = make_optimiser(OptimiserRecipe(optimiser.name, options), self.classifier)
        self.schedule = torch.optim.lr_scheduler.LinearLR(
            self.optimiser, 1.0, 0.01, total_iters=self.steps * fine_tune.epochs
        )

    def epoch(self) -> dict[str, float]:
        """Trains on every picture once; returns the figures of the epoch."""
        if len(self.history) == self.recipe.epochs:
            self.begin_fine_tuning()
        recipe, part = self.recipe, self.training
        augment = recipe.fine_tune.augmentation if self.fine_tuning else recipe.augmentation
        smoothing = 0.0 if self.fine_tuning else recipe.label_smoothing
        self.classifier.train()
        started, loss_sum, hits = time.perf_counter(), 0.0, 0
        order = sample_indices(part.labels, recipe.sampler, self.generator)
        batches = order.split(recipe.batch_size)
        for batch in tqdm(batches, f"Epoch {len(self.history) + 1}", leave=False, disable=None):
            chosen = self.synthetic_last(batch)
            pictures = part.pictures[chosen].float() / 255
            pictures = augment(pictures, self.generator)
            labels = part.labels[chosen]
            logits = self.classifier.logits(pictures.contiguous(memory_format=torch.channels_last))
            is_hard = self.fine_tuning and not recipe.fine_tune.soft
            target = labels if part.shares is None or is_hard else part.shares[chosen]
            loss = functional.cross_entropy(logits, target, label_smoothing=smoothing)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            if not isinstance(self.schedule, ReduceLROnPlateau):
                self.schedule.step()
            if recipe.average:
                self.averaged.update_parameters(self.classifier)
            loss_sum += loss.item() * len(chosen)
            hits += int((logits.argmax(1) == labels).sum())
        if not math.isfinite(loss_sum):
            raise TrainingError("the loss is no longer a number; lower the optimiser's “lr”")
        validation_loss, validation_accuracy = evaluate(
            self.evaluated, self.data.validation, smoothing
        )
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(validation_loss)
        return {
            "train_loss": loss_sum / len(part),
            "train_accuracy": hits / len(part),
            "validation_loss": validation_loss,
            "validation_accuracy": validation_accuracy,
            "seconds": time.perf_counter() - started,
        }

    def synthetic_last(self, chosen: Tensor) -> Tensor:
        """The batch with its synthetic pictures at the end: of several columns the last one, which
        takes the end of each batch, sees them, and the others see real ones alone.
        """
        is_synthetic = (chosen >= self.synthetic.start) & (chosen < self.synthetic.stop)
        return torch.cat([chosen[~is_synthetic], chosen[is_synthetic]])

    def keep_if_best(self) -> bool:
        """Keeps the newest epoch's weights if their validation is the best so far."""

        def rank(figures: dict[str, float]) -> tuple[float, float]:
            accuracy, loss = figures["validation_accuracy"], figures["validation_loss"]
            return (-loss, accuracy) if self.recipe.choose_by == "loss" else (accuracy, -loss)

        newest = self.history[-1]
        if self.best_epoch and rank(newest) <= rank(self.history[self.best_epoch - 1]):
            return False
        self.best_epoch = len(self.history)
        self.best = copy.deepcopy(self.evaluated.state_dict())
        return True

    def save(self, file: Path) -> None:
        """Writes all that the next epoch depends on, in one step; raises `OSError`."""
        state = {
            "recipe": self.recipe.to_dict(),
            "classifier": self.classifier.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "dropout": torch.get_rng_state(),
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
        """Resumes the run saved in `file`; raises `TrainingError` if it is of another run."""
        try:
            state: dict[str, Any] = torch.load(file, weights_only=True)
            recipe = state["recipe"]
        except FileNotFoundError as error:
            raise TrainingError(f"nothing to resume: there is no {file}") from error
        except Exception as error:  # torch.load may raise anything at all
            raise TrainingError(
                f"{file} is damaged or not the state of a run; train without --resume"
            ) from error
        if recipe != self.recipe.to_dict():
            raise TrainingError(
                f"{file} is of a run with another recipe; train without --resume, or choose "
                "another --out"
            )
        self.classifier.load_state_dict(state["classifier"])
        self.averaged.load_state_dict(state["averaged"])
        self.history, self.best_epoch = state["history"], state["best_epoch"]
        if len(self.history) > self.recipe.epochs:
            self.begin_fine_tuning()
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["dropout"])
        self.best = state["best"]


def train(
    recipe: Recipe,
    data: Data,
    folder: Path,
    *,
    resume: bool,
    say: Callable[[str], None],
    each_epoch: Callable[[list[dict[str, float]]], None] | None = None,
) -> Result:
    """Runs `recipe` on `data`; keeps its state in `folder`, passes a line per epoch to `say`.

    `each_epoch` gets the figures of all epochs so far, after each.
    """
    run = Run(recipe, data)
    if resume:
        run.restore(folder / STATE)
        say(f"Resumed after epoch {len(run.history)}")
    epochs = recipe.epochs + recipe.fine_tune.epochs
    while len(run.history) < epochs and not out_of_patience(run):
        run.history.append(run.epoch())
        say(epoch_line(len(run.history), epochs, run.history[-1]))
        if run.keep_if_best():
            say(f"New best: Val Acc {run.history[-1]['validation_accuracy']:.2%}, saved")
        run.save(folder / STATE)
        if each_epoch is not None:
            each_epoch(run.history)
    run.classifier.load_state_dict(run.best)
    run.classifier.temperature = fit_temperature(run.classifier, data.validation)
    return Result(run.classifier.eval(), run.best_epoch, run.history)


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


def brightness(pictures: Tensor) -> tuple[float, float]:
    """The mean and standard deviation of uint8 pictures, in 0..1."""
    values = pictures.float() / 255
    return float(values.mean()), max(float(values.std()), 1e-3)


@torch.inference_mode()
def predict(classifier: nn.Module, pictures: Tensor) -> Tensor:
    """Probabilities (N, K) of uint8 pictures, in batches, in evaluation mode."""
    classifier.eval()
    return torch.cat([classifier(batch) for batch in pictures.split(500)])


def evaluate(classifier: nn.Module, part: Part, label_smoothing: float) -> tuple[float, float]:
    """Mean cross entropy, smoothed as in training, and accuracy on `part`.

    Without the smoothing, a network that has not yet learnt the smoothed labels would seem best.
    """
    probabilities = predict(classifier, part.pictures)
    logs = probabilities.clamp_min(1e-12).log()
    loss = functional.cross_entropy(logs, part.labels, label_smoothing=label_smoothing)
    return float(loss), float((probabilities.argmax(1) == part.labels).float().mean())


@torch.inference_mode()
def fit_temperature(classifier: Classifier, part: Part) -> float:
    """The temperature that calibrates the probabilities (Guo et al., 2017), between 0.2 and 5.

    It has the lowest cross entropy on `part`, the validation part, plus a penalty for being far
    from 1: where a few pictures are all classified correctly, every score would become 1.
    """
    classifier.eval()
    logits = torch.cat([classifier.tta_logits(batch) for batch in part.pictures.split(500)])
    candidates: list[float] = torch.logspace(math.log10(0.2), math.log10(5), 200).tolist()

    def loss(temperature: float) -> float:
        total = float(functional.cross_entropy(logits / temperature, part.labels, reduction="sum"))
        return total + 2 * math.log(temperature) ** 2  # a normal prior of deviation 0.5 on its log

    return min(candidates, key=loss)


def make_optimiser(recipe: OptimiserRecipe, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of `torch.optim` that `recipe` names; raises `TrainingError`."""
    kind = getattr(torch.optim, recipe.name, None)
    if recipe.name in UNFIT or not (
        isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    ):
        raise TrainingError(
            f"no optimiser “{recipe.name}” in torch.optim can be used; try Adam or SGD"
        )
    try:
        return kind(module.parameters(), **recipe.options)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{recipe.name} does not take {recipe.options}: {error}") from error


def make_schedule(
    recipe: Recipe, optimiser: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """How the learning rate goes, a step a batch, over `steps` batches an epoch.

    Raises `TrainingError` for an optimiser whose learning rate cannot go that way.
    """
    if recipe.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    if recipe.schedule == "plateau":
        return ReduceLROnPlateau(
            optimiser, factor=recipe.plateau_factor, patience=recipe.plateau_patience
        )
    try:
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            max_lr=[group["lr"] for group in optimiser.param_groups],
            total_steps=steps * recipe.epochs,
            pct_start=recipe.warm_up,
            div_factor=10,
            final_div_factor=100,
        )
    except ValueError as error:
        raise TrainingError(
            f"{recipe.optimiser.name} does not work with “schedule” one-cycle: {error}"
        ) from error

"""Optimisers and learning-rate schedules, as a recipe names them."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import (
    ConstantLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
)

from training.errors import TrainingError
from training.recipe import OptimiserRecipe, Recipe

UNFIT = ("LBFGS", "SparseAdam")  # they need a closure, or sparse gradients


def make_optimiser(
    recipe: OptimiserRecipe, module: nn.Module, first_layer: float = 1.0
) -> torch.optim.Optimizer:
    """The optimiser of `torch.optim` that `recipe` names; raises `TrainingError`.

    `first_layer` is the first layer's learning rate as a share of the last one's.
    """
    kind = getattr(torch.optim, recipe.name, None)
    if recipe.name in UNFIT or not (
        isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    ):
        raise TrainingError(
            f"no optimiser “{recipe.name}” in torch.optim can be used; try Adam or SGD"
        )
    try:
        optimiser = kind(module.parameters(), **recipe.options)
        if first_layer == 1:
            return optimiser
        layers, lr = layers_of(module), optimiser.defaults["lr"]
        shares = torch.logspace(math.log10(first_layer), 0, len(layers)).tolist()
        groups = [
            {"params": layer, "lr": lr * share} for layer, share in zip(layers, shares, strict=True)
        ]
        return kind(groups, **recipe.options)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{recipe.name} does not take {recipe.options}: {error}") from error


def layers_of(module: nn.Module) -> list[list[nn.Parameter]]:
    """The weights of each convolution and dense layer, with those of what follows it."""
    layers: list[list[nn.Parameter]] = [[]]
    for layer in module.modules():
        own = list(layer.parameters(recurse=False))
        if isinstance(layer, nn.Conv2d | nn.Linear) and layers[-1]:
            layers.append(own)
        else:
            layers[-1] += own
    return layers


def make_schedule(recipe: Recipe, optimiser: torch.optim.Optimizer, steps: int) -> LRScheduler:
    """How the learning rate goes, a step a batch, over `steps` batches an epoch.

    Raises `TrainingError` for an optimiser whose learning rate cannot go that way.
    """
    if recipe.schedule == "constant":
        return ConstantLR(optimiser, factor=1.0)
    if recipe.schedule == "linear":
        return falling(optimiser, steps * recipe.epochs)
    if recipe.schedule == "plateau":
        return ReduceLROnPlateau(
            optimiser, factor=recipe.plateau_factor, patience=recipe.plateau_patience
        )
    try:
        total = max(steps * recipe.epochs, 4)
        return OneCycleLR(
            optimiser,
            max_lr=[group["lr"] for group in optimiser.param_groups],
            total_steps=total,
            # Of fewer than two steps each phase would have the length 0, by which it divides.
            pct_start=min(max(recipe.warm_up, 2 / total), 1 - 2 / total),
            div_factor=10,
            final_div_factor=100,
        )
    except ValueError as error:
        raise TrainingError(
            f"{recipe.optimiser.name} does not work with “schedule” one-cycle: {error}"
        ) from error


def falling(optimiser: torch.optim.Optimizer, steps: int) -> LRScheduler:
    """The learning rate falls linearly to almost 0 over that many batches."""
    return LinearLR(optimiser, 1.0, 0.01, total_iters=steps)

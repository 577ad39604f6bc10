"""Distillation: a network that learns from another's probabilities."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import model_store
from model_store import Card
from training import loop
from training.api import (
    Places,
    Say,
    Trained,
    checkpoint_folder,
    label_places,
    load,
    train,
    with_changes,
)
from training.checkpoint import load_either
from training.datasets import Data, Part
from training.ensemble import check_split, data_of
from training.errors import TrainingError
from training.recipe import Recipe


def distil(
    teacher: str | Path,
    recipe: str | Path | Recipe,
    data: Places | None = None,
    *,
    name: str,
    temperature: float = 2.0,
    share: float = 0.9,
    store: str | Path = model_store.ROOT,
    out: str | Path | None = None,
    epochs: int | None = None,
    limit: int | None = None,
    device: str = "auto",
    resume: bool = False,
    publish: str | Path | None = None,
    min_accuracy: float | None = None,
    say: Say = print,
) -> Trained:
    """Trains a recipe on what the checkpoint `teacher` says of each training picture.

    After Hinton, Vinyals and Dean, “Distilling the knowledge in a neural network” (2015): the
    target is `share`, 0..1, of the teacher's probabilities, softened by `temperature`, and for the
    rest the label. Validation and test are those of the recipe. `teacher` is named as for
    `training.evaluate`; the other arguments are those of `training.train`. Raises `TrainingError`
    or `StoreError`.
    """
    if not 0 < share <= 1:
        raise TrainingError("--share must be above 0 and at most 1")
    if not 0 < temperature <= 100:
        raise TrainingError("--temperature must be above 0 and at most 100")
    network, card = load_either(checkpoint_folder(teacher, store))
    chosen = with_changes(recipe, name=name, epochs=epochs)
    check_split(chosen.name, chosen.data, card.name, data_of(card))
    held = load(chosen, data, limit)
    _check_pupil(card, chosen, held)
    taught = taught_by(network, card, held, temperature=temperature, share=share)
    return train(
        chosen,
        taught,
        out=out,
        device=device,
        resume=resume,
        publish=publish,
        min_accuracy=min_accuracy,
        say=say,
    )


def taught_by(
    network: nn.Module, card: Card, data: Data, *, temperature: float, share: float
) -> Data:
    """`data` whose training part has the teacher's shares as its target."""
    part = data.training
    places = label_places(card, data.labels)
    hard = part.shares
    if hard is None:
        hard = functional.one_hot(part.labels, data.outputs).float()
    own, none = loop.split_scores(loop.predict(network, part), len(card.labels))
    if data.rejects:
        own = torch.column_stack([own * (1 - none[:, None]), none])
    told = own[:, places[: data.outputs]]
    soft = functional.softmax(told.clamp_min(1e-12).log() / temperature, dim=1)
    shares = torch.lerp(hard, soft, share)
    if data.rejects and not card.rejects:  # it knows nothing of what shows no label
        of_none = part.labels == len(data.labels)
        shares[of_none] = hard[of_none]
    description = {
        **data.description,
        "teacher": f"{card.name} {card.version}",
        "teacher_temperature": temperature,
        "teacher_share": share,
    }
    return dataclasses.replace(
        data, training=Part(part.source, part.labels, shares), description=description
    )


def _check_pupil(card: Card, recipe: Recipe, data: Data) -> None:
    """Raises `TrainingError` where the teacher does not take the recipe's pictures."""
    if card.task != recipe.task:
        raise TrainingError(
            f"{card.name} is of the task {card.task}, {recipe.name} of {recipe.task}: choose a "
            "recipe of the same task"
        )
    if tuple(card.input.shape) != tuple(data.training.shape):
        taken, given = (
            " × ".join(map(str, shape)) for shape in (card.input.shape, data.training.shape)
        )
        raise TrainingError(
            f"{card.name} takes pictures of {taken}, {recipe.name} of {given}: set “data.size” "
            "and “data.channels” to the teacher's"
        )
    if dict(card.preprocessing) != dict(data.preprocessing):
        raise TrainingError(
            f"{card.name} takes pictures prepared by {dict(card.preprocessing)}, {recipe.name} by "
            f"{dict(data.preprocessing)}: choose a recipe that prepares them alike"
        )

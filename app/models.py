"""The models that the app serves: loaded, verified and warmed once, at start-up."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from flask import current_app

import model_store
import tasks
from app.engines import ONNX, TORCH, Engine, Explainer, Network
from app.errors import UnknownModel
from app.metrics import LOAD_SECONDS
from app.reports import Report, read_report
from model_store import Card, StoreError
from tasks import InputSpec, Task, UnknownTaskError
from tasks.problems import NotReady

WARM_UP_CALLS = {TORCH: 3, ONNX: 1}  # TorchScript compiles in its first two calls

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A loaded checkpoint: its card, task and report, what it takes, and its network."""

    card: Card
    task: Task
    spec: InputSpec
    network: Network
    explainer: Explainer
    platform: str  # what runs the network
    report: Report


class Models:
    """All models of a store: those that can be used, and why the others cannot."""

    def __init__(self, root: Path, engine: Engine) -> None:
        self.ready: dict[str, Model] = {}
        self.unavailable: dict[str, str] = {}
        for folder in model_store.folders(root):
            started = time.perf_counter()
            try:
                self.ready[folder.name] = _load(folder, engine)
                LOAD_SECONDS.labels(folder.name).set(time.perf_counter() - started)
            except StoreError as error:
                log.warning("model left out: %s", error)
                self.unavailable[folder.name] = str(error)
        for task in {model.task for model in self.ready.values()}:
            if lack := task.lacks():
                log.warning("%s", lack)

    def get(self, name: str) -> Model:
        """The model `name`; raises `UnknownModel`, or `NotReady` with the reason."""
        if name in self.ready:
            return self.ready[name]
        if name in self.unavailable:
            raise NotReady(f"The model cannot be used: {self.unavailable[name]}.")
        known = ", ".join(self.ready) or "none"
        raise UnknownModel(f"There is no model of that name; the models are: {known}.")

    def tried_on(self, page: str, preferred: str) -> Model | None:
        """The model for the page of template `page`: `preferred`, or else the first that fits."""
        fitting = {name: model for name, model in self.ready.items() if model.task.page == page}
        return fitting.get(preferred) or next(iter(fitting.values()), None)


def models() -> Models:
    """The models of the current app."""
    return cast(Models, current_app.extensions["models"])


def store_option() -> str:
    """What commands on a page need to find the app's models, if these are not the shipped ones."""
    is_shipped = Path(current_app.config["MODEL_STORE"]) == model_store.ROOT
    return "" if is_shipped else " --store STORE"


def _load(folder: Path, engine: Engine) -> Model:
    try:
        network, explainer, card, platform = engine.load(folder)
    except RuntimeError as error:  # a checkpoint may hold any code
        raise StoreError(
            f"{folder.name}: its network cannot be prepared ({error}); train the model again"
        ) from error
    if card.name != folder.name:
        raise StoreError(
            f"{folder.name}: its card is that of the model {card.name}; rename the folder"
        )
    spec = InputSpec(card.input.shape, card.preprocessing)
    try:
        task = tasks.get(card.task)
    except UnknownTaskError as error:
        raise StoreError(f"{folder.name}: {error}") from error
    if misfit := task.misfit(spec):
        raise StoreError(
            f"{folder.name}: its card asks for pictures of {list(spec.shape)}, but {misfit}"
        )
    try:
        for _ in range(WARM_UP_CALLS[platform]):
            answer = network(np.zeros((1, *spec.shape), np.uint8))
    except Exception as error:  # a checkpoint may hold any code
        raise StoreError(
            f"{folder.name}: its network fails ({type(error).__name__}); train the model again"
        ) from error
    if answer.shape != (1, len(card.labels) + card.rejects):
        further = " and a threshold “none”" if card.rejects else ""
        raise StoreError(
            f"{folder.name}: its network returns shape {answer.shape[1:]}, but its card has "
            f"{len(card.labels)} labels{further}; train the model again"
        )
    if not np.isclose(answer.sum(), 1, atol=1e-3):
        raise StoreError(
            f"{folder.name}: its network does not return probabilities; train the model again"
        )
    report = read_report(folder, card.labels)
    return Model(card, task, spec, network, explainer, platform, report)

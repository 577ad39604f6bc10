"""The models that the app serves: loaded, verified and warmed once, at start-up."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from flask import current_app
from PIL import Image

import model_store
from app.engines import Engine, Explainer, Load, Network
from app.errors import NotReady, UnknownModel
from app.faces import NoDetectorError, find
from app.metrics import LOAD_SECONDS
from app.subjects import fits
from model_store import Card, StoreError

WARM_UP_CALLS = 3  # the first two calls of a loaded module compile; the third is as fast as any

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A loaded checkpoint and its card."""

    card: Card
    network: Network
    explainer: Explainer


class Models:
    """All models of a store: those that serve, and why the others do not."""

    def __init__(self, root: Path, engine: Engine) -> None:
        self.platform = engine.platform
        self.ready: dict[str, Model] = {}
        self.unavailable: dict[str, str] = {}
        for folder in model_store.folders(root):
            started = time.perf_counter()
            try:
                self.ready[folder.name] = _load(folder, engine.load)
                LOAD_SECONDS.labels(folder.name).set(time.perf_counter() - started)
            except StoreError as error:
                log.warning("model left out: %s", error)
                self.unavailable[folder.name] = str(error)
        if any(model.card.task == "face" for model in self.ready.values()):
            try:
                find(Image.new("L", (64, 64)))
            except NoDetectorError as error:
                log.warning("faces cannot be found, only whole crops classified: %s", error)

    def get(self, name: str) -> Model:
        """The model `name`; raises `UnknownModel`, or `NotReady` with the reason."""
        if name in self.ready:
            return self.ready[name]
        if name in self.unavailable:
            raise NotReady(f"The model cannot be used: {self.unavailable[name]}.")
        known = ", ".join(self.ready) or "none"
        raise UnknownModel(f"There is no model of that name; known are: {known}.")


def models() -> Models:
    """The models of the current app."""
    return cast(Models, current_app.extensions["models"])


def _load(folder: Path, load: Load) -> Model:
    try:
        network, explainer, card = load(folder)
    except RuntimeError as error:  # a checkpoint may hold any code
        raise StoreError(f"{folder.name}: its network cannot be prepared: {error}") from error
    if card.name != folder.name:
        raise StoreError(f"{folder.name}: its card is of the model {card.name}; rename the folder")
    if not fits(card):
        raise StoreError(
            f"{folder.name}: no {card.task} is made into pictures of {card.input['shape']}"
        )
    try:
        for _ in range(WARM_UP_CALLS):
            answer = network(np.zeros((1, *card.input["shape"]), np.uint8))
    except Exception as error:  # a checkpoint may hold any code
        raise StoreError(f"{folder.name}: its network fails ({type(error).__name__})") from error
    if answer.shape != (1, len(card.labels)):
        raise StoreError(
            f"{folder.name}: its network gives {answer.shape[1:]}, its card has other labels"
        )
    if not np.isclose(answer.sum(), 1, atol=1e-3):
        raise StoreError(f"{folder.name}: its network's answers are no probabilities")
    return Model(card, network, explainer)

"""The work that every peer does for a request: Glimpse's own, without its HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

import model_store
from app.config import DEFAULTS
from app.decode import decode
from app.engines import Network, engine
from app.predict import rank
from app.subjects import subjects
from model_store import Card

WARM_UP_CALLS = 3  # as many as the app makes
MAX_PIXELS = int(DEFAULTS["MAX_PIXELS"])


class Work:
    """The networks of the models in `folders`, by their names."""

    def __init__(self, folders: list[Path]) -> None:
        load = engine("torch").load
        self.models: dict[str, tuple[Network, Card]] = {}
        for folder in folders:
            network, _, card = load(folder)
            self.models[folder.name] = network, card
            for _ in range(WARM_UP_CALLS):
                network(np.zeros((1, *card.input["shape"]), np.uint8))

    def labels(self, contents: list[bytes], model: str) -> list[str]:
        """The label of each picture: the least that a server must do."""
        _, card = self.models[model]
        return [card.labels[index] for index in self._scores(contents, model).argmax(axis=1)]

    def answer(self, contents: list[bytes], model: str) -> dict[str, Any]:
        """Every label with its score, best first, for each picture."""
        _, card = self.models[model]
        ranked = [rank(card.labels, scores) for scores in self._scores(contents, model)]
        return {"results": [{**scores[0], "predictions": scores} for scores in ranked]}

    def _scores(self, contents: list[bytes], model: str) -> np.ndarray[Any, Any]:
        network, card = self.models[model]
        found = [subjects(decode(each, MAX_PIXELS), card, whole=True) for each in contents]
        # A picture may hold several subjects: all are worked on, the first one's scores are given.
        scores: np.ndarray[Any, Any] = network(
            np.stack([part.pixels for parts in found for part in parts])
        )
        firsts = np.cumsum([0, *(len(parts) for parts in found[:-1])])
        return np.take(scores, firsts, axis=0)


def work() -> Work:
    """That of all models of the store which the environment names, as the app has it."""
    return Work(model_store.folders(Path(os.environ["GLIMPSE_MODEL_STORE"])))

"""`GLIMPSE_TRIAL`: another version beside the current one, for a share of clients or in the shadow.

In the shadow it answers nobody: once a response is sent it is asked for the same pictures, and
the labels that differ are counted.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from flask import Flask, Response, after_this_request, current_app, request
from numpy.typing import NDArray

import model_store
from app.guard import client_of
from app.metrics import SHADOW, TRIAL_REQUESTS, VERDICTS, totals
from app.models import Model, Models
from app.predict import Watch, classify, work
from app.scheduler import SCHEDULER
from model_store import Card
from tasks.base import Subject, Verdict, rank
from tasks.problems import Problem

ONE = re.compile(r"([^@:,\s]+)@([^@:,\s]+):(?:(\d{1,3}(?:\.\d+)?)%|(shadow))")
MOST_COMPARED = 16  # subjects of a request
COMPARING_SECONDS = 0.05  # after which no further subject of a request is compared
LOOK_SECONDS = 1.0  # between looks whether a version that could not be loaded has changed
VERDICT_NAMES: tuple[Verdict, ...] = ("sure", "unsure", "none")
REPORTS = "glimpse_reports_total"

log = logging.getLogger(__name__)


@dataclass
class Trial:
    """A version of the model `name` that is tried: by a `share` of clients, 0..1, or by none in
    the shadow. `reason` says why it cannot be.
    """

    name: str
    version: str
    share: float | None
    model: Model | None = None
    reason: str = ""
    looked: float = -math.inf
    seen: tuple[int, int] | None = (0, 0)  # of its card when it was tried to load it
    compared_to: Model | None = None  # the current version for which `misfit` holds
    misfit: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def title(self) -> str:
        """What the version is called: ``digits@VERSION``."""
        return f"{self.name}@{self.version}"

    def has(self, client: str) -> bool:
        """Whether the client belongs to the share; always the same ones do."""
        digest = hashlib.blake2b(f"{self.title} {client}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < (self.share or 0) * 2**64


@dataclass(frozen=True)
class Line:
    """What a version has answered since the server started.

    `shares` are those of the verdicts; `reports` is how often it was reported, none where reports
    are off.
    """

    version: str
    answers: int
    shares: dict[Verdict, float]
    reports: int | None


@dataclass(frozen=True)
class Comparison:
    """A trial for its model's page: the current version's line, then the other's."""

    trial: Trial
    lines: list[Line]
    compared: int
    different: int
    reason: str


def parse(setting: str) -> dict[str, Trial]:
    """The trials that `GLIMPSE_TRIAL` names, by model; raises `ValueError`."""
    trials: dict[str, Trial] = {}
    for part in filter(None, map(str.strip, setting.split(","))):
        found = ONE.fullmatch(part)
        share = float(found[3]) / 100 if found and found[3] else None
        if not found or (share is not None and not 0 < share <= 1):
            raise ValueError(
                f"GLIMPSE_TRIAL holds {part!r}; it must look like digits@VERSION:10%, a share "
                "above 0 and up to 100 %, or digits@VERSION:shadow, several separated by commas"
            )
        if found[1] in trials:
            raise ValueError(
                f"GLIMPSE_TRIAL names the model {found[1]} twice; try one version at a time"
            )
        trials[found[1]] = Trial(found[1], found[2], share)
    return trials


class Trials:
    """The trials of an app."""

    def __init__(self, held: Models, root: Path, setting: str) -> None:
        self._held, self._root = held, root
        self._by_name = parse(setting)
        for trial in self._by_name.values():
            self._other(trial, held.ready.get(trial.name))

    @property
    def unavailable(self) -> dict[str, str]:
        """Why versions cannot be tried, by their names."""
        found = {}
        for trial in self._by_name.values():
            self._other(trial, self._held.ready.get(trial.name))
            if reason := trial.reason or trial.misfit:
                found[trial.title] = reason
        return found

    def answering(self, name: str) -> Model:
        """The model that answers the request's client: `Models.get`, or the version on trial."""
        current = self._held.get(name)
        trial = self._by_name.get(name)
        if trial is None or not trial.has(client_of(request.remote_addr or "unknown")):
            return current
        other = self._other(trial, current)
        if other is None:
            return current
        TRIAL_REQUESTS.labels(name, other.card.version).inc()
        return other

    def watch(self, model: Model) -> Watch | None:
        """What is told of a request's subjects and their probabilities (N, K), to compare the
        version in the shadow with them after the response; none if there is none.
        """
        trial = self._by_name.get(model.card.name)
        if trial is None or trial.share is not None:
            return None
        if model is not self._held.ready.get(trial.name):
            return None
        other = self._other(trial, model)
        return None if other is None else partial(_compare_later, other)

    def comparison(self, name: str) -> Comparison | None:
        """The trial of a model, or none."""
        trial = self._by_name.get(name)
        if trial is None:
            return None
        current = self._held.get(name)
        self._other(trial, current)
        shadow = {
            told["outcome"]: int(count)
            for told, count in totals("glimpse_shadow_total")
            if told["model"] == name and told["version"] == trial.version
        }
        different = shadow.get("different", 0)
        lines = [_line(name, version) for version in (current.card.version, trial.version)]
        reason = trial.reason or trial.misfit
        return Comparison(trial, lines, shadow.get("same", 0) + different, different, reason)

    def _other(self, trial: Trial, current: Model | None) -> Model | None:
        """The version on trial; none if it cannot be used, or is the current one."""
        if current is None:
            trial.reason = trial.reason or f"there is no model {trial.name} to compare it with"
            return None
        if current.card.version == trial.version:
            trial.reason = trial.misfit = ""
            trial.model = None  # one copy of it is enough
            trial.looked, trial.seen = -math.inf, (0, 0)
            return None
        other = trial.model or self._load(trial)
        if other is None:
            return None
        trial.reason = ""
        if trial.compared_to is not current:
            trial.misfit = _misfit(trial, other.card, current.card)
            trial.compared_to = current
        return None if trial.misfit else other

    def _load(self, trial: Trial) -> Model | None:
        """Loads the version, unless another thread does or it has failed and not changed since."""
        if time.monotonic() - trial.looked < LOOK_SECONDS or not trial.lock.acquire(blocking=False):
            return trial.model
        try:
            trial.looked, before = time.monotonic(), trial.seen
            trial.seen = self._look(trial)
            if trial.model is None and trial.seen != before:
                trial.model, trial.reason = self._held.get(trial.title), ""
                trial.compared_to = None
        except Problem as problem:
            log.warning("no trial of %s: %s", trial.title, problem.detail)
            trial.reason = problem.detail
        finally:
            trial.lock.release()
        return trial.model

    def _look(self, trial: Trial) -> tuple[int, int] | None:
        """What changes when the version is written; none if it is not there."""
        try:
            folder = model_store.version_folder(self._root / trial.name, trial.version)
            found = (folder / model_store.CARD).stat()
        except (OSError, model_store.StoreError):
            return None
        return found.st_ino, found.st_mtime_ns


def register(app: Flask) -> None:
    """Makes `app` try what its settings say; raises `ValueError` for an invalid one."""
    held = cast(Models, app.extensions["models"])
    root = Path(app.config["MODEL_STORE"])
    app.extensions["trials"] = Trials(held, root, str(app.config["TRIAL"]))


def trials() -> Trials:
    """The trials of the current app."""
    return cast(Trials, current_app.extensions["trials"])


def _misfit(trial: Trial, card: Card, current: Card) -> str:
    """Why the two cannot be compared, or nothing."""
    same = {
        "task": card.task == current.task,
        "labels": card.labels == current.labels,
        "input": card.input == current.input and card.preprocessing == current.preprocessing,
    }
    others = [what for what, is_same in same.items() if not is_same]
    if trial.share is not None and others == ["input"]:
        return ""  # each prepares pictures for itself
    if not others:
        return ""
    return (
        f"its {' and '.join(others)} differ from those of the current version "
        f"{current.version}; try it by its name, {trial.title}"
    )


def _compare_later(
    other: Model, subjects: Sequence[Subject], probabilities: NDArray[np.float64]
) -> None:
    best = probabilities[:MOST_COMPARED].argmax(axis=1).tolist()
    compare = partial(_compare, other, list(subjects[:MOST_COMPARED]), best)

    @after_this_request
    def when_sent(response: Response) -> Response:
        response.call_on_close(compare)
        return response


def _compare(other: Model, subjects: Sequence[Subject], best: Sequence[int]) -> None:
    """Counts on how many subjects the other version's label is not the number in `best`.

    Those for which a request would have to wait are skipped.
    """
    card, end = other.card, time.monotonic() + COMPARING_SECONDS
    for subject, label in zip(subjects, best, strict=True):
        outcome = "skipped"
        if SCHEDULER.is_idle and time.monotonic() < end:
            try:
                with work(light=True) as turn:
                    (scores,), (none,) = classify(other, subject.pixels[None], turn)
            except Exception:  # the response is sent
                log.exception("%s@%s failed in the shadow", card.name, card.version)
                outcome = "failed"
            else:
                ranked = rank(card.labels, scores)
                verdict = other.task.verdict(subject, ranked, card.thresholds, none=float(none))
                VERDICTS.labels(card.name, card.version, verdict).inc()
                outcome = "same" if int(scores.argmax()) == label else "different"
        SHADOW.labels(card.name, card.version, outcome).inc()


def _line(name: str, version: str) -> Line:
    def own(metric: str, what: str) -> dict[str, int]:
        return {
            told[what]: int(count)
            for told, count in totals(metric)
            if told["model"] == name and told["version"] == version
        }

    verdicts = own("glimpse_verdicts_total", "verdict")
    answers = sum(verdicts.values())
    shares = {verdict: verdicts.get(verdict, 0) / max(answers, 1) for verdict in VERDICT_NAMES}
    reports = sum(own(REPORTS, "kind").values()) if current_app.config.get("REPORTS") else None
    return Line(version, answers, shares, reports)

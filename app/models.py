"""The models that the app serves: loaded, verified and warmed, at the start and as they change."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from flask import Flask, current_app, request

import model_store
import tasks
from app.engines import ONNX, TORCH, Engine, Explainer, Loaded, Network
from app.errors import UnknownModel
from app.evaluation import Report, read_report
from app.memory import give_back_what_is_free
from app.metrics import LOAD_SECONDS, REFUSED
from app.scheduler import SCHEDULER
from model_store import Card, StoreError
from tasks import InputSpec, Task, UnknownTaskError
from tasks.problems import NotReady

WARM_UP_CALLS = {TORCH: 3, ONNX: 1}  # TorchScript compiles in its first two calls
LOOK_EVERY = 1.0  # seconds between looks at the store
MOST_OTHERS = 2  # versions in memory that are served only to those who name them
FILES = (model_store.CARD, model_store.CHECKPOINT, model_store.ONNX_FILE)
NEVER_WAITING = ("health.alive", "static")  # endpoints

FORGETS: list[Callable[[], None]] = []  # what empties caches that hold models

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded checkpoint: its card, task and report, what it takes, its network and its folder.

    A request takes it once and keeps it: another version that replaces it is another `Model`.
    """

    card: Card
    task: Task
    spec: InputSpec
    network: Network
    explainer: Explainer
    platform: str  # what runs the network
    report: Report
    folder: Path

    @property
    def version(self) -> str:
        """The version that the card states."""
        return self.card.version


@dataclass(frozen=True)
class _Held:
    """The version of a model that serves, if one does, and by version why others do not."""

    model: Model | None
    refused: Mapping[str, str]

    @property
    def reason(self) -> str:
        """Why none serves: what the chosen version lacks."""
        return next(iter(self.refused.values()))


class Models:
    """All models of a store: those that can be used, and why the others cannot."""

    def __init__(self, root: Path, engine: Engine) -> None:
        self._root, self._load = root, engine.load
        self._held: dict[str, _Held] = {}  # replaced when it changes, for requests go through it
        self._seen: dict[str, list[tuple[int, ...] | None]] = {}
        self._others: OrderedDict[str, Model] = OrderedDict()  # by `name@version`
        self._looking = threading.Lock()  # nobody waits for it
        self._next = 0.0
        self._leaves_memory = False
        self.refresh()
        for task in {model.task for model in self.ready.values()}:
            if lack := task.lacks():
                log.warning("%s", lack)

    @property
    def ready(self) -> dict[str, Model]:
        """The models that serve, by name."""
        return {name: held.model for name, held in self._held.items() if held.model}

    @property
    def unavailable(self) -> dict[str, str]:
        """Why the models of which no version serves cannot be used, by name."""
        return {name: held.reason for name, held in self._held.items() if not held.model}

    @property
    def refused(self) -> dict[str, str]:
        """Why a chosen version does not serve, while another does, by ``name@version``."""
        return {
            f"{name}@{version}": reason
            for name, held in self._held.items()
            if held.model
            for version, reason in held.refused.items()
        }

    @property
    def left_out(self) -> dict[str, str]:
        """The reasons in `unavailable` and in `refused`."""
        return self.unavailable | self.refused

    def get(self, name: str) -> Model:
        """The version that serves of the model `name`, or another, as ``name@version`` says.

        Raises `UnknownModel`, or `NotReady` with the reason.
        """
        plain, version = model_store.split_name(name)
        held = self._held.get(plain)
        if held is None:
            known = ", ".join(self.ready) or "none"
            raise UnknownModel(f"There is no model of that name; the models are: {known}.")
        if version is None or (held.model and held.model.version == version):
            if held.model is None:
                raise NotReady(f"The model cannot be used: {held.reason}.")
            return held.model
        return self._other(plain, version, held)

    def tried_on(self, page: str, preferred: str) -> Model | None:
        """The model for the page of template `page`: `preferred`, or else the first that fits."""
        fitting = {name: model for name, model in self.ready.items() if model.task.page == page}
        return fitting.get(preferred) or next(iter(fitting.values()), None)

    def refresh(self) -> None:
        """Takes what has changed in the store since the last look, if that is a second ago.

        Whoever comes meanwhile goes on with what there is. A chosen version that cannot be used is
        left out, and tried again when it is chosen again.
        """
        if time.monotonic() < self._next or not self._looking.acquire(blocking=False):
            return
        try:
            if self._leaves_memory:  # by now, few requests still have the old network
                self._leaves_memory = False
                for forget in FORGETS:
                    forget()
                gc.collect()  # objects of TorchScript hold one another
                give_back_what_is_free()
            self._look()
        finally:
            self._next = time.monotonic() + LOOK_EVERY
            self._looking.release()

    def _look(self) -> None:
        try:
            folders = sorted(self._root.iterdir())
        except OSError:
            return  # the disk is away: what is in memory goes on serving
        names = {folder.name for folder in folders}
        for name in self._seen.keys() - names if names else ():  # empty where it is not mounted
            log.warning("the model %s is no longer in the store", name)
            del self._seen[name]
            self._hold(name, _Held(None, {}))
        for folder in folders:
            seen = self._seen.get(folder.name)
            if seen is None and not model_store.is_model_folder(folder):
                continue
            held = self._held.get(folder.name)
            # One that cannot be used may be one that is still being copied.
            names_of = (model_store.CURRENT, *(() if held and held.model else FILES))
            try:
                found = [_stamp(folder / name) for name in names_of]
            except OSError:
                continue
            if seen is None or found != seen[: len(found)]:
                self._seen[folder.name] = found
                self._hold(folder.name, self._taken(folder, held.model if held else None))

    def _taken(self, folder: Path, before: Model | None) -> _Held:
        """The version that is chosen in `folder`; if it cannot be used the one `before`, or else
        the newest that can.
        """
        started = time.perf_counter()
        refused: dict[str, str] = {}
        places: list[Path] = []
        try:
            places.append(model_store.current_folder(folder))
        except StoreError as error:
            refused[model_store.CURRENT] = str(error)
        if before is None:
            versions = reversed(model_store.versions(folder))
            places += [model_store.version_folder(folder, version) for version in versions]
        for place in dict.fromkeys(places):
            try:
                model = _loaded(place, self._load)
            except StoreError as error:
                log.warning("model left out: %s", error)
                refused[_version(place)] = str(error)
            else:
                LOAD_SECONDS.labels(folder.name).set(time.perf_counter() - started)
                return _Held(model, refused)
        return _Held(before, refused)

    def _hold(self, name: str, new: _Held) -> None:
        """Serves what `new` has from now on; a model with neither is forgotten."""
        old = self._held.get(name, _Held(None, {}))
        held = {**self._held, name: new}
        if not (new.model or new.refused):
            del held[name]
        self._held = {name: held[name] for name in sorted(held)}
        for version in {**old.refused, **new.refused}:
            REFUSED.labels(name, version).set(version in new.refused)
        self._leaves_memory |= old.model not in (None, new.model)
        for key, other in list(self._others.items()):
            if other.card.name == name and (not new.model or other.version == new.model.version):
                self._others.pop(key, None)

    def _other(self, name: str, version: str, held: _Held) -> Model:
        """A version that does not serve, loaded when it is first asked for."""
        key = f"{name}@{version}"
        if version in held.refused:
            raise NotReady(f"The version cannot be used: {held.refused[version]}.")
        if model := self._others.get(key):
            with suppress(KeyError):
                self._others.move_to_end(key)
            return model
        try:
            place = model_store.version_folder(self._root / name, version)
        except StoreError as error:
            known = ", ".join(model_store.versions(self._root / name)) or "none"
            raise UnknownModel(
                f"The model {name} has no such version; its versions are: {known}."
            ) from error
        with SCHEDULER.turn(light=False):  # one at a time, and the next finds it here
            model = self._others.get(key)
            if model is None:
                try:
                    model = _loaded(place, self._load)
                except StoreError as error:
                    raise NotReady(f"The version cannot be used: {error}.") from error
                self._others[key] = model
                while len(self._others) > MOST_OTHERS:
                    self._others.popitem(last=False)
                    self._leaves_memory = True
        return model


def register(app: Flask) -> None:
    """Makes the requests to `app` notice what changes in the store."""

    @app.before_request
    def refresh() -> None:
        if request.endpoint not in NEVER_WAITING:
            models().refresh()


def models() -> Models:
    """The models of the current app."""
    return cast(Models, current_app.extensions["models"])


def store_option() -> str:
    """What commands on a page need to find the app's models, if these are not the shipped ones."""
    is_shipped = Path(current_app.config["MODEL_STORE"]) == model_store.ROOT
    return "" if is_shipped else " --store STORE"


def _stamp(file: Path) -> tuple[int, ...] | None:
    """What tells a file from another that replaces it, or none where it is missing.

    It is opened: a network file system answers for a while from memory what it is only asked.
    """
    try:
        with file.open("rb") as opened:
            status = os.fstat(opened.fileno())
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _version(folder: Path) -> str:
    """The version whose files are in `folder`; empty where no card says."""
    try:
        return model_store.read_card(folder).version
    except StoreError:
        return folder.name if folder.parent.name == model_store.VERSIONS else ""


def _loaded(folder: Path, load: Callable[[Path], Loaded]) -> Model:
    """The model in `folder`, after its first answers; raises `StoreError`."""
    title = model_store.title(folder)
    try:
        network, explainer, card, platform = load(folder)
    except StoreError:
        raise
    except Exception as error:  # a checkpoint may hold any code
        raise StoreError(
            f"{title}: its network cannot be prepared ({error}); train the model again"
        ) from error
    if card.name != model_store.model_name(folder):
        raise StoreError(f"{title}: its card is that of the model {card.name}; rename the folder")
    if title not in (card.name, f"{card.name}@{card.version}"):
        raise StoreError(f"{title}: its card is of version {card.version}; rename the folder")
    spec = InputSpec(card.input.shape, card.preprocessing)
    try:
        task = tasks.get(card.task)
    except UnknownTaskError as error:
        raise StoreError(f"{title}: {error}") from error
    if misfit := task.misfit(spec):
        raise StoreError(f"{title}: its card asks for pictures of {list(spec.shape)}, but {misfit}")
    try:
        for _ in range(WARM_UP_CALLS[platform]):
            answer = network(np.zeros((1, *spec.shape), np.uint8))
        model_store.check_probe(folder, network)
    except StoreError:
        raise
    except Exception as error:  # a checkpoint may hold any code
        raise StoreError(
            f"{title}: its network fails ({type(error).__name__}); train the model again"
        ) from error
    if answer.shape != (1, len(card.labels) + card.rejects):
        further = " and a threshold “none”" if card.rejects else ""
        raise StoreError(
            f"{title}: its network returns shape {answer.shape[1:]}, but its card has "
            f"{len(card.labels)} labels{further}; train the model again"
        )
    if not np.isclose(answer.sum(), 1, atol=1e-3):
        raise StoreError(
            f"{title}: its network does not return probabilities; train the model again"
        )
    report = read_report(folder, card.labels)
    return Model(card, task, spec, network, explainer, platform, report, folder)

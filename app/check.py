"""`app check`: what is installed here and what is missing, one line each.

It must run even if nothing is installed, so it imports packages only after it has checked for them.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

TOP = Path(__file__).resolve().parent.parent
OK, WARNING, MISSING = "ok", "warning", "missing"  # missing: the default model is not served
COMMON = "requirements-common.txt"
ENGINE_PACKAGES = {
    "torch": ("torch", "requirements-serve.txt"),
    "onnx": ("onnxruntime", "requirements-light.txt"),
}
SPARED = {  # optional packages, and what is missing without them
    "flask-cors": "only GLIMPSE_CORS_ORIGINS needs it",
    "gunicorn": "another WSGI server does not need it",
    "limits": "only GLIMPSE_RATE_LIMIT needs it",
    "onnxruntime": "without it faces cannot be found, only crops classified",
}
ELSEWHERE = ("GLIMPSE_BIND",)  # read by gunicorn.conf.py
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)")

Finding = tuple[str, str]  # a line of the report: its state, and a text that says what to do


def check() -> int:
    """Prints what is found; returns 0 where the app can serve its default model, else 1."""
    states = set()
    for state, text in _findings():
        print(f"{state:<8} {' '.join(text.split())}", flush=True)  # torch's errors have many lines
        states.add(state)
    if MISSING in states:
        print("The app cannot serve here yet: see the lines that begin with “missing”.")
        return 1
    print("The app can serve here.")
    return 0


def _findings() -> Iterator[Finding]:
    packages = [_package(name, COMMON) for name in _required(COMMON)]
    needed = [_python(), *packages, *_settings(), _engine()]
    yield from needed
    if any(state == MISSING for state, _ in needed):
        yield WARNING, "models: not tested; install what is missing above, then check again"
    else:
        yield from _app()


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 10):  # noqa: UP036  # this runs before pip could refuse
        return MISSING, f"Python {version}: create the environment with Python 3.10 or later"
    return OK, f"Python {version}, {sys.executable}"


def _required(file: str) -> dict[str, str]:
    """The packages that a requirements file itself names, and their oldest allowed versions."""
    path = TOP / file
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {match[1]: match[2] for match in map(REQUIREMENT.match, lines) if match}


def _package(name: str, file: str) -> Finding:
    todo, least = f"pip install -r {file}", _required(file).get(name, "0")
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        if name in SPARED:
            return WARNING, f"{name} is not installed: {todo} ({SPARED[name]})"
        return MISSING, f"{name} is not installed: {todo}"
    if _numbers(version) < _numbers(least):
        if name == "gunicorn":  # before 27.0.1 no worker would start
            return MISSING, f"{name} {version} is older than {least} and cannot serve: {todo}"
        return WARNING, f"{name} {version} is older than {least} and may fail: {todo}"
    return OK, f"{name} {version}"


def _numbers(version: str) -> list[int]:
    """The leading numbers of a version: 2.13.0+cpu is [2, 13, 0]."""
    return [int(number) for number in re.split(r"[^\d.]", version)[0].split(".") if number]


def _settings() -> list[Finding]:
    try:
        from app.config import DEFAULTS, settings  # noqa: PLC0415
    except ImportError as error:
        return [(MISSING, f"settings: cannot be checked until {error.name} is installed")]
    given = {name: value for name, value in os.environ.items() if name.startswith("GLIMPSE_")}
    found = []
    for variable, value in sorted(given.items()):
        if variable in ELSEWHERE:
            continue
        if variable.partition("_")[2] not in DEFAULTS:
            found.append((WARNING, f"{variable} is not a setting: see docs/settings.md"))
            continue
        try:
            settings({variable: value})
        except ValueError as error:
            found.append((MISSING, str(error)))
    names = ", ".join(sorted(given)) or "none, all have their defaults"
    return found or [(OK, f"settings from the environment: {names}")]


def _engine() -> Finding:
    """The engine that the app will use."""
    try:
        from app.engines import NoEngineError, engine  # noqa: PLC0415
    except ImportError as error:
        return MISSING, f"engine: cannot be checked until {error.name} is installed"
    try:
        chosen = engine(os.environ.get("GLIMPSE_ENGINE", "auto"))
    except NoEngineError as error:
        return MISSING, f"engine: {error}"
    if chosen.name == "auto":
        state, text = _package(*ENGINE_PACKAGES["onnx"])
        return state, f"engine onnx: {text}, and torch for models without an ONNX file"
    state, text = _package(*ENGINE_PACKAGES[chosen.name])
    return state, f"engine {chosen.name}: {text}"


def _app() -> Iterator[Finding]:
    """What the app itself reports, created as a server creates it."""
    logging.disable(logging.CRITICAL)  # the report says what it would log
    try:
        from app import create_app  # noqa: PLC0415

        app = create_app()
    except Exception as error:  # whatever it is, a server would stop with it
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        yield MISSING, f"the app does not start: {kind}{error}"
        return
    finally:
        logging.disable(logging.NOTSET)
    yield from _models(app)
    yield from _reports(app)
    yield from _threads()


def _models(app: Flask) -> Iterator[Finding]:
    import tasks  # noqa: PLC0415

    held, default = app.extensions["models"], app.config["DEFAULT_MODEL"]
    for name, model in held.ready.items():
        if reason := _failure(app, name):
            yield MISSING if name == default else WARNING, f"model {name}: {reason}"
        else:
            yield OK, f"model {name} {model.card.version}: verified, warm, answers"
    for name, reason in held.left_out.items():
        yield MISSING if name == default else WARNING, f"model left out: {reason}"
    known = [*held.ready, *held.unavailable]
    store, names = app.config["MODEL_STORE"], ", ".join(known) or "no model"
    if default not in known:
        todo = "set GLIMPSE_DEFAULT_MODEL or GLIMPSE_MODEL_STORE"
        yield MISSING, f"model {default} is not in {store}, which holds {names}: {todo}"
    photos = app.config["FACE_MODEL"]
    if photos not in held.ready or held.ready[photos].task.page != "faces.html":
        todo = "set GLIMPSE_FACE_MODEL to a model of faces, or train one"
        yield WARNING, f"the page /faces has no model {photos}: {todo}"
    for task in map(tasks.get, tasks.names()):
        if lack := task.lacks():
            yield WARNING, lack
        elif finder := task.finder():
            yield OK, finder


def _reports(app: Flask) -> Iterator[Finding]:
    """Whether the database of reports answers, where there is one."""
    if (database := app.extensions["reports"]) is None:
        return
    from reports import Away  # noqa: PLC0415

    try:
        count = sum(each.count for each in database.counts())
    except Away as away:
        yield WARNING, f"reports are refused: {database.name} cannot be used: {away}"
    else:
        yield OK, f"reports: {database.name} answers, and holds {count}"


def _failure(app: Flask, name: str) -> str | None:
    """Why the model `name` cannot classify a picture, or none."""
    from app.api import predict_route  # noqa: PLC0415
    from app.openapi import SAMPLE  # noqa: PLC0415
    from tasks.problems import Problem  # noqa: PLC0415

    sent = app.test_request_context(
        "/api/predict",
        method="POST",
        query_string={"model": name, "faces": "whole"},
        data=Path(app.static_folder or "", SAMPLE).read_bytes(),
        content_type="image/png",
    )
    try:
        with sent:
            predict_route()  # not through the app, which may require a key
    except Problem as problem:
        return problem.detail
    except Exception as error:  # a checkpoint may hold any code
        last = (str(error).splitlines() or [""])[-1]  # of TorchScript's traceback
        return f"it fails on a picture ({type(error).__name__}: {last})"
    return None


def _threads() -> Iterator[Finding]:
    torch = sys.modules.get("torch")
    if torch is None:
        yield OK, "threads: onnxruntime uses one for each model"
    elif (count := torch.get_num_threads()) == 1:
        yield OK, "threads: torch uses one"
    else:
        danger = "in a server that forks, requests would wait for ever"
        yield WARNING, f"threads: torch uses {count}; {danger}"

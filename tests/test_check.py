"""`python -m app check`: who sets the app up learns what it lacks, and what to do."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from samples import ByInk, card, script

from app import engines
from app.__main__ import main
from model_store import save
from tasks import face_detector

TOP = Path(__file__).resolve().parent.parent


class Brittle(torch.nn.Module):
    """Answers for blank pictures alone."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        if int(pictures.max()) > 0:
            raise ValueError("ink")
        return torch.full((len(pictures), 10), 0.1)


@pytest.fixture
def root(store, tmp_path, monkeypatch):
    """A store of its own for each test, the only thing that the environment sets."""
    for name in list(os.environ):
        if name.startswith("GLIMPSE_"):
            monkeypatch.delenv(name)
    shutil.copytree(store, tmp_path / "store")
    monkeypatch.setenv("GLIMPSE_MODEL_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def run(root, capsys):
    """Runs the check; gives its exit status and its lines."""

    def checked():
        status = main(["check"])
        return status, capsys.readouterr().out.splitlines()

    return checked


def lines_of(state, lines):
    return [line for line in lines if line.split()[0] == state]


def without(monkeypatch, package):
    version = metadata.version

    def told(name):
        if name == package:
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", told)


def damage(folder):
    with (folder / "model.pt").open("r+b") as file:
        file.write(b"harm")


def test_where_all_is_there_every_line_is_ok_and_so_is_the_exit_status(run, monkeypatch):
    monkeypatch.setenv("GLIMPSE_ENGINE", "torch")
    status, lines = run()
    assert status == 0
    assert not lines_of("missing", lines)
    told = "\n".join(lines_of("ok", lines))
    for part in ("Python 3", "flask 3", "engine torch: torch 2", "model digits", "threads"):
        assert part in told
    assert lines[-1] == "The app can serve here."


@pytest.mark.parametrize("package", ["flask", "numpy", "pillow"])
def test_a_package_that_is_needed_is_missing(run, monkeypatch, package):
    without(monkeypatch, package)
    status, lines = run()
    assert status == 1
    (line,) = lines_of("missing", lines)
    assert f"{package} is not installed: pip install -r requirements-common.txt" in line


@pytest.mark.parametrize("package", ["gunicorn", "limits", "flask-cors"])
def test_a_package_that_can_be_spared_is_a_warning(run, monkeypatch, package):
    without(monkeypatch, package)
    status, lines = run()
    assert status == 0
    assert any(f"{package} is not installed" in line for line in lines_of("warning", lines))


def test_an_old_package_is_a_warning(run, monkeypatch):
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: "2.3.1" if n == "flask" else version(n))
    status, lines = run()
    assert status == 0
    assert any("flask 2.3.1 is older than 3.1" in line for line in lines_of("warning", lines))


@pytest.mark.parametrize("old", ["23.0.0", "25.2.0", "27.0.0"])
def test_a_gunicorn_that_cannot_serve_is_missing(run, monkeypatch, old):
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: old if n == "gunicorn" else version(n))
    status, lines = run()
    assert status == 1
    assert f"gunicorn {old} is older than 27.0.1 and cannot serve" in lines_of("missing", lines)[0]


def test_without_an_engine_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    status, lines = run()
    assert status == 1
    assert "requirements-light.txt for onnxruntime" in lines_of("missing", lines)[0]


def test_each_setting_that_is_off_is_named(run, monkeypatch):
    monkeypatch.setenv("GLIMPSE_MAX_BYTES", "much")
    monkeypatch.setenv("GLIMPSE_ENGINE", "steam")
    status, lines = run()
    assert status == 1
    told = "\n".join(lines_of("missing", lines))
    assert "GLIMPSE_MAX_BYTES is 'much'" in told
    assert "GLIMPSE_ENGINE is 'steam'" in told


def test_a_setting_that_stops_the_app_is_named(run, monkeypatch):
    monkeypatch.setenv("GLIMPSE_API_KEYS", "secret")
    status, lines = run()
    assert status == 1
    (line,) = lines_of("missing", lines)
    assert "the app does not start: GLIMPSE_API_KEYS" in line
    assert "secret" not in line


def test_it_says_whether_the_database_of_reports_answers(run, monkeypatch, tmp_path):
    monkeypatch.setenv("GLIMPSE_REPORTS", f"sqlite:///{tmp_path}/reports.db")
    status, lines = run()
    assert status == 0
    assert any("reports.db answers, and holds 0" in line for line in lines_of("ok", lines))
    monkeypatch.setenv("GLIMPSE_REPORTS", f"sqlite:///{tmp_path}/none/reports.db")
    status, lines = run()
    assert status == 0  # predictions go on
    assert any("reports are refused" in line for line in lines_of("warning", lines))


def test_a_misspelt_setting_is_a_warning(run, monkeypatch):
    monkeypatch.setenv("GLIMPSE_MAX_BITES", "5")
    status, lines = run()
    assert status == 0
    assert any("GLIMPSE_MAX_BITES is not a setting" in line for line in lines_of("warning", lines))


def test_an_app_that_asks_for_a_key_is_checked_without_one(run, monkeypatch):
    monkeypatch.setenv("GLIMPSE_API_KEYS", "0" * 64)
    assert run()[0] == 0


def test_a_damaged_default_model_is_missing(run, root):
    damage(root / "digits")
    status, lines = run()
    assert status == 1
    assert "SHA-256 differs" in lines_of("missing", lines)[0]


def test_another_damaged_model_is_a_warning(run, root):
    save(script(ByInk()), card("other"), root / "other")
    damage(root / "other")
    status, lines = run()
    assert status == 0
    assert any("other: model.pt" in line for line in lines_of("warning", lines))


def test_a_default_model_that_fails_at_a_picture_is_missing(run, root):
    save(script(Brittle()), card(), root / "digits")
    status, lines = run()
    assert status == 1
    assert "model digits: The network of the model digits failed" in lines_of("missing", lines)[0]


def test_a_default_model_that_is_not_in_the_store_is_missing(run, monkeypatch):
    monkeypatch.setenv("GLIMPSE_DEFAULT_MODEL", "letters")
    status, lines = run()
    assert status == 1
    assert "model letters is not in" in lines_of("missing", lines)[0]


def test_a_store_that_is_not_there_holds_no_model(run, monkeypatch):
    monkeypatch.setenv("GLIMPSE_MODEL_STORE", "/nowhere")
    status, lines = run()
    assert status == 1
    assert "/nowhere, which holds no model" in lines_of("missing", lines)[0]


def test_without_onnxruntime_faces_are_a_warning(run, monkeypatch):
    without(monkeypatch, "onnxruntime")
    monkeypatch.setenv("GLIMPSE_ENGINE", "torch")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: (name != "onnxruntime" and find_spec(name)) or None
    )
    face_detector._session.cache_clear()
    status, lines = run()
    assert status == 0
    told = "\n".join(lines_of("warning", lines))
    assert "onnxruntime is not installed: pip install -r requirements-common.txt" in told
    assert "faces cannot be found, only crops classified: onnxruntime is not" in told
    assert not any("faces are found" in line for line in lines_of("ok", lines))


def test_a_damaged_detector_is_a_warning(run, monkeypatch, tmp_path):
    monkeypatch.setattr(face_detector, "WEIGHTS", tmp_path / "damaged.onnx")
    face_detector.WEIGHTS.write_bytes(b"harm")
    face_detector._session.cache_clear()
    status, lines = run()
    assert status == 0
    told = "\n".join(lines_of("warning", lines))
    assert "damaged.onnx cannot be read" in told and "git checkout tasks/weights" in told


def test_the_detector_is_named(run):
    told = "\n".join(lines_of("ok", run()[1]))
    assert "faces are found by libfacedetection" in told


def test_more_than_one_thread_of_torch_is_a_warning(run, monkeypatch):
    monkeypatch.setenv("GLIMPSE_ENGINE", "torch")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    status, lines = run()
    assert status == 0
    assert any("torch uses 2" in line for line in lines_of("warning", lines))


def test_it_speaks_where_nothing_is_installed():
    """-S leaves the packages out."""
    command = [sys.executable, "-S", "-m", "app", "check"]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        command, cwd=TOP, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    told = lines_of("missing", done.stdout.splitlines())
    for package in ("flask", "numpy", "pillow"):
        assert any(f"{package} is not installed" in line for line in told)

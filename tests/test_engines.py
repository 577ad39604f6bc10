"""Two engines, one answer: torch runs the TorchScript file, onnxruntime the ONNX file."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from samples import ByInk, card, script

from app import create_app, engines
from app.engines import ONNX, TORCH, NoEngineError, engine
from model_store import ROOT, StoreError, folders, load_onnx, read_card, save
from training.onnx_export import save_onnx

TOLERANCE = 1e-4  # of a score


@pytest.fixture
def folder(tmp_path):
    module = script(ByInk())
    save_onnx(module, save(module, card(), tmp_path / "digits"), tmp_path / "digits")
    return tmp_path / "digits"


def both(folder, pictures):
    """The probabilities that the two engines give for the same pictures."""
    return [engine(name).load(folder)[0](pictures) for name in ("torch", "onnx")]


def pictures(count, shape):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.parametrize("place", folders(ROOT), ids=lambda place: place.name)
def test_both_engines_agree_on_a_shipped_model(place):
    one, other = both(place, pictures(70, read_card(place).input.shape))
    assert np.abs(one - other).max() < TOLERANCE
    np.testing.assert_allclose(other.sum(axis=1), 1, atol=1e-5)


@pytest.mark.data("GLIMPSE_MNIST")
def test_both_engines_agree_on_every_fifth_digit_of_mnist_test():
    file = Path(os.environ["GLIMPSE_MNIST"]) / "t10k-images-idx3-ubyte.gz"
    content = gzip.decompress(file.read_bytes())
    tested = np.frombuffer(bytearray(content), np.uint8, offset=16).reshape(-1, 1, 28, 28)[::5]
    one, other = both(ROOT / "digits", tested)
    assert len(one) == 2000
    assert np.abs(one - other).max() < TOLERANCE
    assert (one.argmax(axis=1) == other.argmax(axis=1)).all()


def test_both_engines_answer_alike_over_http(folder, png):
    answers = []
    for name in ("torch", "onnx"):
        client = create_app({"MODEL_STORE": str(folder.parent), "ENGINE": name}).test_client()
        answer = client.post("/api/predict", data=png, content_type="image/png").get_json()
        answers.append(answer["results"][0])
    assert answers[0]["label"] == answers[1]["label"]
    assert answers[0]["score"] == pytest.approx(answers[1]["score"], abs=TOLERANCE)


def test_the_light_engine_does_without_torch():
    """It is for machines that have no room for torch, so nothing on its way may import it."""
    code = (
        "import sys; sys.modules['torch'] = None; import app; "
        "a = app.create_app({'ENGINE': 'onnx'}); "
        "print(a.test_client().get('/readyz').status_code)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "200\n", run.stderr


def damage_onnx(folder):
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)


def train_again(folder):
    save(script(ByInk()), card(version="2026.01.02-1111111"), folder)


DAMAGE = {
    "corrupt": (damage_onnx, "SHA-256"),
    "missing": (lambda folder: (folder / "model.onnx").unlink(), "no readable model.onnx"),
    "of older weights": (train_again, "has no model.onnx"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_onnx_file_is_not_loaded(folder, damage):
    harm, reason = DAMAGE[damage]
    harm(folder)
    with pytest.raises(StoreError, match=reason):
        load_onnx(folder)


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_auto_is_the_only_engine_that_is_installed(name, monkeypatch):
    package = engines.PACKAGES[name]
    monkeypatch.setattr(engines, "find_spec", lambda each: each == package or None)
    assert engine("auto") is engine(name)


LACKS = {
    "nothing": (lambda folder: None, ONNX),
    "the file": (lambda folder: (folder / "model.onnx").unlink(), TORCH),
    "the file, since trained again": (train_again, TORCH),
}


@pytest.mark.parametrize("lack", LACKS)
def test_auto_is_onnxruntime_and_torch_for_a_model_without_an_onnx_file(folder, lack):
    harm, platform = LACKS[lack]
    harm(folder)
    app = create_app({"MODEL_STORE": str(folder.parent)})
    assert app.extensions["models"].ready["digits"].platform == platform


def test_without_an_engine_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(NoEngineError, match=r"requirements-light\.txt"):
        engine("auto")


def test_first_forwards_in_several_threads_after_a_fork_all_answer():
    """Torch would build its pool of threads in each of them at once, and fail."""
    code = (
        "import os, threading, numpy as np\n"
        "from pathlib import Path\n"
        "from app.engines import engine\n"
        "network = engine('torch').load(Path('model_store/digits'))[0]\n"
        "batch = np.zeros((1, 1, 28, 28), np.uint8)\n"
        "network(batch)\n"
        "for _ in range(100):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        gate, errors = threading.Barrier(8), []\n"
        "        def first():\n"
        "            gate.wait()\n"
        "            try: network(batch)\n"
        "            except RuntimeError as error: errors.append(error)\n"
        "        threads = [threading.Thread(target=first) for _ in range(8)]\n"
        "        [thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "        os._exit(bool(errors))\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
    )
    top = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=top, timeout=120)


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_first_explanations_in_several_threads_after_a_fork_all_come(name):
    code = (
        "import os, threading, numpy as np\n"
        "from pathlib import Path\n"
        "from app.engines import engine\n"
        f"network, explain, *_ = engine({name!r}).load(Path('model_store/digits'))\n"
        "network(np.zeros((1, 1, 28, 28), np.uint8))\n"
        "picture = np.random.default_rng(0).integers(0, 256, (1, 28, 28), np.uint8)\n"
        "for _ in range(5):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        gate, heats = threading.Barrier(8), []\n"
        "        def first():\n"
        "            gate.wait()\n"
        "            heats.append(explain(picture, 3))\n"
        "        threads = [threading.Thread(target=first) for _ in range(8)]\n"
        "        [thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "        same = len(heats) == 8 and np.ptp(heats, axis=0).max() < 1e-3\n"
        "        os._exit(not same)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
    )
    top = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=top, timeout=120)


def test_a_file_that_is_no_onnx_is_named(folder):
    """Also where its SHA-256 is the card's; onnxruntime's errors have no base of their own."""
    (folder / "model.onnx").write_bytes(b"none")
    found = replace(read_card(folder), onnx_sha256=hashlib.sha256(b"none").hexdigest())
    (folder / "card.json").write_text(found.to_json())
    with pytest.raises(StoreError, match=r"model\.onnx is not a valid checkpoint"):
        load_onnx(folder)


def test_a_model_runs_on_one_thread(folder):
    """A pool of threads would not live on after a pre-forking server's fork."""
    engine("torch").load(folder)
    assert torch.get_num_threads() == 1


@pytest.mark.data("GLIMPSE_FER2013")
def test_both_engines_agree_on_every_tenth_face_of_fer2013_test():
    with np.load(os.environ["GLIMPSE_FER2013"]) as file:
        tested = file["images"][file["usage"] == 2][::10, np.newaxis]
    one, other = both(ROOT / "emotions", tested)
    assert len(one) == 359
    assert np.abs(one - other).max() < TOLERANCE
    assert (one.argmax(axis=1) == other.argmax(axis=1)).all()

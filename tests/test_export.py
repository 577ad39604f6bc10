"""Writing a checkpoint's files again from its own weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from samples import ByInk, card, script

from app.engines import engine
from model_store import load, load_onnx, load_onnx_heat, read_card, save
from training import checkpoint
from training.architectures import Classifier, build
from training.cli import main

OPTIONS = {"width": 8, "columns": 2}


@pytest.fixture
def old(tmp_path):
    """The folder of a checkpoint as they were before they held heat."""
    torch.manual_seed(0)
    classifier = Classifier(
        build("unpadded", 10, 1, OPTIONS),
        0.125,
        0.3,
        by_picture=True,
        mirror=True,
        zoom=2,
        bias=torch.linspace(-1, 1, 10),
    )
    classifier.temperature = 1.5
    recipe = {"network": {"name": "unpadded", "options": OPTIONS}, "an old key": 1}
    save(script(classifier), card(recipe=recipe), tmp_path / "digits")
    return tmp_path / "digits"


def pictures(count=8):
    return np.random.default_rng(1).integers(0, 256, (count, 1, 28, 28), np.uint8)


def test_an_old_checkpoint_gains_its_heat_and_answers_as_before(old, capsys):
    module, before = load(old)
    assert not hasattr(module, "heat")
    given = torch.from_numpy(pictures())
    with torch.inference_mode():
        expected = module(given)
    for _ in range(2):  # what was written can be written again
        assert main(["export", str(old / "model.pt")]) == 0
        module, after = load(old)
        with torch.inference_mode():
            torch.testing.assert_close(module(given), expected, rtol=0, atol=1e-6)
            heat = module.heat(given, torch.arange(8)).numpy()
        assert after.bare() == before.bare()
        session, _ = load_onnx(old)
        told, *_ = session.run(None, {"pictures": given.numpy()})
        np.testing.assert_allclose(told, expected, atol=1e-5)
        inputs = {"pictures": given.numpy(), "labels": np.arange(8)}
        (other,) = load_onnx_heat(old, session, after).run(None, inputs)
        np.testing.assert_allclose(heat, other, atol=heat.max() * 1e-4)
        assert heat.max() > 0
    assert before.version in capsys.readouterr().out


def test_a_checkpoint_of_another_make_gets_its_onnx_file(tmp_path):
    save(script(ByInk()), card(), tmp_path / "digits")
    assert main(["export", str(tmp_path / "digits")]) == 0
    one, other = (
        engine(name).load(tmp_path / "digits")[0](pictures()) for name in ("torch", "onnx")
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


def rename_architecture(recipe):
    recipe["network"]["name"] = "forgotten"


def widen(recipe):
    recipe["network"]["options"]["width"] = 16


@pytest.mark.parametrize(
    ("change", "reason"), [(rename_architecture, "forgotten"), (widen, "train it again")]
)
def test_what_cannot_be_built_again_is_left_as_it_was(old, change, reason, capsys):
    module, written = load(old)
    change(written.recipe)
    save(module, written, old)
    files = {file.name: file.read_bytes() for file in old.iterdir()}
    assert main(["export", str(old)]) == 2
    assert reason in capsys.readouterr().err
    assert files == {file.name: file.read_bytes() for file in old.iterdir()}


def test_other_answers_are_not_written(old, monkeypatch, capsys):
    """A card may name an architecture that is built otherwise by now."""

    def leaky(classes, width, columns):
        network = build("unpadded", classes, 1, {"width": width, "columns": columns})
        for column in network.columns:
            column[2] = torch.nn.LeakyReLU(0.5)
        return network

    files = {file.name: file.read_bytes() for file in old.iterdir()}
    monkeypatch.setattr(
        checkpoint, "build", lambda name, classes, channels, options: leaky(classes, **options)
    )
    assert main(["export", str(old)]) == 2
    assert "nothing was written" in capsys.readouterr().err
    assert files == {file.name: file.read_bytes() for file in old.iterdir()}


def test_the_card_beside_the_files_describes_them(old):
    main(["export", str(old)])
    values = json.loads((old / "card.json").read_text())
    assert values["size"] == (old / "model.pt").stat().st_size
    assert values["onnx_size"] == (old / "model.onnx").stat().st_size
    assert read_card(old).recipe["an old key"] == 1

"""Models that are made of others: ensembles, and networks that learn from one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import torch
from msgspec.structs import replace
from PIL import Image
from samples import encode

from app import create_app
from app.engines import engine
from model_store import current_folder, load, load_onnx, load_onnx_heat, read_card, save
from training.cli import main
from training.datasets import load as load_data
from training.distil import taught_by
from training.recipe import read

PARTS = ["one", "two"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.write_data(tmp_path_factory.mktemp("shades"))


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    """A store with two trained models."""
    place = tmp_path_factory.mktemp("store")
    for seed, name in enumerate(PARTS):
        file = tiny.write_recipe(place / f"{name}.toml", name, f"seed = {seed}")
        out = place / "runs" / name
        command = ["train", str(file), "--data", str(data), "--out", str(out), "--publish"]
        assert main([*command, "--store", str(place / "store")]) == 0
    return place / "store"


@pytest.fixture(scope="module")
def together(store, data, tmp_path_factory):
    """The folder of an ensemble of both, in the store."""
    out = tmp_path_factory.mktemp("together")
    command = ["ensemble", *PARTS, "--data", str(data), "--name", "both", "--out", str(out)]
    assert main([*command, "--publish", "--store", str(store)]) == 0
    return current_folder(store / "both")


def pictures():
    return torch.from_numpy(np.random.default_rng(5).integers(0, 256, (9, 1, 16, 16), np.uint8))


def test_an_ensemble_answers_the_mean_of_its_parts(store, together):
    given = pictures()
    whole, card = load(together)
    with torch.inference_mode():
        mean = torch.stack([load(current_folder(store / name))[0](given) for name in PARTS]).mean(0)
        told = whole(given)
    assert len(told.unique()) > 9
    warm = torch.softmax(mean.log() / card.metrics["temperature"], 1)
    torch.testing.assert_close(told, warm, rtol=0, atol=1e-6)


def test_both_forms_of_an_ensemble_answer_and_explain_alike(together):
    given, labels = pictures(), torch.arange(9) % 2
    whole, _ = load(together)
    session, card = load_onnx(together)
    (told,) = session.run(None, {"pictures": given.numpy()})
    inputs = {"pictures": given.numpy(), "labels": labels.numpy()}
    (heat,) = load_onnx_heat(together, session, card).run(None, inputs)
    with torch.inference_mode():
        np.testing.assert_allclose(told, whole(given), atol=1e-5)
        np.testing.assert_allclose(heat, whole.heat(given, labels), atol=1e-4)
    assert heat.max() > 0.1


def test_the_card_of_an_ensemble_names_its_parts(store, together, data, capsys):
    card = read_card(together)
    parts = [read_card(current_folder(store / name)) for name in PARTS]
    named = [{"name": p.name, "version": p.version, "sha256": p.sha256} for p in parts]
    assert card.recipe["ensemble"] == named
    assert card.parameters == sum(part.parameters for part in parts)
    assert all(part.version in card.description for part in parts)
    assert main(["evaluate", str(together), "--data", str(data), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["accuracy"] == card.metrics["test_accuracy"]
    assert (together / "report.json").is_file()


def test_an_ensemble_is_served(store, together):
    client = create_app({"MODEL_STORE": str(store), "DEFAULT_MODEL": "both"}).test_client()
    light = encode(Image.new("L", (40, 40), 230))
    answer = client.post("/api/predict?model=both", data=light, content_type="image/png").get_json()
    assert answer["results"][0]["label"] == "light"
    page = client.get("/models/both")
    assert page.status_code == 200
    assert "The mean of one" in page.get_data(as_text=True)


def relabel(card):
    return replace(card, labels=["light", "dark"])


def reshape(card):
    return replace(card, input=replace(card.input, shape=(1, 20, 20)))


def retask(card):
    return replace(card, task="face")


def refit(card):
    return replace(card, preprocessing={"fit": "letterbox"})


def resplit(card):
    recipe = {**card.recipe, "data": {**card.recipe["data"], "split_seed": 9}}
    return replace(card, recipe=recipe)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (relabel, "their labels, dark, light and light, dark, differ"),
        (reshape, "their inputs, 1 × 16 × 16 and 1 × 20 × 20, differ"),
        (retask, "their tasks, image and face, differ"),
        (refit, "how their pictures are prepared"),
        (resplit, r"split differently (split_seed)"),
    ],
)
def test_parts_that_do_not_fit_are_told(change, reason, *, store, data, tmp_path, capsys):
    module, card = load(current_folder(store / "two"))
    save(module, change(card), tmp_path / "other")
    command = ["ensemble", "one", str(tmp_path / "other"), "--data", str(data), "--name", "both"]
    assert main([*command, "--out", str(tmp_path / "out"), "--store", str(store)]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_ensemble_of_one_is_none(store, data, capsys):
    command = ["ensemble", "one", "--data", str(data), "--name", "both", "--store", str(store)]
    assert main(command) == 2
    assert "two models or more" in capsys.readouterr().err


def test_a_network_learns_from_another(store, together, data, tmp_path):
    file = tiny.write_recipe(tmp_path / "small.toml", more="seed = 7")
    command = ["distil", "both", str(file), "--data", str(data), "--name", "small"]
    assert main([*command, "--out", str(tmp_path / "out"), "--store", str(store)]) == 0
    card = read_card(tmp_path / "out")
    assert card.name == "small"
    assert card.data["teacher"] == f"both {read_card(together).version}"
    assert card.metrics["test_accuracy"] > 0.9
    assert engine("onnx").load(tmp_path / "out")[0](pictures().numpy()).shape == (9, 2)


def test_the_target_is_the_teachers_softened_shares_and_the_label(tmp_path, data):
    class Teacher(torch.nn.Module):
        def forward(self, given):
            return torch.tensor([[0.9, 0.1]]).expand(len(given), 2)

    recipe = read(str(tiny.write_recipe(tmp_path / "small.toml")))
    held = load_data(recipe.data, data, recipe.task)
    card = type(
        "Card", (), {"name": "t", "version": "1", "labels": ["light", "dark"], "rejects": False}
    )
    taught = taught_by(Teacher(), card, held, temperature=2.0, share=0.5)
    light = 3 / 4  # of the square roots of 0.9 and 0.1
    expected = torch.tensor(
        [[0.5 + (1 - light) / 2, light / 2], [(1 - light) / 2, 0.5 + light / 2]]
    )
    torch.testing.assert_close(taught.training.shares, expected[held.training.labels])
    assert taught.validation is held.validation
    assert taught.test is held.test


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("size = 16", "size = 20", "takes pictures of 1 × 16 × 16, small of 1 × 20 × 20"),
        ("validation = 20", "validation = 10", "split differently (validation)"),
        ('task = "image"', 'task = "face"', "two is of the task image, small of face"),
    ],
)
def test_a_teacher_that_does_not_fit_is_told(old, new, reason, *, store, data, tmp_path, capsys):
    file = tiny.write_recipe(tmp_path / "small.toml")
    file.write_text(file.read_text().replace(old, new))
    command = ["distil", "two", str(file), "--data", str(data), "--name", "small"]
    assert main([*command, "--out", str(tmp_path / "out"), "--store", str(store)]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--share", "--temperature"])
def test_a_teacher_counts_for_something(option, capsys):
    assert main(["distil", "one", "small.toml", "--name", "small", option, "0"]) == 2
    assert f"{option} must be above 0" in capsys.readouterr().err

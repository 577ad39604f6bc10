"""Networks that tell what shows none of their labels: trained, served and used further."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from samples import card, encode, script

import model_store
from app import create_app
from app.engines import engine
from training import datasets, loop, recipe, report
from training.cli import main
from training.datasets import Part
from training.distil import taught_by


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Dark pictures and light ones, and as many that are striped: none of both."""
    folder = tiny.write_data(tmp_path_factory.mktemp("data"))
    pictures = np.load(folder / "train_data.npy")
    stripes = np.random.default_rng(1).integers(0, 60, (100, 16, 16))
    stripes[:, :, ::2] += 190
    np.save(folder / "train_data.npy", np.concatenate([pictures, stripes.astype(np.uint8)]))
    labels = np.load(folder / "train_labels.npy")
    np.save(folder / "train_labels.npy", np.concatenate([labels, np.full(100, 2)]))
    return folder


def write_recipe(file, name):
    tiny.write_recipe(file, name=name, more="most_refused = 0.1")
    text = file.read_text().replace('["dark", "light"]', '["dark", "none", "light"]')
    text = text.replace("[data]", '[data]\nreject = "none"').replace("epochs = 2", "epochs = 6")
    file.write_text(text.replace('"none", "light"]', '"light", "none"]'))
    return file


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    """A store with two models that reject."""
    root = tmp_path_factory.mktemp("store")
    for name, seed in (("one", 0), ("two", 1)):
        file = write_recipe(root / f"{name}.toml", name)
        file.write_text(f"seed = {seed}\n" + file.read_text())
        assert main(["train", str(file), "--data", str(data), "--out", str(root / name)]) == 0
    return root


def shown(kind):
    """A picture of that kind, as a PNG."""
    random = np.random.default_rng(7)
    pixels = random.integers(0, 60 if kind == "striped" else 160, (16, 16))
    if kind == "striped":
        pixels[:, ::2] += 190
    return encode(Image.fromarray(pixels.astype(np.uint8)))


def test_the_card_and_the_report_tell_what_is_refused(store):
    made = model_store.read_card(store / "one")
    assert made.labels == ["dark", "light"]
    assert made.rejects
    assert 0 < made.thresholds["none"] < 1
    assert made.metrics["test_others_caught"] > 0.8
    assert made.metrics["test_refused"] < 0.3
    assert made.metrics["test_count"] + made.metrics["test_others_count"] == 20
    assert len(made.metrics["test_recall"]) == 2
    text = (store / "one" / "report.txt").read_text()
    assert f"of {made.metrics['test_count']} these" in text
    assert f"of {made.metrics['test_others_count']} others" in text


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_serving_gives_the_labels_alone_and_the_verdict(kind, store):
    app = create_app({"MODEL_STORE": str(store), "DEFAULT_MODEL": "one", "ENGINE": kind})
    client = app.test_client()
    for name, verdicts in (("dark", {"sure", "unsure"}), ("striped", {"none"})):
        answer = client.post("/api/predict", data=shown(name), content_type="image/png").get_json()
        (result,) = answer["results"]
        assert result["verdict"] in verdicts
        assert {each["label"] for each in result["predictions"]} == {"dark", "light"}
        assert sum(each["score"] for each in result["predictions"]) == pytest.approx(1)
    assert client.get("/v2/models/one").get_json()["outputs"][0]["shape"] == [-1, 2]
    tensor = {"name": "pictures", "datatype": "UINT8", "shape": [1, 1, 16, 16], "data": [9] * 256}
    given = client.post("/v2/models/one/infer", json={"inputs": [tensor]}).get_json()
    assert sum(given["outputs"][0]["data"]) == pytest.approx(1)
    assert len(given["outputs"][0]["data"]) == 2
    page = client.get("/models/one").text
    assert "Refused by mistake" in page
    assert "Can the scores be trusted?" in page


def test_a_threshold_and_a_network_must_fit(tmp_path):
    class Even(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return torch.full([pictures.size(0), 2], 0.5)

    bad = card("even", task="image", labels=["a", "b"], thresholds={"none": 0.5})
    model_store.save(script(Even()), bad, tmp_path / "even")
    app = create_app({"MODEL_STORE": str(tmp_path), "DEFAULT_MODEL": "even"})
    answer = app.test_client().post("/api/predict", data=shown("dark"), content_type="image/png")
    assert answer.status_code == 503
    assert "2 labels and a threshold “none”" in answer.get_json()["detail"]


def test_it_is_evaluated_and_exported_again(store, data, capsys):
    assert main(["evaluate", "one", "--data", str(data), "--store", str(store)]) == 0
    assert "others" in capsys.readouterr().out
    before = model_store.read_card(store / "one")
    assert main(["export", "one", "--store", str(store)]) == 0
    assert model_store.read_card(store / "one").metrics == before.metrics


def test_an_ensemble_and_a_pupil_reject_too(store, data, tmp_path):
    command = ["ensemble", "one", "two", "--data", str(data), "--name", "both"]
    assert main([*command, "--store", str(store), "--out", str(tmp_path / "both")]) == 0
    made = model_store.read_card(tmp_path / "both")
    assert made.rejects
    assert made.metrics["test_others_caught"] > 0.8
    assert engine("onnx").load(tmp_path / "both")[0](np.zeros((3, 1, 16, 16), np.uint8)).shape == (
        3,
        3,
    )
    file = write_recipe(tmp_path / "small.toml", "small")
    command = ["distil", str(tmp_path / "both"), str(file), "--data", str(data), "--name", "small"]
    assert main([*command, "--out", str(tmp_path / "small")]) == 0
    assert model_store.read_card(tmp_path / "small").metrics["test_others_caught"] > 0.8


def test_a_teacher_that_does_not_reject_leaves_that_to_the_labels(data, tmp_path):
    class Teacher(torch.nn.Module):
        def forward(self, given):
            return torch.tensor([[0.9, 0.1]]).expand(len(given), 2)

    read = recipe.read(str(write_recipe(tmp_path / "small.toml", "small")))
    held = datasets.load(read.data, data, "image")
    teacher = card("t", labels=["dark", "light"])
    shares = taught_by(Teacher(), teacher, held, temperature=1.0, share=0.5).training.shares
    labels = held.training.labels
    torch.testing.assert_close(
        shares[labels == 2], torch.tensor([[0.0, 0, 1]]).expand(int((labels == 2).sum()), 3)
    )
    assert shares[labels == 0][0].tolist() == pytest.approx([0.95, 0.05, 0], abs=1e-6)


@pytest.mark.parametrize("rejects", [True, False])
def test_a_network_that_rejects_goes_on_from_one_that_does_not_and_back(
    rejects, *, store, data, tmp_path, monkeypatch
):
    monkeypatch.setenv("GLIMPSE_MODEL_STORE", str(store))
    plain = tiny.write_data(tmp_path / "plain")
    if rejects:
        base = tiny.write_recipe(tmp_path / "plain.toml", name="base")
        out = tmp_path / "base"
        assert main(["train", str(base), "--data", str(plain), "--out", str(out)]) == 0
        file, given = write_recipe(tmp_path / "next.toml", "next"), data
    else:
        out, file, given = store / "one", tiny.write_recipe(tmp_path / "next.toml"), plain
    network = file.read_text().partition("[network]")[2].partition("[optimiser]")[0]
    file.write_text(file.read_text().replace(network, f'\nfrom = "{out}"\n\n'))
    read = recipe.read(str(file))
    run = loop.Run(read, datasets.load(read.data, given, "image"))
    own = run.classifier.network.state_dict()
    held = getattr(module := model_store.load(out)[0], "classifier", module).network.state_dict()
    *_, weight, bias = own
    assert len(own[bias]) == 2 + rejects
    torch.testing.assert_close(own[weight][:2], held[weight][:2])


def test_the_threshold_lets_few_pictures_of_a_label_be_refused():
    scores = torch.tensor([[1 - share, 0, share] for share in np.linspace(0, 0.99, 100)])
    labels = torch.zeros(100, dtype=torch.int64)
    part = Part(torch.zeros(100, 1, 1, 1, dtype=torch.uint8), labels)
    threshold = loop.reject_threshold(scores.float(), part, 0.05)
    tested = report.Tested.of(labels, scores.float(), 2, {"none": threshold})
    assert tested.figures()["refused"] == pytest.approx(0.05)
    assert "others_caught" not in tested.figures()

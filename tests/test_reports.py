"""Reports and logs of a run, for any number of classes with any names."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image
from samples import card, script

import model_store
from app import create_app
from model_store import save
from training import report, train
from training.api import checkpoint_folder, cross_validate
from training.cli import main
from training.errors import TrainingError
from training.recipe import DataRecipe, NetworkRecipe, OptimiserRecipe, Recipe

TOP = Path(__file__).resolve().parent.parent
NAMES = ["$a_b$", "$", "猫", "🐱", "a[x]", "x" * 250, "new\nline", "accuracy", 'q"uote', "\\frac"]
LIGHT = Recipe(
    name="light",
    description="Dark pictures and light ones.",
    task="image",
    network=NetworkRecipe("vgg", {"widths": [8], "depths": [1]}),
    data=DataRecipe(name="folders", size=16, validation=0.2, test=0.2),
    optimiser=OptimiserRecipe("Adam", {"lr": 0.01}),
    epochs=2,
    batch_size=20,
)


TOML = """
name = "light"
description = ""
task = "image"
epochs = 2
batch_size = 20
network = { name = "vgg", widths = [8], depths = [1] }
data = { name = "folders", size = 16, validation = 0.2 }
"""


def answers(classes, count, right=0.6):
    """The true labels (N,) and probabilities (N, K) of a model that is right so often."""
    chooser = np.random.default_rng(0)
    truth = chooser.integers(0, classes, count)
    told = np.where(chooser.random(count) < right, truth, (truth + 1) % classes)
    probabilities = chooser.random((count, classes), dtype=np.float32)
    probabilities[np.arange(count), told] += 1
    return truth, probabilities / probabilities.sum(1, keepdims=True)


class Many(torch.nn.Module):
    """Answers with so many labels, each as likely as the others."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.full((len(pictures), self.count), 1 / self.count)


def pictures(folder, count=20):
    """A folder for each of two classes with so many pictures."""
    chooser = np.random.default_rng(0)
    for name, grey in (("dark", 60), ("light", 190)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = chooser.integers(grey - 40, grey + 40, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pictures(tmp_path_factory.mktemp("pictures") / "all")


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A whole run, logged for TensorBoard, and the lines that it said."""
    said = []
    out = tmp_path_factory.mktemp("runs") / "light"
    return train(LIGHT, folder, out=out, log="tensorboard", say=said.append), said


def test_a_report_takes_any_names(tmp_path):
    """Warnings are errors here: names that no font can draw are not warned of."""
    report.write(tmp_path, NAMES, report.Tested(*answers(len(NAMES), 200)))
    figures = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert set(NAMES) <= set(figures)
    assert np.sum(figures["confusion_matrix"]) == 200
    lines = (tmp_path / "report.txt").read_text("utf-8").splitlines()
    assert any(line.split()[0] == "new" for line in lines if line)
    assert max(map(len, lines)) < 90
    for file in ("confusion_matrix.png", "precision_recall.png", "reliability.png", "report.png"):
        with Image.open(tmp_path / file) as drawn:
            assert max(drawn.size) < 2000


def test_many_classes_are_reported_by_what_is_confused_most(tmp_path):
    (tmp_path / "confusion_matrix.png").write_text("an older report's")
    names = [f"class {index}" for index in range(report.MANY + 1)]
    truth, probabilities = answers(len(names), 500)
    report.write(tmp_path, names, report.Tested(truth, probabilities))
    figures = json.loads((tmp_path / "report.json").read_text())
    assert {"confusion_matrix", "precision_recall"}.isdisjoint(figures)
    counts = [count for *_, count in figures["confusions"]]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == (probabilities.argmax(1) != truth).sum()
    true, told, _ = figures["confusions"][0]
    assert names.index(told) == (names.index(true) + 1) % len(names)
    assert figures["class 7"]["support"] == (truth == 7).sum()
    pictures = {file.name for file in tmp_path.glob("*.png")}
    assert pictures == {"confusions.png", "reliability.png"}


def test_the_page_of_many_classes_shows_the_weakest_and_what_is_confused(tmp_path):
    names = [f"class {index}" for index in range(report.MANY + 1)]
    truth, probabilities = answers(len(names), 500)
    many = card("many", task="image", labels=names)
    save(script(Many(len(names))), many, tmp_path / "many")
    report.write(tmp_path / "many", names, report.Tested(truth, probabilities))
    app = create_app({"MODEL_STORE": str(tmp_path), "DEFAULT_MODEL": "many"})
    page = app.test_client().get("/models/many").text
    shown = re.search(r'data-testid="confused">(.*?)</ol>', page, re.S)[1]
    figures = json.loads((tmp_path / "many" / "report.json").read_text())
    true, told, _ = figures["confusions"][0]
    assert f"<b>{true}</b> taken for <b>{told}</b>" in shown
    weakest = re.search(r'data-testid="classes">(.*?)</table>', page, re.S)[1]
    assert weakest.count('<th scope="row">') == 10
    every = re.search(r'data-testid="all-classes">(.*?)</table>', page, re.S)[1]
    assert every.count('<th scope="row">') == len(names) + 1  # and their mean
    assert "and 15 more" in page


def test_the_reliability_diagram_shows_the_calibration_error(tmp_path):
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 5, np.float32)
    truth = np.array([0] * 8 + [1] * 2 + [1] * 3 + [0] * 2)
    report.write(tmp_path, ["a", "b"], report.Tested(truth, probabilities))
    figures = json.loads((tmp_path / "report.json").read_text())
    assert figures["reliability"] == [[0.6, 0.6, 5], [0.9, 0.8, 10]]
    assert report.calibration_error(truth, probabilities) == pytest.approx(10 / 15 * 0.1)


@pytest.mark.parametrize(("count", "advice"), [(40, True), (4000, False)])
def test_few_test_pictures_are_said_to_tell_little(count, advice):
    truth, probabilities = answers(2, count, right=0.9)
    text = report.table(report.Tested(truth, probabilities), ["a", "b"])
    low, high = report.metrics(truth, probabilities)["accuracy_interval"]
    assert f"{low:.2%} to {high:.2%}" in text
    assert ("few test" in text) == advice


def test_training_from_python_returns_what_the_card_says(trained):
    result, said = trained
    card = model_store.read_card(result.folder)
    assert card == result.card
    assert result.accuracy == card.metrics["test_accuracy"] > 0.5
    assert result.interval[0] < result.accuracy <= result.interval[1]
    assert result.reached and result.published is None
    assert any("few test pictures" in line for line in said)
    assert (result.folder / "train.log").read_text().splitlines() == said


def test_each_epoch_is_in_the_history_and_in_tensorboards_log(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result, _ = trained
    with (result.folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    told = [float(row["validation_loss"]) for row in rows]
    assert told == [epoch["validation_loss"] for epoch in result.history]
    assert json.loads((result.folder / "history.json").read_text()) == result.history
    events = EventAccumulator(str(result.folder / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss/validation")] == [1, 2]


def test_without_tensorboard_a_sentence_says_what_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(TrainingError, match="pip install tensorboard"):
        train(LIGHT, folder, out=tmp_path, log="tensorboard")


def test_the_curves_are_drawn_while_the_run_goes_on(folder, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("training.progress.BETWEEN", 0)
    monkeypatch.setattr(report, "draw_curves", lambda history, _: drawn.append(len(history)))
    train(LIGHT, folder, out=tmp_path, say=lambda _: None)
    assert drawn == [1, 2, 2]


def test_a_report_that_fails_loses_nothing(folder, tmp_path, monkeypatch, capsys):
    recipe = tmp_path / "light.toml"
    recipe.write_text(TOML)
    out = tmp_path / "out"
    store = ["--publish", "--store", str(tmp_path / "store")]
    with monkeypatch.context() as patch:
        patch.setattr(report, "draw_matrix", lambda *_: 1 / 0)
        assert main(["train", str(recipe), "--data", str(folder), "--out", str(out), *store]) == 3
    said = capsys.readouterr().err
    assert "division by zero" in said and f"evaluate {out} --write" in said
    published = model_store.current_folder(tmp_path / "store" / "light")
    assert model_store.load(published)[1].name == "light"
    assert not (out / "confusion_matrix.png").exists()
    assert main(["evaluate", str(out), "--data", str(folder), "--write"]) == 0
    assert (out / "confusion_matrix.png").exists()


@pytest.mark.parametrize("split", [None, "random"])
def test_folds_of_any_pictures_are_tested_each(folder, tmp_path, split):
    small = replace(LIGHT, epochs=1, data=replace(LIGHT.data, folds=3))
    said = []
    found = cross_validate(small, folder, split=split, out=tmp_path, say=said.append)
    assert found.figures["count"] == 40  # each picture once
    assert len(found.folds) == 3
    told = json.loads((tmp_path / "folds.json").read_text())
    assert told["split"] == (split or "stratified")
    assert (tmp_path / "fold-2" / "train.log").is_file()
    assert sum("Test accuracy" in line for line in said) == 3


def test_a_model_has_a_name_of_its_own_and_tells_its_recipe(folder, tmp_path):
    result = train(
        LIGHT, folder, name="garden", epochs=1, limit=16, device="cpu", out=tmp_path / "run",
        publish=tmp_path / "store", say=lambda _: None,
    )  # fmt: skip
    place = tmp_path / "store" / "garden" / "versions" / result.card.version
    assert result.published == place == model_store.current_folder(tmp_path / "store" / "garden")
    assert (result.card.name, result.card.recipe["name"]) == ("garden", "light")
    assert result.card.data["training"] == 16
    app = create_app({"MODEL_STORE": str(tmp_path / "store"), "DEFAULT_MODEL": "garden"})
    page = app.test_client().get("/models/garden").text
    assert "train light.toml --data DIR --name garden --publish" in page
    assert "These are few" in page


def test_a_range_test_suggests_a_learning_rate(folder, tmp_path, capsys):
    recipe = tmp_path / "light.toml"
    recipe.write_text(TOML)
    out = tmp_path / "rates"
    arguments = ["lr-range", str(recipe), "--data", str(folder), "--out", str(out)]
    assert main(arguments) == 0
    suggested = float(re.search(r"lr = (\S+) ", capsys.readouterr().out)[1])
    with (out / "lr_range.csv").open(newline="") as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file)]
    assert rates == sorted(rates)
    assert rates[0] < suggested < rates[-1]
    assert (out / "lr_range.png").is_file()


def test_an_unfit_name_is_refused_before_training(folder, capsys):
    arguments = ["train", "images", "--data", str(folder), "--name", "my garden"]
    assert main(arguments) == 2
    assert "letters, digits, - and _" in capsys.readouterr().err


def test_list_and_help_do_without_torch():
    start = "import sys; sys.modules['torch'] = None; from training.cli import main; main(['list'])"
    command = [sys.executable, "-c", start]
    said = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True).stdout
    assert "images " in said and "digits-baseline " in said


def test_a_model_is_found_beside_a_folder_of_pictures_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "garden").mkdir()
    save(script(Many(2)), card("garden", labels=["a", "b"]), tmp_path / "store" / "garden")
    assert checkpoint_folder("garden", "store").resolve() == tmp_path / "store" / "garden"

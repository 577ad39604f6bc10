"""The search for a recipe's best settings."""

from __future__ import annotations

import re

import optuna
import pytest
import tiny

from model_store import read_card
from training import recipe as recipes
from training import search
from training.cli import main
from training.errors import TrainingError

SEARCH = """
[search]
"optimiser.lr" = { low = 1e-4, high = 0.05, log = true }
batch_size = { low = 8, high = 32 }
"network.widths" = { choices = [[2, 4], [4, 8]] }
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.write_data(tmp_path_factory.mktemp("shades"))


@pytest.fixture(scope="module")
def searched(data, tmp_path_factory):
    """The recipe's file, and the folder of a search."""
    place = tmp_path_factory.mktemp("search")
    file = tiny.write_recipe(place / "shades.toml")
    file.write_text(file.read_text() + SEARCH)
    assert main(command(file, data, place / "out", trials=9)) == 0
    return file, place / "out"


def command(file, data, out, *more, trials):
    given = ["search", str(file), "--data", str(data), "--out", str(out)]
    return [*given, "--trials", str(trials), *more]


def stored(out):
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{out / search.DATABASE}")
    return [trial for trial in study.trials if trial.state.is_finished()]


def test_the_best_on_validation_becomes_a_recipe_that_trains(searched, data, tmp_path):
    file, out = searched
    ended = [trial for trial in stored(out) if trial.state.name == "COMPLETE"]
    highest = max(trial.value for trial in ended)
    found = recipes.read(str(out / "best.toml"))
    assert {
        "optimiser.lr": found.optimiser.options["lr"],
        "batch_size": found.batch_size,
        "network.widths": str(found.network.options["widths"]),
    } in [trial.params for trial in ended if trial.value == highest]
    own = recipes.read(str(file))
    assert (found.name, found.data, found.epochs) == ("shades-best", own.data, own.epochs)
    assert main(["train", str(out / "best.toml"), "--data", str(data), "--out", str(tmp_path)]) == 0
    card = read_card(tmp_path)
    assert card.metrics["validation_accuracy"] == pytest.approx(highest)


def test_settings_worse_than_the_median_are_stopped(searched):
    trials = stored(searched[1])
    assert len(trials) == 9
    stopped = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert stopped
    assert all(len(trial.intermediate_values) == 1 for trial in stopped)


def test_the_table_and_the_picture_tell_what_mattered(searched):
    _, out = searched
    text = (out / "search.md").read_text(encoding="utf-8")
    shown = [float(share) for share in re.findall(r"^\| [\w.]+ \| (\d\.\d\d) \|$", text, re.M)]
    assert len(shown) == 3
    assert sum(shown) == pytest.approx(1, abs=0.02)
    trials = stored(out)
    stopped = sum(trial.state.name == "PRUNED" for trial in trials)
    assert len(re.findall(r"^\| \d+ \| stopped \|", text, re.M)) == stopped
    assert len(re.findall(r"^\| \d+ \| \d+\.\d\d% \|", text, re.M)) == 9 - stopped
    assert "own settings, as long: validation accuracy 100.00%. No trial was better." in text
    assert (out / "search.png").read_bytes().startswith(b"\x89PNG")


def test_a_search_goes_on_where_it_was_and_tries_nothing_twice(searched, data, capsys):
    file, out = searched
    before = [trial.params for trial in stored(out)]
    assert main(command(file, data, out, "--resume", trials=11)) == 0
    params = [trial.params for trial in stored(out)]
    assert params[:9] == before
    assert len({str(each) for each in params}) == 11
    assert "The recipe's own settings" not in capsys.readouterr().out.splitlines()[0]


def test_an_interrupted_search_says_how_to_go_on(data, tmp_path, monkeypatch, capsys):
    file = tiny.write_recipe(tmp_path / "shades.toml")
    trained = search._trained

    def interrupted(recipe, held, trial, device):
        if trial is not None:
            raise KeyboardInterrupt
        return trained(recipe, held, trial, device)

    monkeypatch.setattr(search, "_trained", interrupted)
    assert main(command(file, data, tmp_path / "out", trials=2)) == 130
    assert "continue with --resume" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(command(file, data, tmp_path / "out", "--resume", trials=2)) == 0


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ([], "add --resume"),
        (["--resume", "--epochs", "1"], "another recipe, --epochs"),
        (["--resume", "--limit", "30"], "another recipe, --epochs, --limit"),
        (["--limit", "1"], "--limit must be 2 or more"),
    ],
)
def test_another_search_does_not_continue_this_one(searched, data, more, reason, capsys):
    file, out = searched
    assert main(command(file, data, out, *more, trials=20)) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("search_table", "reason"),
    [
        ('"optimiser.lr" = { low = 1.0 }', "needs “low” and “high”"),
        ('"optimiser.lr" = { low = 2.0, high = 1.0 }', "“low” must be less"),
        ('"optimiser.lr" = { low = 0.0, high = 1.0, log = true }', "above 0"),
        ('"name.of" = { choices = [1, 2] }', "“name.of” of “search” is not one"),
        ("batch_sise = { choices = [8, 16] }", "unknown key “batch_sise”"),
    ],
)
def test_a_search_of_what_cannot_be_set_is_refused(search_table, reason, data, tmp_path, capsys):
    file = tiny.write_recipe(tmp_path / "shades.toml")
    file.write_text(f"{file.read_text()}\n[search]\n{search_table}\n")
    assert main(command(file, data, tmp_path / "out", trials=1)) == 2
    assert reason in capsys.readouterr().err


def test_losses_under_different_smoothing_are_not_compared(tmp_path):
    file = tiny.write_recipe(tmp_path / "shades.toml", more='choose_by = "loss"')
    file.write_text(file.read_text() + "\n[search]\nlabel_smoothing = { low = 0.0, high = 0.1 }\n")
    with pytest.raises(TrainingError, match="cannot be compared"):
        search.search(file)


@pytest.mark.parametrize("name", recipes.shipped())
def test_a_recipe_is_written_as_it_is_read(name):
    recipe = recipes.read(name)
    assert recipes.from_table(recipes.to_table(recipe), name) == recipe


@pytest.mark.parametrize("name", recipes.shipped())
def test_every_shipped_recipe_has_settings_to_try(name):
    recipe = recipes.fitted(recipes.read(name), 1000)
    tried = search.ranges(recipe)
    assert {"optimiser.lr", "batch_size", "augmentation.rotation"} <= tried.keys()
    changed = {
        key: values.choices[0] if values.choices else values.low for key, values in tried.items()
    }
    assert search.with_settings(recipe, changed) != recipe

"""The training package, from recipe to served checkpoint."""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import encode
from torch.nn import functional

import model_store
from app import create_app
from tasks.normaliser import normalise
from training import datasets, loop, recipe, report
from training.architectures import Classifier, build
from training.cli import main
from training.datasets.parts import Data, Part
from training.errors import TrainingError
from training.handwriting import write
from training.recipe import DataRecipe, FineTuneRecipe, NetworkRecipe, Recipe

TOP = Path(__file__).resolve().parent.parent

TINY = """
name = "tiny"
description = "A network that learns in seconds."
task = "digit"
epochs = 4
batch_size = 40
schedule = "one-cycle"
label_smoothing = 0.05
average = 0.5
seed = 3

[data]
name = "mnist"
validation = 100
handwriting = 50

[network]
name = "baseline"
drop_rate = 0.1

[optimiser]
name = "AdamW"
lr = 2e-3

[augmentation]
rotation = 5.0
shift = 1.0
"""


def idx(values):
    header = struct.pack(f">{values.ndim + 1}I", 0x0800 + values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """MNIST's four files, of synthetic handwriting as it is served; two of them gzipped."""
    folder = tmp_path_factory.mktemp("mnist")
    for train, count, seed in ((True, 500, 1), (False, 120, 2)):
        pictures, labels = write(count, seed)
        images_name, labels_name = datasets.mnist.MNIST_FILES[train]
        normal = [normalise(Image.fromarray(picture)) for picture in pictures[:, 0].numpy()]
        (folder / images_name).write_bytes(idx(np.stack(normal)))
        (folder / f"{labels_name}.gz").write_bytes(gzip.compress(idx(labels.numpy())))
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="module")
def run(data, tiny, tmp_path_factory):
    """The folder of a whole run."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", str(tiny), "--data", str(data), "--out", str(out)]) == 0
    return out


@pytest.fixture
def command(data, tiny, tmp_path):
    """Trains the tiny recipe into `tmp_path`."""
    return ["train", str(tiny), "--data", str(data), "--out", str(tmp_path)]


def weights(folder):
    return torch.load(folder / "state.pt", weights_only=True)["classifier"]


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_what_is_trained_is_served(run, tmp_path):
    """Train, export, serve, predict."""
    store = tmp_path / "store"
    store.mkdir()
    (store / "tiny").symlink_to(run)
    client = create_app({"MODEL_STORE": str(store), "DEFAULT_MODEL": "tiny"}).test_client()
    pictures, labels = write(50, seed=9)
    files = [
        (io.BytesIO(encode(Image.fromarray(picture[0].numpy()).resize((200, 200)))), "a.png")
        for picture in pictures
    ]
    results = client.post("/api/predict", data={"file": files}).get_json()["results"]
    right = sum(r["label"] == str(int(y)) for r, y in zip(results, labels, strict=True))
    assert right > 35


def test_a_run_leaves_its_report(run):
    names = {file.name for file in run.iterdir()}
    assert names >= {"model.pt", "card.json", "train.log", "history.json", "curves.png"}
    assert names >= {"report.txt", "report.json", "report.png", "confusion_matrix.png"}
    figures = json.loads((run / "report.json").read_text())
    assert np.sum(figures["confusion_matrix"]) == 120
    card = model_store.read_card(run)
    assert figures["accuracy"] == pytest.approx(card.metrics["test_accuracy"])
    assert np.trace(figures["confusion_matrix"]) / 120 == pytest.approx(figures["accuracy"])
    for file in run.glob("*.png"):
        assert file.read_bytes().startswith(b"\x89PNG")


def test_the_log_has_a_line_an_epoch_and_one_for_each_best(run):
    lines = (run / "train.log").read_text().splitlines()
    form = (
        r"Epoch \[\d/4\]  Train Loss: \d\.\d{4} \| Train Acc: \d+\.\d\d%  \|\| "
        r"Val Loss: \d\.\d{4} \| Val Acc: \d+\.\d\d%"
    )
    assert sum(bool(re.fullmatch(form, line)) for line in lines) == 4
    assert any(line.startswith("New best") for line in lines)


def test_the_best_epoch_is_exported(run):
    history = json.loads((run / "history.json").read_text())
    card = model_store.read_card(run)
    best = max(
        range(4),
        key=lambda epoch: (
            history[epoch]["validation_accuracy"],
            -history[epoch]["validation_loss"],
        ),
    )
    assert card.metrics["best_epoch"] == best + 1
    assert card.metrics["validation_accuracy"] == history[best]["validation_accuracy"]


def test_the_best_is_kept_when_later_epochs_are_worse(data, tiny):
    held = loop.Run(
        recipe.read(str(tiny)), datasets.load(DataRecipe(validation=100), data, "digit")
    )
    for accuracy, loss in ((0.5, 1.0), (0.9, 0.5), (0.9, 0.4), (0.7, 0.1)):
        held.history.append({"validation_accuracy": accuracy, "validation_loss": loss})
        held.keep_if_best()
    assert held.best_epoch == 3


def test_the_validation_loss_is_smoothed_as_the_training_loss():
    def answer(pictures):
        return torch.tensor([[0.9, 0.1]]).expand(len(pictures), 2)

    module = torch.nn.Module()
    module.forward = answer
    part = datasets.Part(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), torch.tensor([0, 0]))
    loss, accuracy = loop.evaluate(module, part, 0.2)
    assert loss == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    assert accuracy == 1


def test_evaluate_agrees_with_the_card(run, data, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(run), "--data", str(data), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["accuracy"] == model_store.read_card(run).metrics["test_accuracy"]
    arguments = ["evaluate", str(run / "model.pt"), "--data", str(data), "--split", "validation"]
    assert main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["accuracy"] == pytest.approx(
        model_store.read_card(run).metrics["validation_accuracy"]
    )


def test_evaluate_prints_the_report(run, data, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(run), "--data", str(data)]) == 0
    said = capsys.readouterr().out
    assert "macro F1" in said
    assert (run / "report.txt").read_text() in said


@pytest.mark.parametrize("file", ["state.pt", "none.pt"])
def test_evaluate_takes_no_other_file_for_a_checkpoint(run, data, capsys, file):
    assert main(["evaluate", str(run / file), "--data", str(data)]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_network(run, data, tiny, tmp_path):
    assert main(["train", str(tiny), "--data", str(data), "--out", str(tmp_path)]) == 0
    assert same(weights(run), weights(tmp_path))
    assert model_store.read_card(run).version == model_store.read_card(tmp_path).version


def test_a_resumed_run_ends_as_an_uninterrupted_one(run, data, tiny, tmp_path, monkeypatch):
    whole_epoch, calls = loop.Run.epoch, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 3:
            torch.rand(7)  # a half-done epoch leaves the random state anywhere
            raise KeyboardInterrupt
        return whole_epoch(self)

    monkeypatch.setattr(loop.Run, "epoch", interrupted)
    arguments = ["train", str(tiny), "--data", str(data), "--out", str(tmp_path)]
    assert main(arguments) == 130
    assert main([*arguments, "--resume"]) == 0
    assert same(weights(run), weights(tmp_path))
    assert (tmp_path / "model.pt").is_file()


@pytest.fixture(scope="module")
def fine_tuned(data, tmp_path_factory):
    """A command that trains with fine-tuning into the folder that is added, and what it made."""
    folder = tmp_path_factory.mktemp("fine-tuned")
    file = folder / "fine-tuned.toml"
    text = TINY.replace("epochs = 4", 'epochs = 2\nchoose_by = "loss"')
    text += "[fine_tune]\nepochs = 2\nlr = 1e-3\nhandwriting = 0.2\n"
    file.write_text(text + "[fine_tune.augmentation]\nshift = 0.5\n")
    arguments = ["train", str(file), "--data", str(data), "--out"]
    assert main([*arguments, str(folder / "whole")]) == 0
    assert "Epoch [4/4]" in (folder / "whole" / "train.log").read_text()
    return arguments, folder / "whole"


@pytest.mark.parametrize("call", [2, 3, 4], ids=["before", "at its start", "within"])
def test_fine_tuning_is_resumed_too(fine_tuned, tmp_path, monkeypatch, call):
    (arguments, whole), resumed = fine_tuned, tmp_path / "resumed"
    whole_epoch, calls = loop.Run.epoch, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return whole_epoch(self)

    monkeypatch.setattr(loop.Run, "epoch", interrupted)
    assert main([*arguments, str(resumed)]) == 130
    assert main([*arguments, str(resumed), "--resume"]) == 0
    assert same(weights(whole), weights(resumed))


def test_the_best_may_be_chosen_by_loss(data, tmp_path):
    file = tmp_path / "by-loss.toml"
    file.write_text(TINY.replace("seed = 3", 'seed = 3\nchoose_by = "loss"'))
    held = loop.Run(
        recipe.read(str(file)), datasets.load(DataRecipe(validation=100), data, "digit")
    )
    for accuracy, loss in ((0.9, 0.5), (0.7, 0.1), (0.8, 0.2)):
        held.history.append({"validation_accuracy": accuracy, "validation_loss": loss})
        held.keep_if_best()
    assert held.best_epoch == 2


def test_ctrl_c_leaves_a_usable_state(data, tiny, tmp_path):
    # A shell lets what it runs in the background ignore Ctrl-C: here it is listened to in any case.
    start = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from training.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", start, "train", str(tiny), "--epochs", "500"]
    command += ["--data", str(data), "--out", str(tmp_path)]
    with subprocess.Popen(
        command,
        cwd=TOP,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while not (tmp_path / "state.pt").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "--resume" in said
    assert "Traceback" not in said
    assert torch.load(tmp_path / "state.pt", weights_only=True)["history"]


def test_a_reader_that_closes_the_pipe_is_no_error():
    command = [sys.executable, "-m", "training", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (1, b"")


def test_ctrl_c_in_the_first_epoch_promises_nothing(command, monkeypatch, capsys):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Run, "epoch", interrupted)
    assert main(command) == 130
    assert "--resume" not in capsys.readouterr().err


def test_patience_ends_a_run(data, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "evaluate", lambda *_: (1.0, 0.5))
    file = tmp_path / "patient.toml"
    file.write_text(TINY.replace("epochs = 4", "epochs = 4\npatience = 1"))
    main(["train", str(file), "--data", str(data), "--out", str(tmp_path)])
    assert len(json.loads((tmp_path / "history.json").read_text())) == 2


def test_a_missed_target_is_the_exit_status(data, tiny, tmp_path):
    arguments = ["train", str(tiny), "--data", str(data), "--out", str(tmp_path), "--epochs", "1"]
    assert main([*arguments, "--min-accuracy", "1.1"]) == 1


@pytest.mark.parametrize("by", ["setting", "option"])
def test_publish_puts_the_result_into_the_store(command, tmp_path, monkeypatch, capsys, by):
    store = str(tmp_path / "store")
    monkeypatch.setenv("GLIMPSE_MODEL_STORE", store if by == "setting" else str(tmp_path / "no"))
    options = ["--store", store] if by == "option" else []
    assert main([*command, "--epochs", "1", "--publish", *options]) == 0
    capsys.readouterr()
    assert main(["list", *options]) == 0
    assert "tiny" in capsys.readouterr().out
    data = command[command.index("--data") + 1]
    assert main(["evaluate", "tiny", "--data", data, *options]) == 0
    assert not (tmp_path / "no").exists()
    published = model_store.current_folder(tmp_path / "store" / "tiny")
    assert published.parent.name == "versions"
    assert model_store.load(published)[1].name == "tiny"
    assert (published / "confusion_matrix.png").is_file()
    assert (published / "probe.json").is_file()
    assert not (published / "state.pt").exists()
    given = f"tiny@{published.name}"
    assert main(["evaluate", given, "--data", data, *options]) == 0
    assert main(["evaluate", "tiny@1", "--data", data, *options]) == 2
    assert f"its versions are: {published.name}" in capsys.readouterr().err


def test_what_misses_its_target_is_not_published(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GLIMPSE_MODEL_STORE", str(tmp_path / "store"))
    assert main([*command, "--epochs", "1", "--publish", "--min-accuracy", "1.1"]) == 1
    assert "Not published" in capsys.readouterr().out
    assert not (tmp_path / "store").exists()


def test_list_names_recipes_and_models(capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for name in ("digits", "digits-baseline"):
        assert name in said


@pytest.mark.parametrize("name", recipe.shipped())
def test_shipped_recipes_are_valid(name):
    held = recipe.read(name)
    assert held.name == name
    assert held.target > 0 or name.startswith("images")  # nobody knows what yours can reach


def test_the_baseline_is_the_published_network():
    held = recipe.read("digits-baseline")
    assert (held.epochs, held.optimiser.name, held.optimiser.options) == (10, "Adam", {"lr": 1e-3})
    layers = list(build(held.network.name, 10, 1, held.network.options))
    kinds = [type(layer).__name__ for layer in layers]
    block = ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    dense = ["Linear", "ReLU", "Dropout"]
    assert kinds == [*block, *block, *block, "Flatten", *dense, *dense, "Linear"]
    sizes = [layer.out_channels for layer in layers if isinstance(layer, torch.nn.Conv2d)]
    sizes += [layer.out_features for layer in layers if isinstance(layer, torch.nn.Linear)]
    assert sizes == [32, 64, 128, 512, 256, 10]
    assert [layer.p for layer in layers if isinstance(layer, torch.nn.Dropout)] == [0.5, 0.5]


CANDIDATE = """
[[candidates]]
label = "one"
network = { name = "baseline" }
"""

BAD_RECIPES = {
    "no toml": ("name = ", "not valid TOML"),
    "unknown key": (TINY.replace("epochs", "epoch"), "unknown key “epoch”"),
    "unknown key in a table": (
        TINY.replace("rotation", "rotate"),
        "unknown key “augmentation.rotate”; known keys are rotation, shift",
    ),
    "wrong type": (
        TINY.replace("epochs = 4", 'epochs = "4"'),
        "“epochs” must be a whole number, not text",
    ),
    "no table": (
        TINY.replace("seed = 3", "seed = 3\ndata = 3").replace("[data]", "[x]"),
        "“data” must be a table",
    ),
    "missing key": (TINY.replace('task = "digit"', ""), "the key “task” is missing"),
    "no epochs": (
        TINY.replace("epochs = 4", "epochs = -1"),
        "“epochs” must be a whole number >= 0",
    ),
    "unknown schedule": (
        TINY.replace("one-cycle", "two-cycle"),
        "“schedule” must be constant, linear, one-cycle or plateau, not 'two-cycle'",
    ),
    "unknown choice": (
        TINY.replace("seed = 3", 'choose_by = "luck"'),
        "“choose_by” must be accuracy, last or loss, not 'luck'",
    ),
    "unknown network": (TINY.replace('"baseline"', '"lenet"'), "no architecture “lenet”"),
    "unknown option": (TINY.replace("drop_rate", "drop"), "has no option “drop”"),
    "no columns": (
        TINY.replace('"baseline"\ndrop_rate = 0.1', '"unpadded"\ncolumns = 0'),
        "“columns” must be 1 or more",
    ),
    "option off": (TINY.replace("drop_rate = 0.1", "drop_rate = 7"), "does not take"),
    "unknown optimiser": (TINY.replace("AdamW", "Eve"), "no optimiser “Eve”"),
    "not an optimiser": (TINY.replace("AdamW", "lr_scheduler"), "no optimiser"),
    "optimiser's option": (TINY.replace("lr =", "rate ="), "AdamW does not take"),
    "optimiser of another kind": (TINY.replace("AdamW", "LBFGS"), "no optimiser “LBFGS”"),
    "optimiser and schedule": (TINY.replace("AdamW", "Adagrad"), "does not work with “schedule”"),
    "a rate that diverges": (
        TINY.replace('"AdamW"', '"SGD"').replace("2e-3", "1e9"),
        "lower the optimiser's “lr”",
    ),
    "no number": (
        TINY.replace("average = 0.5", "average = nan"),
        "“average” must be a number >= 0.0",
    ),
    "negative change": (
        TINY.replace("= 5.0", "= -5.0"),
        "“augmentation.rotation” must be a number >= 0",
    ),
    "stroke of two pixels": (
        TINY.replace("rotation = 5", "thickness = 2"),
        "“augmentation.thickness” must be a number <= 1",
    ),
    "seed too large": (
        TINY.replace("seed = 3", f"seed = {2**63}"),
        "“seed” must be a whole number",
    ),
    "split seed": (
        TINY.replace("= 100", "= 100\nsplit_seed = -1"),
        "“data.split_seed” must be a whole number >= 0",
    ),
    "a fold too many": (TINY.replace("= 100", "= 100\nfold = 10"), "less than “data.folds”"),
    "a network as text": (
        "network = 3\n" + TINY.replace("[network]", "[x]"),
        "“network” must be a table",
    ),
    "a network without a name": (
        TINY.replace('name = "baseline"', ""),
        "“network.name” is missing",
    ),
    "two candidates of one label": (
        TINY + 2 * CANDIDATE,
        "each of the “candidates” needs its own “label”",
    ),
    "an unknown key of a candidate": (
        TINY + CANDIDATE + "x = 1\n",
        "unknown key “candidates[0].x”",
    ),
    "an old name": (TINY + "[finish]\nepochs = 1\n", "“finish” is now “fine_tune”"),
    "another old name": ('standardise = "data"\n' + TINY, "“standardise” is now “normalise”"),
    "unknown task": (TINY.replace('"digit"', '"cats"'), "the task is 'cats'; known are digit"),
    "a size that is not a digit's": (
        TINY.replace("= 100", "= 100\nsize = 48"),
        "does not support pictures of 48 × 48 pixels in 1 channel(s): digits are always",
    ),
    "handwriting in colour": (
        TINY.replace('"digit"', '"image"').replace("= 100", "= 100\nchannels = 3"),
        "set “data.handwriting” to 0",
    ),
    "unknown data": (TINY.replace('"mnist"', '"cats"'), "no data set “cats”"),
    "too much validation": (TINY.replace("= 100", "= 1000"), "“data.validation” is 1000"),
    "a path as name": (
        TINY.replace('"tiny"', '"../tiny"'),
        "“name” must be text of letters, digits, - and _ alone",
    ),
}


@pytest.mark.parametrize("name", BAD_RECIPES)
def test_a_bad_recipe_is_answered_with_one_sentence(data, tmp_path, capsys, name):
    text, reason = BAD_RECIPES[name]
    file = tmp_path / "bad.toml"
    file.write_text(text)
    assert main(["train", str(file), "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert reason in said


def test_an_unknown_recipe_lists_the_known(capsys):
    assert main(["train", "cats"]) == 2
    assert "digits-baseline" in capsys.readouterr().err


def test_nothing_to_resume_is_said(data, tiny, tmp_path, capsys):
    arguments = ["train", str(tiny), "--data", str(data), "--out", str(tmp_path), "--resume"]
    assert main(arguments) == 2
    assert "leave --resume out" in capsys.readouterr().err


def test_another_recipes_state_is_not_resumed(run, data, tiny, tmp_path, capsys):
    file = tmp_path / "other.toml"
    file.write_text(TINY.replace("2e-3", "1e-3"))
    arguments = ["train", str(file), "--data", str(data), "--out", str(run), "--resume"]
    assert main(arguments) == 2
    assert "another recipe" in capsys.readouterr().err
    arguments = ["train", str(tiny), "--data", str(data), "--out", str(run), "--resume"]
    assert main([*arguments, "--epochs", "3"]) == 2
    assert "another recipe" in capsys.readouterr().err


def test_a_damaged_state_is_not_resumed(command, tmp_path, capsys):
    (tmp_path / "state.pt").write_bytes(b"hello, world")
    assert main([*command, "--resume"]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_a_full_disk_is_said(command, tmp_path, capsys):
    (tmp_path / "state.pt.partial").symlink_to("/dev/full")
    assert main(command) == 2
    assert "check the path and the space that is left" in capsys.readouterr().err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 9 bytes")])
def test_too_little_memory_is_said(command, capsys, monkeypatch, error):
    def greedy(self):
        raise error

    monkeypatch.setattr(loop.Run, "epoch", greedy)
    assert main(command) == 2
    assert "lower the recipe's “batch_size”" in capsys.readouterr().err


BAD_DATA = {
    "missing": (lambda file: file.unlink(), "holds no train-images"),
    "short": (lambda file: file.write_bytes(file.read_bytes()[:5000]), "is damaged"),
    "empty": (lambda file: file.write_bytes(b""), "is damaged"),
    "no idx": (lambda file: file.write_bytes(b"hello, world"), "is damaged"),
    "broken gzip": (lambda file: file.write_bytes(b"\x1f\x8b hello"), "is damaged"),
    "other size": (lambda file: file.write_bytes(idx(np.zeros((9, 8, 8)))), "expected (N, 28, 28)"),
    "other count": (lambda file: file.write_bytes(idx(np.zeros((9, 28, 28)))), "expected"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_named(data, tmp_path, name):
    harm, reason = BAD_DATA[name]
    for file in data.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    harm(tmp_path / "train-images-idx3-ubyte")
    with pytest.raises(TrainingError, match=re.escape(reason)):
        datasets.mnist.load_mnist(tmp_path, train=True)


def test_a_missing_data_folder_is_named(tmp_path):
    with pytest.raises(TrainingError, match="there is no folder"):
        datasets.mnist.load_mnist(tmp_path / "none", train=True)


@pytest.fixture
def downloaded(data, tmp_path, monkeypatch):
    """The folder that torchvision has downloaded MNIST into, under the working directory."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in data.iterdir():
        content = file.read_bytes()
        unpacked = gzip.decompress(content) if file.suffix == ".gz" else content
        (raw / file.stem).write_bytes(unpacked)
    monkeypatch.chdir(tmp_path)
    return raw


def test_torchvisions_layout_is_found(downloaded):
    assert len(datasets.mnist.load_mnist(Path("data"), train=True)[0]) == 500


def test_what_was_downloaded_is_not_downloaded_again(downloaded, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.MNIST", None)
    assert len(datasets.mnist.load_mnist(None, train=False)[0]) == 120


def test_a_damaged_download_is_named(downloaded):
    file = downloaded / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(TrainingError, match="train-images-idx3-ubyte is damaged"):
        datasets.mnist.load_mnist(None, train=True)


def test_offline_without_data_says_what_to_do(tmp_path, monkeypatch):
    def offline(folder, download):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried many mirrors")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torchvision.datasets.MNIST", offline)
    with pytest.raises(TrainingError, match=r"go online, or use --data to name a folder .*"):
        datasets.mnist.load_mnist(None, train=True)


def test_the_split_is_seeded_stratified_and_apart():
    labels = torch.arange(1000) % 10
    rest, out = datasets.split(labels, 200, seed=5)
    assert labels[out].bincount().tolist() == [20] * 10
    assert sorted(rest.tolist() + out.tolist()) == list(range(1000))
    assert torch.equal(out, datasets.split(labels, 200, seed=5)[1])
    assert not torch.equal(out, datasets.split(labels, 200, seed=6)[1])


def test_metrics_are_those_counted_by_hand():
    truth = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]], np.float32)
    figures = report.metrics(truth, probabilities)
    assert figures["accuracy"] == 0.75
    assert figures["recall"] == [0.5, 1.0]
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    # Four scores in four bins: |1 - 0.9|, |0 - 0.6|, |1 - 0.8|, |1 - 0.7|, a quarter each.
    assert figures["calibration_error"] == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4, abs=1e-6)


def test_the_interval_is_wilsons():
    # Eight of ten: 0.49 to 0.94, where the plain normal interval would be 0.55 to 1.05.
    assert report.wilson(8, 10) == pytest.approx([0.4902, 0.9433], abs=1e-4)


def test_the_temperature_mends_overconfidence(data, tiny):
    held = loop.Run(
        recipe.read(str(tiny)), datasets.load(DataRecipe(validation=100), data, "digit")
    )
    held.epoch()
    before = loop.fit_temperature(held.classifier, held.data.validation, len(held.data.labels))
    with torch.no_grad():
        held.classifier.network[-1].weight *= 3
        held.classifier.network[-1].bias *= 3
    after = loop.fit_temperature(held.classifier, held.data.validation, len(held.data.labels))
    assert after == pytest.approx(3 * before, rel=0.1)


@pytest.mark.data("GLIMPSE_MNIST")
@pytest.mark.parametrize("name", ["digits", "digits-baseline"])
def test_the_shipped_models_are_as_right_as_their_cards_say(name, capsys):
    data = os.environ["GLIMPSE_MNIST"]
    assert main(["evaluate", str(model_store.ROOT / name), "--data", data, "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"]
    card = model_store.read_card(model_store.ROOT / name)
    assert accuracy == pytest.approx(card.metrics["test_accuracy"], abs=1e-4)
    assert accuracy >= recipe.read(name).target


def test_balance_predicts_rare_classes_more_often():
    labels = torch.tensor([0] * 90 + [1] * 10)
    assert loop.logit_adjustment(labels, 2, 0).tolist() == [0, 0]
    bias = loop.logit_adjustment(labels, 2, 1)
    assert bias[1] - bias[0] == pytest.approx(math.log(9))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    pictures = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    plain = Classifier(network, 0.5, 0.25)
    balanced = Classifier(network, 0.5, 0.25, bias=bias)
    gain = balanced(pictures).log() - plain(pictures).log()
    assert (gain[0, 1] - gain[0, 0]).item() == pytest.approx(math.log(9), abs=1e-5)


def test_fine_tuning_that_is_not_soft_trains_on_one_label_a_picture(tmp_path):
    """The shares say that both halves are alike, the labels that they differ."""
    pictures = torch.zeros(64, 1, 28, 28, dtype=torch.uint8)
    pictures[32:] = 255
    labels = torch.tensor([0] * 32 + [1] * 32)
    part = Part(pictures, labels, torch.full((64, 2), 0.5))
    data = Data(["a", "b"], part, part, part, {})
    losses = []
    for soft in (True, False):
        tiny = Recipe(
            name="x",
            description="",
            task="digit",
            network=NetworkRecipe("baseline", {"drop_rate": 0.0}),
            epochs=1,
            batch_size=16,
            fine_tune=FineTuneRecipe(epochs=2, soft=soft),
        )
        (tmp_path / str(soft)).mkdir()
        result = loop.train(tiny, data, tmp_path / str(soft), resume=False, say=lambda line: None)
        losses.append(result.history[-1]["train_loss"])
    assert losses[0] > 0.65 > losses[1]


@pytest.mark.parametrize(("share", "kept"), [(0.0, 400), (0.25, 412), (1.0, 450)])
def test_fine_tuning_keeps_a_share_of_the_synthetic_handwriting(data, share, kept):
    """All real pictures, and the first of the synthetic ones."""
    mnist = datasets.load(DataRecipe(validation=100, handwriting=50), data, "digit")
    tiny = Recipe(
        name="x",
        description="",
        task="digit",
        network=NetworkRecipe("baseline"),
        epochs=1,
        batch_size=100,
        fine_tune=FineTuneRecipe(epochs=1, handwriting=share),
    )
    run = loop.Run(tiny, mnist)
    run.history.append(run.epoch())
    assert len(run.training) == 450
    run.history.append(run.epoch())
    assert torch.equal(run.training.pictures, mnist.training.pictures[:kept])
    assert torch.equal(run.training.labels, mnist.training.labels[:kept])
    assert run.schedule.total_iters == run.steps == -(-kept // 100)


def test_columns_are_trained_separately_and_averaged():
    """Each on its part of the batch; the answer is the mean of their probabilities."""
    torch.manual_seed(0)
    columns = build("unpadded", 10, 1, {"width": 2, "columns": 2})
    pictures, labels = torch.rand(7, 1, 28, 28), torch.arange(7)
    functional.cross_entropy(columns(pictures)[:4], labels[:4]).backward()
    first, last = columns.columns
    assert all(value.grad.any() for value in list(first.parameters())[-2:])
    assert not any(value.grad.any() for value in last.parameters())
    columns.eval()
    expected = (first(pictures).softmax(1) + last(pictures).softmax(1)) / 2
    torch.testing.assert_close(columns(pictures).softmax(1), expected)
    with model_store.unsaid_deprecation():
        scripted = torch.jit.script(columns)
    torch.testing.assert_close(scripted(pictures).softmax(1), expected)


def test_synthetic_pictures_come_last_in_a_batch(data, tiny):
    """So that of several columns only the last sees them."""
    read = recipe.read(str(tiny))
    run = loop.Run(read, datasets.load(read.data, data, "digit"))
    chosen = torch.tensor([449, 3, 400, 399, 410, 0])
    assert run.synthetic_last(chosen).tolist() == [3, 399, 0, 449, 400, 410]


def test_views_are_averaged():
    """The mean of six views' logits, as TorchScript gives it too."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 3))
    pictures = torch.randint(0, 256, (5, 1, 12, 12), dtype=torch.uint8)
    classifier = Classifier(network, 0.5, 0.25, mirror=True, zoom=2)
    values = pictures.float() / 255
    size = [12, 12]
    closer = functional.interpolate(values[:, :, 2:10, 2:10], size, mode="bicubic")
    wide = functional.pad(values, [2] * 4, mode="replicate")
    further = functional.interpolate(wide, size, mode="bicubic")
    views = [values, closer, further]
    logits = [
        classifier.logits(view.flip(3) if flip else view) for view in views for flip in (0, 1)
    ]
    expected = torch.softmax(torch.stack(logits).mean(0), 1)
    torch.testing.assert_close(classifier(pictures), expected)
    with model_store.unsaid_deprecation():
        torch.testing.assert_close(torch.jit.script(classifier)(pictures), expected)

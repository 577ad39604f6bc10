"""Classifiers that were made elsewhere."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from samples import encode, script

from app import create_app
from app.engines import engine
from model_store import current_folder, folders, load, read_card
from training.cli import main

MEAN, STD = (0.2, 0.3, 0.4), (0.5, 0.6, 0.7)


class ByColour(torch.nn.Module):
    """A classifier of someone else: logits of three labels for normalised colour pictures."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, stride=2),
            torch.nn.BatchNorm2d(4),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(4, 3),
        )
        self.layers[1].running_mean += 0.1

    def forward(self, pictures):
        return 3 * self.layers(pictures) + 9 * pictures.mean((2, 3))


NETWORK = ByColour().eval().requires_grad_(False)
EXAMPLE = torch.rand(2, 3, 20, 24)


def pictures(count=5):
    return np.random.default_rng(2).integers(0, 256, (count, 3, 20, 24), np.uint8)


def expected(given):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.inference_mode():
        logits = NETWORK((torch.from_numpy(given) / 255 - mean) / std)
    return torch.softmax(logits, 1).numpy()


def as_torchscript(file):
    script(NETWORK).save(file)


def as_exported(file):
    batch = torch.export.Dim("n", min=1, max=64)
    program = torch.export.export(NETWORK, (EXAMPLE,), dynamic_shapes=({0: batch},))
    torch.export.save(program, file)


def as_onnx(file, network=NETWORK, example=EXAMPLE):
    torch.onnx.export(
        torch.jit.trace(network, example),
        (example,),
        file,
        dynamo=False,
        dynamic_axes={"pictures": {0: "n"}, "probabilities": {0: "n"}},
        input_names=["pictures"],  # as the checkpoints' own are called
        output_names=["probabilities"],
    )


def command(file, *options):
    numbers = [f"--{name}={','.join(map(str, of))}" for name, of in (("mean", MEAN), ("std", STD))]
    given = ["import", str(file), "--labels", "red,green,blue", "--input", "3x20x24"]
    return [*given, "--name", "colours", *numbers, "--out", str(file.parent / "out"), *options]


FILES = {"net.pt": as_torchscript, "net.pt2": as_exported, "net.onnx": as_onnx}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_an_imported_classifier_answers_as_it_did_in_both_engines(name, tmp_path, capsys):
    FILES[name](tmp_path / name)
    store = tmp_path / "store"
    assert main(command(tmp_path / name, "--publish", "--store", str(store))) == 0
    told = capsys.readouterr().out
    assert "It gives logits" in told
    assert ("can run code" in told) == (name != "net.onnx")
    folder = current_folder(store / "colours")
    card = read_card(folder)
    assert card.onnx_only == (name == "net.onnx")
    assert card.metrics == {}
    assert card.recipe["imported"]["file"] == name
    assert "not measured" in card.limits[0]
    assert card.parameters > 100  # ONNX folds the batch norm
    for kind in ("torch", "onnx"):
        network, explain, *_ = engine(kind).load(folder)
        np.testing.assert_allclose(network(pictures()), expected(pictures()), atol=1e-5)
        assert explain(pictures(1)[0], 0).shape == (20, 24)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["net.pt", "net.onnx"])
def test_an_imported_classifier_is_served(name, tmp_path):
    FILES[name](tmp_path / name)
    store = tmp_path / "store"
    assert main(command(tmp_path / name, "--publish", "--store", str(store))) == 0
    client = create_app({"MODEL_STORE": str(store), "DEFAULT_MODEL": "colours"}).test_client()
    photo = encode(Image.new("RGB", (48, 40), (250, 10, 30)))
    result = client.post("/api/predict", data=photo, content_type="image/png").get_json()
    given = np.tile(np.uint8([250, 10, 30]).reshape(1, 3, 1, 1), (1, 1, 20, 24))
    scores = {each["label"]: each["score"] for each in result["results"][0]["predictions"]}
    shares = dict(zip(["red", "green", "blue"], expected(given)[0].tolist(), strict=True))
    assert scores == pytest.approx(shares, abs=1e-4)
    for page in ("/models/colours", "/models", "/try/colours", "/api/models/colours"):
        assert client.get(page).status_code == 200, page
    platform = client.get("/v2/models/colours").get_json()["platform"]
    assert platform == "onnxruntime_onnx"


@pytest.mark.filterwarnings("ignore")
def test_an_imported_classifier_is_measured_on_a_folder(tmp_path, capsys):
    as_onnx(tmp_path / "net.onnx")
    assert main(command(tmp_path / "net.onnx")) == 0
    for part in ("train", "test"):
        for number, name in enumerate(["red", "green", "blue"]):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for shade in range(12):
                pure = [200 + shade if channel == number else 0 for channel in range(3)]
                place = tmp_path / "data" / part / name / f"{shade}.png"
                Image.new("RGB", (24, 20), tuple(pure)).save(place)
    capsys.readouterr()
    given = ["evaluate", str(tmp_path / "out"), "--data", str(tmp_path / "data"), "--json"]
    assert main(given) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["count"], figures["accuracy"]) == (36, 1)


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_may_take_its_channels_last(tmp_path):
    """As those that were made with Keras do."""

    class Last(torch.nn.Module):
        def forward(self, pictures):
            return NETWORK(pictures.permute(0, 3, 1, 2))

    as_onnx(tmp_path / "net.onnx", Last(), EXAMPLE.permute(0, 2, 3, 1))
    assert main(command(tmp_path / "net.onnx")) == 0
    network = engine("onnx").load(tmp_path / "out")[0]
    np.testing.assert_allclose(network(pictures()), expected(pictures()), atol=1e-5)


def test_probabilities_are_left_as_they_are(tmp_path, capsys):
    class Shares(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return torch.softmax(pictures.mean((2, 3)), 1)

    script(Shares()).save(tmp_path / "net.pt")
    assert main(command(tmp_path / "net.pt")) == 0
    assert "It gives probabilities" in capsys.readouterr().out
    one, _ = load(tmp_path / "out")
    white = torch.full((1, 3, 20, 24), 255, dtype=torch.uint8)
    normal = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(one(white)[0], torch.softmax(normal, 0))


@pytest.mark.filterwarnings("ignore")
def test_what_onnx_cannot_hold_is_served_by_torch_alone(tmp_path, capsys):
    class Odd(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return torch.special.i0(pictures.mean((2, 3)))

    script(Odd()).save(tmp_path / "net.pt")
    assert main(command(tmp_path / "net.pt")) == 0
    assert "torch alone can serve it" in capsys.readouterr().out
    assert not (tmp_path / "out" / "model.onnx").exists()
    assert engine("torch").load(tmp_path / "out")[0](pictures()).shape == (5, 3)


class OfBatch(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return (pictures - pictures.mean(0, keepdim=True)).mean((2, 3)) * 99


class NotFinite(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.mean((2, 3)) / 0


class Whole(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures


def fixed_onnx(file):
    class Fixed(torch.nn.Module):
        def forward(self, pictures):
            return NETWORK.layers(pictures).reshape(2, 3)

    as_onnx(file, Fixed())


def two_inputs(file):
    as_onnx(file)
    model = onnx.load(file)
    other = onnx.helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, [1])
    model.graph.input.append(other)
    onnx.save(model, file)


def nothing(file):
    pass


def damaged(file):
    file.write_bytes(b"?")


def weights(file):
    torch.save(NETWORK.state_dict(), file)


def fixed(file):
    torch.export.save(torch.export.export(NETWORK, (EXAMPLE,)), file)


def of_batch(file):
    script(OfBatch()).save(file)


def not_finite(file):
    script(NotFinite()).save(file)


def whole(file):
    script(Whole()).save(file)


GREY = ["--input=1x20x24", "--mean=0", "--std=1"]
UNFIT = {
    "weights alone": ("net.pt", weights, [], "is not TorchScript"),
    "no export": ("net.pt2", damaged, [], "is not of torch.export"),
    "no ONNX": ("net.onnx", damaged, [], "is not valid ONNX"),
    "no file": ("net.pt", nothing, [], "cannot read"),
    "Keras": ("net.h5", nothing, [], "convert it to TorchScript"),
    "other channels": ("net.pt", as_torchscript, GREY, "not take pictures of 1 × 20 × 24"),
    "other channels in ONNX": ("net.onnx", as_onnx, GREY, "not take pictures of 1 × 20 × 24"),
    "too few labels": ("net.pt", as_torchscript, ["--labels=red,green"], "3 values a picture"),
    "one batch size": ("net.pt2", fixed, [], "dynamic_shapes"),
    "one batch size in ONNX": ("net.onnx", fixed_onnx, [], "batches of any size"),
    "two inputs": ("net.onnx", two_inputs, [], "2 inputs and 1 outputs"),
    "an answer to a batch": ("net.pt", of_batch, [], "model.eval()"),
    "not finite": ("net.pt", not_finite, [], "not finite"),
    "no classifier": ("net.pt", whole, [], "3 × 3 × 20 × 24, not 3 × 3"),
    "no probabilities": ("net.pt", as_torchscript, ["--probabilities"], "leave out --prob"),
    "labels twice": ("net.pt", as_torchscript, ["--labels=a,b,a"], "each once"),
    "no labels' file": ("net.pt", as_torchscript, ["--labels=none.txt"], "cannot read the"),
    "no shape": ("net.pt", as_torchscript, ["--input=28"], "such as 1x28x28"),
    "no number": ("net.pt", as_torchscript, ["--mean=grey"], "give numbers"),
    "two means": ("net.pt", as_torchscript, ["--mean=0,0"], "one for each of 3 channels"),
    "no deviation": ("net.pt", as_torchscript, ["--std=0"], "numbers above 0"),
    "no task": ("net.pt", as_torchscript, ["--task=sound"], "--task"),
    "a task's other size": ("net.pt", as_torchscript, ["--task=digit"], "28 × 28 pixels"),
    "no name": ("net.pt", as_torchscript, ["--name=a/b"], "cannot name a model"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", UNFIT)
def test_what_cannot_be_imported_is_told(what, tmp_path, capsys):
    name, make, options, reason = UNFIT[what]
    make(tmp_path / name)
    assert main([*command(tmp_path / name), *options]) == 2
    assert reason in capsys.readouterr().err
    assert not folders(tmp_path)


def test_labels_may_stand_in_a_file(tmp_path):
    as_torchscript(tmp_path / "net.pt")
    (tmp_path / "labels.txt").write_text("rouge\nvert\n\nbleu foncé\n", encoding="utf-8")
    labels = f"--labels={tmp_path / 'labels.txt'}"
    assert main([*command(tmp_path / "net.pt"), labels]) == 0
    assert read_card(tmp_path / "out").labels == ["rouge", "vert", "bleu foncé"]


def test_a_report_of_another_model_is_not_published_with_it(tmp_path, capsys):
    as_torchscript(tmp_path / "net.pt")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("{}")
    assert main(command(tmp_path / "net.pt")) == 2
    assert "another model's report" in capsys.readouterr().err
    (tmp_path / "out" / "report.json").unlink()
    more = ["--publish", "--store", str(tmp_path / "store")]
    assert main(command(tmp_path / "net.pt", *more)) == 0
    names = {file.name for file in current_folder(tmp_path / "store" / "colours").iterdir()}
    assert names == {"model.pt", "model.onnx", "card.json", "probe.json"}

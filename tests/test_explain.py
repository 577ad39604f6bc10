"""Explanations: heat on the parts of a picture that support its label."""

from __future__ import annotations

import base64
import io
import shutil

import numpy as np
import pytest
from PIL import Image, ImageFilter
from samples import ByInk, card, encode, script, seven

from app import create_app
from app.engines import engine
from app.explain import explainer, occlusion
from model_store import (
    ROOT,
    StoreError,
    folders,
    load_onnx,
    load_onnx_heat,
    read_card,
    save,
)
from training.onnx_export import save_onnx

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


def answered(client, image, query):
    options = {"data": encode(image), "content_type": "image/png"}
    response = client.post(f"/api/predict?seen=true&{query}", **options)
    return response.get_json()["results"][0]["subjects"][0]


def test_heat_laid_where_the_answer_says_covers_the_ink(client):
    """Of a drawing in a corner, its heat lies on its ink and almost nowhere else."""
    drawing = Image.new("L", (400, 300), 255)
    drawing.paste(seven(size=(120, 120)), (260, 20))
    found = answered(client, drawing, "explain=true")
    place = found["seen_at"]
    side = round(place["width"])
    heat = shown(found["heat"]).getchannel("A").resize((side, side))
    laid = Image.new("L", drawing.size)
    laid.paste(heat, (round(place["x"]), round(place["y"])))
    ink = np.asarray(drawing) < 128
    assert np.asarray(laid)[ink].mean() > 4 * np.asarray(laid)[~ink].mean()
    seen = Image.new("L", drawing.size)
    seen.paste(shown(found["seen"]).resize((side, side)), (round(place["x"]), round(place["y"])))
    both = ink & (np.asarray(seen) > 128)
    assert both.sum() > 0.75 * ink.sum()


def test_any_label_can_be_explained(client):
    best, other = (answered(client, seven(), f"explain=true{more}") for more in ("", "&label=2"))
    assert best["label"] == other["label"] != "2"
    assert best["heat"] != other["heat"]
    same = answered(client, seven(), f"explain=true&label={best['label']}")
    assert same["heat"] == best["heat"]


def test_a_label_that_the_model_does_not_know_is_named(client, png):
    url = "/api/predict?explain=true&label=ten"
    response = client.post(url, data=png, content_type="image/png")
    assert response.status_code == 400
    assert "“label” must be one of the model’s labels" in response.get_json()["detail"]


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
    network, explainer, found, _ = engine(name).load(place)
    shape, count = read_card(place).input.shape, len(found.labels)

    def shares(scores):
        """Of the labels among themselves, without that of none of them."""
        return scores[:, :count] / scores[:, :count].sum(axis=1, keepdims=True)

    rng = np.random.default_rng(0)
    falls = []
    for _ in range(12):
        pixels = np.zeros(shape, np.uint8)
        x, y = rng.integers(6, shape[2] - 12, 2)
        pixels[:, 4:-4, x : x + 4] = 255
        pixels[:, y : y + 4, 4:-8] = 255
        scores = shares(network(pixels[None]))[0]
        label = int(scores.argmax())
        heat = explainer(pixels, label)
        assert heat.shape == tuple(shape[1:])
        assert 0 <= heat.min() <= heat.max() <= 1
        hot = heat > np.median(heat)
        both = np.stack([np.where(hot, 0, pixels), np.where(hot, pixels, 0)]).astype(np.uint8)
        hidden_hot, hidden_cold = shares(network(both))[:, label]
        falls.append(float(hidden_cold - hidden_hot))
    assert np.mean(falls) > 0.1


def explained_by(place, pixels, label):
    """The heat maps of both engines."""
    return [engine(name).load(place)[1](pixels, label) for name in ("torch", "onnx")]


@pytest.mark.parametrize("place", folders(ROOT), ids=lambda place: place.name)
def test_both_engines_explain_a_shipped_model_alike(place):
    session, held = load_onnx(place)
    assert load_onnx_heat(place, session, held) is not None
    shape = held.input.shape
    rng = np.random.default_rng(0)
    shown = [np.asarray(seven(size=(shape[2], shape[1]), ink=255, ground=0), np.uint8)[None]]
    shown += [rng.integers(0, 256, shape, np.uint8) for _ in range(2)]
    for label, pixels in enumerate(shown):
        one, other = explained_by(place, pixels, label)
        assert one.max() == other.max() == 1
        np.testing.assert_allclose(one, other, atol=0.01)


def test_a_seven_is_hot_on_its_ink():
    pixels = np.asarray(seven(size=(28, 28), ink=255, ground=0), np.uint8)[None]
    ink = np.asarray(Image.fromarray(pixels[0]).filter(ImageFilter.MaxFilter(3))) > 0
    for heat in explained_by(ROOT / "digits", pixels, 7):
        assert heat[ink].mean() > 1.5 * heat[~ink].mean()


@pytest.fixture
def another(tmp_path):
    """The folder of a checkpoint without heat."""
    module = script(ByInk())
    save_onnx(module, save(module, card(), tmp_path / "digits"), tmp_path / "digits")
    return tmp_path / "digits"


def half_lit():
    """A picture, and a label that it is far from: all its ink speaks against the label 0."""
    pixels = np.zeros((1, 28, 28), np.uint8)
    pixels[:, :, 14:] = 200
    return pixels, 9


def test_a_checkpoint_without_heat_is_explained_by_occlusion(another, png):
    pixels, label = half_lit()
    expected = occlusion(engine("onnx").load(another)[0], pixels, label)
    assert expected.max() == 1
    for heat in explained_by(another, pixels, label):
        np.testing.assert_allclose(heat, expected, atol=1e-3)
    client = create_app({"MODEL_STORE": str(another.parent)}).test_client()
    response = client.post("/api/predict?explain=1", data=png, content_type="image/png")
    assert shown(response.get_json()["results"][0]["explanation"]).mode == "RGB"


def test_heat_is_loaded_when_it_is_asked_for():
    def load():
        asked.append(1)
        return lambda pictures, labels: np.eye(4, dtype=np.float32)[None] * labels[0]

    asked = []
    explain = explainer(lambda pictures: pytest.fail("no answer is needed"), load)
    assert not asked
    heat = explain(np.zeros((1, 8, 8), np.uint8), 5)
    assert heat.shape == (8, 8)
    assert heat.max() == 1
    assert asked


def test_heat_that_fails_gives_way_to_occlusion(another, caplog):
    def fails():
        raise StoreError("digits: model.onnx is not the file that card.json describes")

    network = engine("onnx").load(another)[0]
    pixels, label = half_lit()
    heat = explainer(network, fails)(pixels, label)
    np.testing.assert_array_equal(heat, occlusion(network, pixels, label))
    assert "model.onnx is not the file" in caplog.text


def test_heat_of_a_replaced_file_is_not_loaded(tmp_path):
    """The session that answers is of the old file; the heat must not be of another."""
    place = tmp_path / "digits"
    shutil.copytree(ROOT / "digits", place)
    session, held = load_onnx(place)
    save_onnx(script(ByInk()), card(), place)
    with pytest.raises(StoreError, match="SHA-256"):
        load_onnx_heat(place, session, held)

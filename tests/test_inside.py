"""Looking inside a network: what its convolutions give is the same in both of its forms."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from samples import ByInk, card, encode, script, seven

from app import create_app, inside
from model_store import ROOT, read_card, save
from tasks.normaliser import normalise


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """The app with the shipped model for digits."""
    shelf = tmp_path_factory.mktemp("shelf")
    (shelf / "digits").symlink_to(ROOT / "digits")
    return create_app({"MODEL_STORE": str(shelf)}).test_client()


def by_torch(name):
    return inside._torch(ROOT / name, read_card(ROOT / name))


def by_onnx(name):
    return inside._onnx(ROOT / name, read_card(ROOT / name))


@pytest.mark.parametrize("name", ["digits", "digits-baseline", "emotions", "emotions-imbalanced"])
def test_torch_and_onnx_give_the_same_maps_filters_and_places(name):
    one, other = by_torch(name), by_onnx(name)
    assert one and other
    assert one.columns == other.columns
    side = one.filters[0].shape[1:2] + ((28, 28) if name.startswith("digits") else (48, 48))
    pixels = np.random.default_rng(0).integers(0, 256, side, dtype=np.uint8)
    for a, b in zip(one.layers(pixels), other.layers(pixels), strict=True):
        assert a.view == b.view
        np.testing.assert_allclose(a.maps, b.maps, atol=1e-4)
    for a, b in zip(one.filters, other.filters, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_place_of_a_map_sees_just_the_pixels_that_it_says():
    within = by_onnx("digits-baseline")
    blank = np.zeros((1, 28, 28), np.uint8)
    before = within.layers(blank)[1]
    changed = blank.copy()
    changed[0, 14, 14] = 255
    after = within.layers(changed)[1]
    differs = np.abs(after.maps - before.maps).max(axis=0) > 1e-6
    view = after.view
    middle = view.start + view.step * np.arange(differs.shape[0])
    reached = np.abs(middle - 14) <= view.reach / 2
    assert differs.any()
    assert not differs[~reached].any()
    assert not differs[:, ~reached].any()


def post(client, name="digits", content=None):
    return client.post(
        f"/inside/{name}",
        data=encode(seven()) if content is None else content,
        headers={"Accept": "application/json", "Content-Type": "image/png"},
    )


def test_the_answer_holds_the_maps_of_each_convolution_as_pictures(client):
    (result,) = post(client).get_json()["results"]
    assert result["label"] == "7"
    assert sum(each["score"] for each in result["predictions"]) == pytest.approx(1)
    layers = inside._onnx(ROOT / "digits", read_card(ROOT / "digits")).layers(
        normalise(seven())[None]
    )
    assert len(result["layers"]) == len(layers) == 6
    for told, layer in zip(result["layers"], layers, strict=True):
        content = base64.b64decode(told["maps"].partition(",")[2])
        sheet = np.asarray(Image.open(io.BytesIO(content)))
        _, height, width = layer.maps.shape
        assert sheet.max() == 255
        first = 255 * layer.maps[0].clip(0) / layer.maps.max()
        np.testing.assert_allclose(sheet[:height, :width], first, atol=1)


def test_a_map_has_its_filter(client):
    told = client.get("/inside/digits/1/3").get_json()["kernels"]
    np.testing.assert_allclose(told, by_onnx("digits").filters[1][3], atol=1e-4)


@pytest.mark.parametrize(
    ("path", "status"), [("digits/9/0", 400), ("digits/0/999", 400), ("none/0/0", 404)]
)
def test_a_map_that_there_is_not_is_told_so(client, path, status):
    assert client.get(f"/inside/{path}").status_code == status


@pytest.mark.parametrize(("content", "status"), [(b"", 400), (b"no picture", 400)])
def test_what_is_no_picture_is_told_so(client, content, status):
    response = post(client, content=content)
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"


def test_a_network_of_another_kind_says_that_it_cannot_be_shown(tmp_path):
    save(script(ByInk()), card("ink"), tmp_path / "ink")
    client = create_app({"MODEL_STORE": str(tmp_path), "DEFAULT_MODEL": "ink"}).test_client()
    response = client.get("/inside", headers={"Accept": "text/html"})
    assert response.status_code == 503
    assert "Choose another model" in response.text


def test_the_page_names_every_layer_with_its_shape(client):
    page = client.get("/inside").text
    assert page.count('data-testid="layer"') == 6
    assert "32 maps of 26 × 26; each place sees 3 × 3 pixels of the picture" in page

"""Faces: found in photos, upright, cut out, and answered as the contract says."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import ByLight, encode, face_card, script
from test_api import validate

import model_store
from app import create_app
from model_store import save
from tasks import face_detector
from tasks import face_finder as faces
from tasks.decode import HEIC
from tasks.face_detector import NoDetectorError

TOP = Path(__file__).parent.parent
PHOTOS = Path(__file__).parent / "photos"
LABELS = ["dark", "light"]


@pytest.fixture(scope="module")
def face_app(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    save(script(ByLight()), face_card(), root / "emotions")
    colour = face_card(name="colour", input={"shape": [3, 40, 40]})
    save(script(ByLight()), colour, root / "colour")
    return create_app({"MODEL_STORE": str(root), "DEFAULT_MODEL": "emotions"})


@pytest.fixture
def face_client(face_app):
    return face_app.test_client()


def photo(name):
    with Image.open(PHOTOS / f"{name}.jpg") as image:
        return image.convert("RGB")


def sent(client, image, query="", kind="PNG"):
    content = image if isinstance(image, bytes) else encode(image, kind)
    return client.post(
        f"/api/predict{query}", data=content, content_type="application/octet-stream"
    )


def within(face, box, tolerance):
    """Whether a face's middle lies near the middle of `box`, by share of its width."""
    x, y, width, height = box
    dx = face.x + face.width / 2 - (x + width / 2)
    dy = face.y + face.height / 2 - (y + height / 2)
    return math.hypot(dx, dy) < tolerance * width


@pytest.fixture
def fresh():
    """The detector is loaded anew in the test, and after it."""
    face_detector._session.cache_clear()
    yield
    face_detector._session.cache_clear()


ASTRONAUT = (110, 40, 56, 70)  # x, y, width, height in the 320-pixel photo


def test_one_face_is_found_where_it_is():
    (face,) = faces.find(photo("astronaut"))
    assert within(face, ASTRONAUT, 0.2)
    assert 0.7 < face.width / ASTRONAUT[2] < 1.3
    assert abs(face.tilt) < 8


def test_every_face_is_found_largest_first():
    found = faces.find(photo("family"))
    assert len(found) == 4
    assert [face.side for face in found] == sorted((face.side for face in found), reverse=True)


def test_a_picture_without_faces_has_none():
    assert faces.find(photo("coffee")) == []
    assert faces.find(Image.new("L", (1, 1))) == []
    assert faces.find(Image.new("RGB", (700, 3))) == []


@pytest.mark.parametrize("degrees", [-20, 20, 90, 180])
def test_a_turned_photo_still_has_its_face(degrees):
    turned = photo("astronaut").rotate(degrees, expand=True)
    (face,) = faces.find(turned)
    x, y = ASTRONAUT[0] + ASTRONAUT[2] / 2 - 160, ASTRONAUT[1] + ASTRONAUT[3] / 2 - 160
    angle = math.radians(-degrees)
    middle = (
        turned.width / 2 + x * math.cos(angle) - y * math.sin(angle) - ASTRONAUT[2] / 2,
        turned.height / 2 + x * math.sin(angle) + y * math.cos(angle) - ASTRONAUT[3] / 2,
    )
    assert within(face, (*middle, ASTRONAUT[2], ASTRONAUT[3]), 0.45)


@pytest.mark.parametrize("scale", [0.25, 0.5, 2, 6])
def test_a_face_is_found_at_any_size(scale):
    whole = photo("astronaut")
    resized = whole.resize((round(320 * scale), round(320 * scale)), Image.Resampling.BICUBIC)
    (face,) = faces.find(resized)
    assert within(face, [scale * side for side in ASTRONAUT], 0.25)


def test_a_face_that_fills_the_photo_is_found():
    assert len(faces.find(photo("astronaut").crop((105, 35, 175, 115)))) == 1


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_face_on_its_side_is_set_upright(degrees):
    (face,) = faces.find(photo("astronaut").rotate(degrees, expand=True))
    off = (face.tilt + degrees + 180) % 360 - 180
    assert abs(off) < 20


def test_a_crop_is_upright_and_framed(monkeypatch):
    """The same face, tilted, gives nearly the same crop."""
    monkeypatch.setattr(faces, "NATURAL", 0)
    straight = photo("astronaut")
    (face,) = faces.find(straight)
    level = faces.cut(straight, face, 48, 1).astype(float)
    assert level.shape == (1, 48, 48)
    tilted = straight.rotate(15, Image.Resampling.BICUBIC, center=(138, 75))
    (found,) = faces.find(tilted)
    again = faces.cut(tilted, found, 48, 1).astype(float)
    inner = slice(8, 40)
    correlation = np.corrcoef(level[0, inner, inner].ravel(), again[0, inner, inner].ravel())[0, 1]
    assert correlation > 0.5
    assert found.tilt - face.tilt == pytest.approx(-15, abs=6)


@pytest.mark.parametrize(("tilt", "turned"), [(0, 0), (8, 0), (-8, 0), (30, 20), (-100, -90)])
def test_a_crop_keeps_the_tilt_that_heads_are_held_at(monkeypatch, tilt, turned):
    image = photo("astronaut")
    face = faces.Face(90.0, 30.0, 90.0, 90.0, tilt, 1.0)
    crop = faces.cut(image, face, 48, 1)
    monkeypatch.setattr(faces, "NATURAL", 0)
    assert np.array_equal(crop, faces.cut(image, replace(face, tilt=turned), 48, 1))


def test_a_crop_beyond_the_photos_edge_repeats_the_edge():
    image = Image.new("RGB", (60, 60), (200, 10, 10))
    face = faces.Face(-20, -20, 50, 50, 0, 0.9)
    crop = faces.cut(image, face, 48, 3)
    assert crop.shape == (3, 48, 48)
    assert (abs(crop.astype(int) - np.array([200, 10, 10]).reshape(3, 1, 1)) < 3).all()


def test_threads_find_the_same_faces():
    family, alone = photo("family"), photo("astronaut")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(faces.find, [family, alone] * 6))
    assert all(len(each) == 4 for each in found[::2])
    assert all(each == found[1] for each in found[1::2])


def test_the_answer_is_the_contracts(face_app, face_client):
    response = sent(face_client, photo("family"))
    assert response.status_code == 200
    answer = response.get_json()
    validate(face_app, answer, "Predictions")
    (result,) = answer["results"]
    assert len(result["faces"]) == 4
    first = result["faces"][0]
    assert (result["label"], result["score"]) == (first["label"], first["score"])
    assert result["predictions"] == first["predictions"]
    assert sum(each["score"] for each in first["predictions"]) == pytest.approx(1, abs=1e-6)
    areas = [face["box"]["width"] * face["box"]["height"] for face in result["faces"]]
    assert areas == sorted(areas, reverse=True)
    for face in result["faces"]:
        box = face["box"]
        assert box["x"] >= 0 and box["y"] >= 0 and box["width"] > 0 and box["height"] > 0
        assert box["x"] + box["width"] <= result["width"]
        assert box["y"] + box["height"] <= result["height"]


def test_whole_takes_the_picture_as_one_face(face_client):
    crop = Image.new("L", (48, 48), 51)
    (result,) = sent(face_client, crop, "?faces=whole").get_json()["results"]
    assert result["label"] == "dark"
    assert result["score"] == pytest.approx(0.8, abs=1e-4)
    (face,) = result["faces"]
    assert face["box"] == {"x": 0, "y": 0, "width": 48, "height": 48}


def test_a_model_of_colour_pictures_gets_them(face_client):
    response = sent(face_client, photo("astronaut"), "?model=colour&seen=true&top_k=1")
    (face,) = response.get_json()["results"][0]["faces"]
    assert face["seen"].startswith("data:image/png;base64,")
    assert len(face["predictions"]) == 1


def test_boxes_are_in_pixels_of_the_upright_photo_as_sent(face_client):
    upright = photo("astronaut").resize((3000, 3000))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side: turn by 90° to see it upright
    lying = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(lying, "JPEG", exif=exif)
    (result,) = sent(face_client, lying.getvalue()).get_json()["results"]
    assert (result["width"], result["height"]) == (3000, 3000)
    box = result["faces"][0]["box"]
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    expected = [(ASTRONAUT[axis] + ASTRONAUT[axis + 2] / 2) * 3000 / 320 for axis in (0, 1)]
    assert math.dist(middle, expected) < 150


NO_FACE = {
    "a scene": lambda: photo("coffee"),
    "one pixel": lambda: Image.new("L", (1, 1)),
    "black": lambda: Image.new("RGB", (640, 480)),
    "noise": lambda: Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    ),
    "transparent": lambda: Image.new("RGBA", (200, 200), (0, 0, 0, 0)),
    "a line": lambda: Image.new("L", (3000, 1), 90),
}


@pytest.mark.parametrize("name", NO_FACE)
def test_a_picture_without_a_face_is_told_so(face_client, name):
    response = sent(face_client, NO_FACE[name]())
    assert response.status_code == 422
    assert "face" in response.get_json()["detail"]


def test_a_crowd_is_answered(face_client):
    face = photo("astronaut").crop((80, 10, 200, 130)).resize((90, 90))
    crowd = Image.new("RGB", (20 * 90, 10 * 90))
    for index in range(200):
        crowd.paste(face, (index % 20 * 90, index // 20 * 90))
    (result,) = sent(face_client, crowd).get_json()["results"]
    assert len(result["faces"]) > 150


def test_formats_that_people_send(face_client):
    animation = io.BytesIO()
    family = photo("family")
    family.save(animation, "WEBP", save_all=True, append_images=[Image.new("RGB", family.size)])
    assert sent(face_client, animation.getvalue()).status_code == 200
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    response = sent(face_client, heic)
    assert response.status_code == (400 if HEIC else 415)  # damaged, or of no use here
    said = response.get_json()["detail"]
    assert "HEIC" in said and (HEIC or "JPEG" in said)
    assert sent(face_client, encode(Image.new("1", (12000, 9000)))).status_code == 413


def test_several_photos_and_one_without_a_face(face_client):
    files = [
        (io.BytesIO(encode(photo(name), "JPEG")), f"{name}.jpg")
        for name in ("astronaut", "coffee", "family")
    ]
    results = face_client.post("/api/predict", data={"file": files}).get_json()["results"]
    assert [len(result.get("faces", [])) for result in results] == [1, 0, 4]
    assert results[1]["error"]["status"] == 422


def test_without_onnxruntime_the_answer_says_what_to_do(face_client, fresh, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "onnxruntime" else find_spec(name)
    )
    response = sent(face_client, photo("astronaut"))
    assert response.status_code == 503
    detail = response.get_json()["detail"]
    assert "pip install onnxruntime" in detail and "faces=whole" in detail
    assert sent(face_client, photo("astronaut"), "?faces=whole").status_code == 200


@pytest.mark.parametrize("content", [None, b"", b"harm"], ids=["none", "empty", "harmed"])
def test_without_whole_weights_it_says_what_to_do(fresh, monkeypatch, tmp_path, content):
    monkeypatch.setattr(face_detector, "WEIGHTS", tmp_path / "damaged.onnx")
    if content is not None:
        face_detector.WEIGHTS.write_bytes(content)
    with pytest.raises(NoDetectorError, match=r"damaged\.onnx .*git checkout tasks/weights"):
        faces.find(photo("astronaut"))


@pytest.mark.parametrize(
    "recorded",
    json.loads((PHOTOS / "detections.json").read_text()),
    ids=lambda each: f"{each['photo']}-{each['turn']}",
)
def test_it_finds_what_the_library_finds(recorded):
    picture = photo(recorded["photo"]).rotate(recorded["turn"], expand=True)
    found = face_detector.detect(np.asarray(picture))
    assert (
        json.loads(json.dumps([[*face[:5], face.landmarks] for face in found]))
        == (recorded["faces"])
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (33, 31), (64, 64)])
def test_the_detector_takes_any_size(size):
    assert face_detector.detect(np.full((*size, 3), 90, np.uint8)) == []


def test_the_detector_lives_on_after_a_fork():
    """As under a pre-forking server, which loads the app and then makes its workers."""
    code = (
        "import os; from PIL import Image; from tasks import face_finder as faces; "
        f"image = Image.open({str(PHOTOS / 'astronaut.jpg')!r}); assert faces.find(image); "
        "child = os.fork()\n"
        "if not child: os._exit(len(faces.find(image)))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=TOP, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "1", done.stderr


def test_the_page_names_the_classes(face_client):
    page = face_client.get("/faces").get_data(as_text=True)
    for label in LABELS:
        assert f'data-label="{label}"' in page
    assert "dark 40\u00a0%" in page


def test_the_page_without_a_model_says_what_to_do(client):
    response = client.get("/faces")
    assert response.status_code == 200
    assert "python -m training train emotions" in response.get_data(as_text=True)


@pytest.mark.data("GLIMPSE_PHOTOS")
@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("astronaut.png", 1, 1),
        ("biden_7mpx.jpg", 1, 1),
        ("obama_family.jpg", 4, 4),
        ("solvay_1927.jpg", 27, 31),
        ("group_10mpx.jpg", 28, 38),
        ("no_face_cat.png", 0, 0),
        ("no_face_coffee.png", 0, 0),
    ],
)
def test_photos_of_full_size(name, least, most):
    with Image.open(Path(os.environ["GLIMPSE_PHOTOS"]) / name) as image:
        assert least <= len(faces.find(image.convert("RGB"))) <= most


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        pytest.param(name, variable, marks=pytest.mark.data(variable))
        for name, variable in {
            "emotions": "GLIMPSE_FER2013",
            "emotions-original": "GLIMPSE_FER2013",
            "emotions-adamax": "GLIMPSE_FER2013",
            "emotions-imbalanced": "GLIMPSE_FER2013",
            "emotions-balanced": "GLIMPSE_CKPLUS",
        }.items()
    ],
)
def test_the_served_model_is_as_right_as_its_card(name, variable):
    """Every test picture, sent as people would send it."""
    from msgspec import convert
    from msgspec.structs import replace

    from training import datasets
    from training.recipe import DataRecipe

    if not (model_store.ROOT / name).is_dir():
        pytest.skip(f"{name} is not in the store")
    made = model_store.read_card(model_store.ROOT / name)
    recipe = replace(convert(made.recipe["data"], DataRecipe), also=[])
    test = datasets.load(recipe, Path(os.environ[variable]), made.task).test
    client = create_app().test_client()
    told: list[str] = []
    for batch in test.pictures.split(100):
        files = [
            (io.BytesIO(encode(Image.fromarray(picture[0].numpy()))), "a.png") for picture in batch
        ]
        form = {"file": files, "model": made.name, "faces": "whole", "top_k": "1"}
        results = client.post("/api/predict", data=form).get_json()["results"]
        told += [result["label"] for result in results]
    hits = sum(
        label == made.labels[truth] for label, truth in zip(told, test.labels.tolist(), strict=True)
    )
    assert hits / len(test) == pytest.approx(made.metrics["test_accuracy"])
    assert hits / len(test) >= made.recipe["target"]

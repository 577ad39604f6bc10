"""Faces that cannot be judged are said to be unsure, and what is no face to be none."""

from __future__ import annotations

import itertools
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from samples import ByLight, encode, face_card, script

from app import create_app
from model_store import save
from tasks import face_finder, face_view
from tasks.face_detector import Detection, NoDetectorError

PHOTOS = Path(__file__).parent / "photos"
FACE = (110, 40, 166, 110)  # edges of the astronaut's face


@pytest.fixture(scope="module")
def astronaut():
    with Image.open(PHOTOS / "astronaut.jpg") as image:
        return image.convert("RGB")


@pytest.fixture(scope="module")
def coffee():
    with Image.open(PHOTOS / "coffee.jpg") as image:
        return image.convert("RGB")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of an app whose network is sure of everything."""
    root = tmp_path_factory.mktemp("faces")
    save(script(ByLight()), face_card(thresholds={"unsure": 0.01}), root / "emotions")
    return create_app({"MODEL_STORE": str(root), "DEFAULT_MODEL": "emotions"}).test_client()


def covered(image, *box, fill=(160, 170, 180)):
    """The picture with a rectangle over it."""
    image = image.copy()
    ImageDraw.Draw(image).rectangle(box, fill=fill)
    return image


def verdict(image):
    (face,) = face_finder.find(image)
    return face.verdict


SEEN = {
    "as it is": lambda image: image,
    "tilted": lambda image: image.rotate(25, Image.Resampling.BICUBIC),
    "darker": lambda image: image.point(lambda value: value // 2),
    "larger": lambda image: image.resize((900, 900)),
    "close to the edge": lambda image: image.crop((100, 20, 320, 320)),
}
NOT_SEEN = {
    "mouth covered": lambda image: covered(image, 112, 84, 164, 112),
    "eyes covered": lambda image: covered(image, 112, 60, 164, 74, fill=(20, 20, 20)),
    "half covered": lambda image: covered(image, 138, 30, 180, 120),
    "cut off at the chin": lambda image: image.crop((0, 0, 320, 92)),
    "cut off at the left": lambda image: image.crop((130, 0, 320, 320)),
    "too small": lambda image: image.resize((96, 96)),
}


@pytest.mark.parametrize("kind", SEEN)
def test_a_face_that_is_seen_well_is_left_to_its_score(astronaut, kind):
    assert verdict(SEEN[kind](astronaut)) == "sure"


@pytest.mark.parametrize("kind", NOT_SEEN)
def test_a_face_of_which_a_part_is_not_seen_is_unsure(astronaut, kind):
    assert verdict(NOT_SEEN[kind](astronaut)) == "unsure"


NO_FACE = {
    "a thing": lambda coffee: coffee.crop((60, 60, 160, 160)),
    "one colour": lambda _: Image.new("L", (48, 48), 200),
    "noise": lambda _: Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    ),
    "a letter": lambda _: covered(Image.new("RGB", (60, 60), "white"), 25, 8, 34, 52),
    "a strip": lambda _: Image.new("L", (200, 2), 90),
}


@pytest.mark.parametrize("kind", NO_FACE)
def test_a_crop_without_a_face_is_none(client, coffee, kind):
    response = client.post(
        "/api/predict?faces=whole",
        data=encode(NO_FACE[kind](coffee)),
        content_type="image/png",
    )
    (result,) = response.get_json()["results"]
    assert result["verdict"] == result["faces"][0]["verdict"] == "none"
    assert result["label"] in ("dark", "light")


@pytest.mark.parametrize("query", ["?faces=whole", ""])
@pytest.mark.parametrize(("cover", "expected"), [(False, "sure"), (True, "unsure")])
def test_the_answer_has_the_faces_verdict(client, astronaut, query, cover, expected):
    left, top, right, bottom = FACE
    crop = (covered(astronaut, 112, 84, 164, 112) if cover else astronaut).crop(
        (left - 6, top - 6, right + 6, bottom + 6)
    )
    image = crop if query else crop.resize((200, 240))
    response = client.post(f"/api/predict{query}", data=encode(image), content_type="image/png")
    (result,) = response.get_json()["results"]
    assert result["verdict"] == result["faces"][0]["verdict"] == expected


def test_a_long_crop_takes_little_memory():
    tracemalloc.start()
    assert face_finder.verdict_of_crop(Image.new("L", (60_000, 60), 90)) == "none"
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_crop_is_answered_by_its_score_where_no_detector_is(client, monkeypatch):
    def missing(_):
        raise NoDetectorError("onnxruntime is not installed")

    monkeypatch.setattr(face_finder, "detect", missing)
    crop = encode(Image.new("L", (48, 48), 90))
    response = client.post("/api/predict?faces=whole", data=crop, content_type="image/png")
    assert response.get_json()["results"][0]["verdict"] == "sure"


def landmarks(nose=(144, 150)):
    return ((104, 110), (184, 110), nose, (114, 190), (174, 190))


def striped():
    """A close-up with detail everywhere."""
    rows = np.arange(288)[:, np.newaxis] // 6 % 2 * 160 + np.zeros((288, 288))
    return Image.fromarray(rows.astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize(
    ("score", "nose", "expected"),
    [
        (face_view.CLEAR, (144, 150), "sure"),
        (face_view.CLEAR - 1, (144, 150), "unsure"),
        (face_view.A_FACE, (144, 150), "unsure"),
        (face_view.A_FACE - 1, (144, 150), "none"),
        (99, (144 + 40, 150), "sure"),
        (99, (144 + 56, 150), "unsure"),
        (99, (144 - 56, 150), "unsure"),
    ],
)
def test_the_detectors_score_and_the_nose_decide(score, nose, expected):
    found = Detection(score, 48, 48, 192, 192, landmarks(nose))
    assert face_view.verdict(striped(), found) == expected


@pytest.mark.parametrize("part", [(90, 90, 125, 130), (160, 90, 200, 130), (100, 170, 190, 215)])
def test_an_eye_or_a_mouth_without_detail_is_covered(part):
    found = Detection(99, 48, 48, 192, 192, landmarks())
    assert face_view.verdict(covered(striped(), *part), found) == "unsure"


def test_landmarks_that_coincide_are_unsure():
    found = Detection(99, 48, 48, 192, 192, ((100, 100),) * 5)
    assert face_view.verdict(striped(), found) == "unsure"


# --- small faces in large photos --------------------------------------------------------------


@pytest.mark.parametrize("size", [(5400, 480), (480, 5400), (5400, 1900)])
def test_a_small_face_in_a_large_photo_is_found(astronaut, size):
    face = astronaut.crop((80, 10, 200, 130)).resize((96, 96))
    photo = Image.linear_gradient("L").resize(size).convert("RGB")
    x, y = (round(0.43 * (side - 96)) for side in size)
    photo.paste(face, (x, y))
    (found,) = face_finder.find(photo)
    assert abs(found.x + found.width / 2 - x - 48) < 12
    assert abs(found.y + found.height / 2 - y - 52) < 12
    assert 35 < found.side < 70


@pytest.mark.parametrize("size", [(6000, 750), (540, 8000), (60_000, 70), (2600, 2500)])
def test_tiles_cover_the_photo_and_overlap(monkeypatch, size):
    seen = []

    photo = Image.new("1", size)
    monkeypatch.setattr(photo, "crop", lambda box: seen.append(box) or photo)
    monkeypatch.setattr(face_finder, "_look", lambda photo, side: [])
    face_finder._look_in_tiles(photo)
    axis = int(size[1] > size[0])
    assert seen[0][axis] == 0 and seen[-1][axis + 2] == max(size)
    length = seen[0][axis + 2] - seen[0][axis]
    for before, after in itertools.pairwise(seen):
        assert before[axis + 2] - after[axis] >= face_finder.SHARED * length - 1
        assert after[1 - axis] == 0 and after[3 - axis] == min(size)


# --- real photos ------------------------------------------------------------------------------


@pytest.mark.data("GLIMPSE_PHOTOS")
@pytest.mark.parametrize(
    ("name", "unsure"),
    [("cameraman_cc0.png", 1), ("nasa_pilots.jpg", 0), ("obama_family.jpg", 0)],
)
def test_a_face_in_profile_is_unsure_and_one_from_the_front_is_not(name, unsure):
    with Image.open(Path(os.environ["GLIMPSE_PHOTOS"]) / name) as image:
        found = face_finder.find(image.convert("RGB"))
    assert [face.verdict for face in found].count("unsure") == unsure

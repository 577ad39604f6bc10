"""A card's figures are what is served: training and serving make the same of every file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import model_store
from app import create_app
from tasks import InputSpec
from training import datasets, loop, recipe
from training.cli import main

CLASSES = ["darker", "lighter"]
FORMS = ("plain", "turned", "transparent", "deep", "cmyk", "gif", "wide")
SIDE, BAND = 40, 20
ORIENTATION, TURN = 0x0112, {1: 0, 3: 180, 6: 90, 8: 270}

RECIPE = """
name = "{task}-tiny"
description = "Which way the light falls."
task = "{task}"
epochs = 5
batch_size = 16

[data]
name = "folders"
validation = 0.2
size = 24
channels = 3
fit = "{fit}"

[network]
name = "vgg"
widths = [8, 16]
depths = [1, 1]

[optimiser]
lr = 1e-2
"""


def pixels(label, random):
    """Bands of one colour that grow lighter or darker from top to bottom, (SIDE, SIDE, 3)."""
    ramp = (np.arange(SIDE) + random.integers(BAND)) % BAND / BAND
    if label == "darker":
        ramp = ramp[::-1]
    bands = ramp[:, None, None] * random.integers(150, 256, 3) + np.zeros((1, SIDE, 1))
    return (bands * random.uniform(0.8, 1, (SIDE, SIDE, 1))).astype(np.uint8)


def encoded(values, form, index):
    """The picture in a file of one of `FORMS`: its suffix and content."""
    picture, buffer = Image.fromarray(values), io.BytesIO()
    if form == "gif":
        still = Image.fromarray(255 - values)
        picture.save(buffer, "GIF", save_all=True, append_images=[still])
        return ".gif", buffer.getvalue()
    if form == "wide":
        picture = Image.fromarray(np.tile(values, (1, 3, 1)))
    if form == "turned":
        orientation = list(TURN)[index % len(TURN)]
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        picture.rotate(TURN[orientation], expand=True).save(buffer, "JPEG", exif=exif)
        return ".jpg", buffer.getvalue()
    if form == "cmyk":
        picture.convert("CMYK").save(buffer, "JPEG")
        return ".jpg", buffer.getvalue()
    if form == "transparent":  # where it is dark
        alpha = np.where(values.max(axis=2) > 100, 255, 0).astype(np.uint8)
        picture.putalpha(Image.fromarray(alpha))
    if form == "deep":
        grey = np.asarray(picture.convert("L")).astype(np.uint16)
        picture = Image.fromarray(grey * 257)
        assert picture.mode == "I;16"
    picture.save(buffer, "PNG")
    return ".png", buffer.getvalue()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Folders train and test of either class, with every form in equal parts."""
    root, random = tmp_path_factory.mktemp("tree"), np.random.default_rng(4)
    for part, count in (("train", 12), ("test", 8)):
        for label in CLASSES:
            (root / part / label).mkdir(parents=True)
            for form in FORMS:
                for index in range(count):
                    suffix, content = encoded(pixels(label, random), form, index)
                    (root / part / label / f"{form}-{index}{suffix}").write_bytes(content)
    return root


@pytest.mark.parametrize(
    ("task", "fit", "query"),
    [("image", "letterbox", {}), ("face", "crop", {"faces": "whole"})],
)
def test_what_a_card_states_is_what_is_served(tree, tmp_path, task, fit, query):
    """Not one file is answered otherwise than it was evaluated, and the scores agree."""
    store = tmp_path / "store"
    (tmp_path / "tiny.toml").write_text(RECIPE.format(task=task, fit=fit))
    out = store / f"{task}-tiny"
    command = ["train", str(tmp_path / "tiny.toml"), "--data", str(tree), "--out", str(out)]
    assert main(command) == 0
    module, card = model_store.load(out)
    assert card.preprocessing.get("fit") == ("letterbox" if task == "image" else None)
    spec = InputSpec(card.input.shape, card.preprocessing)
    test = datasets.load(recipe.read(str(tmp_path / "tiny.toml")).data, tree, task, spec).test
    evaluated = loop.predict(module, test.pictures).numpy()

    client = create_app({"MODEL_STORE": str(store)}).test_client()
    files = [file for label in CLASSES for file in sorted((tree / "test" / label).iterdir())]
    assert len(files) == len(evaluated) == 112
    differ, right = [], 0
    for file, probabilities in zip(files, evaluated, strict=True):
        answer = client.post(
            "/api/predict",
            query_string={"model": card.name, **query},
            data={"file": (io.BytesIO(file.read_bytes()), file.name)},
        ).get_json()["results"][0]
        if answer["label"] != card.labels[probabilities.argmax()]:
            differ.append(file.name)
        assert answer["score"] == pytest.approx(probabilities.max(), abs=1e-5)
        right += answer["label"] == file.parent.name
    assert differ == []
    assert right / len(files) == card.metrics["test_accuracy"]
    assert card.metrics["test_accuracy"] > 0.8  # else nothing here would show a turned picture

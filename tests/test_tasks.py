"""A task is one thing: registered here and nowhere else, it is trained, served and shown."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from PIL import Image
from samples import ByInk, card, encode, script

import tasks
from app import create_app
from app.__main__ import main as app_main
from model_store import save
from tasks import InputSpec, Task
from tasks.base import as_pixels, on_white
from tasks.problems import NothingToClassify
from training.cli import main as training_main

RECIPE = """
name = "corners"
description = "Whether a picture's top left corner is dark or light."
task = "corner"
epochs = 3
batch_size = 8
seed = 1

[data]
name = "folders"
size = 16
validation = 0.25
test = 0.25

[network]
name = "vgg"
widths = [8]
depths = [1]

[optimiser]
name = "Adam"
lr = 0.05
"""


class CornerTask(Task):
    """The top left quarter of a picture is what a model sees."""

    name = "corner"

    def prepare(self, image, spec: InputSpec):
        channels, height, width = spec.shape
        corner = on_white(image).crop((0, 0, image.width // 2, image.height // 2))
        if min(corner.size) == 0:
            raise NothingToClassify("The picture has no quarter. Send a larger one.")
        return as_pixels(corner.resize((width, height)), channels)


def picture(light, seed):
    """A picture of noise whose top left quarter is dark or light."""
    values = np.random.default_rng(seed).integers(0, 255, (40, 40), np.uint8)
    values[:20, :20] = values[:20, :20] // 4 + (190 if light else 0)
    return Image.fromarray(values)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a model of the task `corner`, trained on a few pictures."""
    folder = tmp_path_factory.mktemp("corner")
    tasks.register(CornerTask())
    try:
        for light, name in enumerate(("dark", "light")):
            (folder / "data" / name).mkdir(parents=True)
            for number in range(40):
                place = folder / "data" / name / f"{number}.png"
                picture(light, 100 * light + number).save(place)
        (folder / "corners.toml").write_text(RECIPE)
        command = ["train", str(folder / "corners.toml"), "--data", str(folder / "data")]
        command += ["--out", str(folder / "run"), "--publish", "--store", str(folder / "store")]
        assert training_main(command) == 0
        yield folder / "store"
    finally:
        tasks.unregister("corner")


@pytest.fixture(scope="module")
def client(store):
    return create_app({"MODEL_STORE": str(store), "DEFAULT_MODEL": "corners"}).test_client()


@pytest.mark.parametrize("light", [False, True])
def test_it_answers(client, light):
    response = client.post("/api/predict", data=encode(picture(light, 7)), content_type="image/png")
    (result,) = response.get_json()["results"]
    assert result["label"] == ("light" if light else "dark")
    (subject,) = result["subjects"]
    assert subject["box"] == {"x": 0, "y": 0, "width": 40, "height": 40}
    assert result["verdict"] in ("sure", "unsure")


def test_its_problems_are_told(client):
    response = client.post(
        "/api/predict", data=encode(Image.new("L", (1, 1))), content_type="image/png"
    )
    assert response.status_code == 422
    assert "no quarter" in response.get_json()["detail"]


def test_its_model_is_tried_on_a_page_of_its_own(client):
    page = client.get("/try/corners")
    assert page.status_code == 200
    assert 'data-predict-url="/api/predict?model=corners' in page.text
    assert "light" in page.text
    assert "/try/corners" in client.get("/models/corners").text


def test_it_is_on_the_pages_of_all_models(client):
    assert ">corners</option>" in client.get("/batch").text
    assert "corners" in client.get("/models").text
    assert client.get("/faces").status_code == 200


def test_where_no_model_reads_digits_the_start_page_is_its_own(client):
    assert client.get("/").location == "/try/corners"
    assert 'href="/try/corners"' in client.get("/models").text
    assert ">Digits<" not in client.get("/models").text


def test_an_empty_store_says_so_where_digits_are_drawn(tmp_path):
    page = create_app({"MODEL_STORE": str(tmp_path)}).test_client().get("/").text
    assert "no digit model" in page
    assert "data-predict-url" not in page


def test_the_page_for_digits_takes_the_digit_model_that_there_is(tmp_path):
    save(script(ByInk()), card("numerals"), tmp_path / "numerals")
    page = create_app({"MODEL_STORE": str(tmp_path)}).test_client().get("/").text
    assert "/api/predict?model=numerals" in page


def test_it_is_in_the_published_contract(client):
    document = client.get("/openapi.json").get_json()
    assert "corner" in document["components"]["schemas"]["Card"]["properties"]["task"]["enum"]
    assert client.get("/docs").status_code == 200
    assert client.get("/api/models/corners").get_json()["task"] == "corner"


def test_the_command_line_answers_too(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GLIMPSE_MODEL_STORE", "elsewhere")
    picture(True, 5).save(tmp_path / "light.png")
    command = ["predict", str(tmp_path), "--model", "corners", "--csv", "--store", str(store)]
    assert app_main(command) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["label"] == "light"


def test_an_unknown_task_is_named_with_those_that_are_known():
    with pytest.raises(tasks.UnknownTaskError, match=", ".join(tasks.names())):
        tasks.get("no such task")

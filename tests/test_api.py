"""The HTTP contract, where all goes well."""

from __future__ import annotations

import base64
import io
import itertools

import numpy as np
import pytest
from PIL import Image
from samples import encode, seven, validate


def as_form(png, **fields):
    return {"data": {"file": (io.BytesIO(png), "me.png"), **fields}}


def as_body(png, kind="image/png"):
    return {"data": png, "content_type": kind}


def as_json(png, **fields):
    return {"json": {"image": base64.b64encode(png).decode(), **fields}}


FORMS = {
    "multipart": as_form,
    "image body": as_body,
    "octet stream": lambda png: as_body(png, "application/octet-stream"),
    "json": as_json,
    "data url": lambda png: {
        "json": {"image": "data:image/png;base64," + base64.b64encode(png).decode()}
    },
    "urlsafe without padding": lambda png: {
        "json": {"image": base64.urlsafe_b64encode(png).decode().rstrip("=")}
    },
    "json list": lambda png: {"json": {"images": [base64.b64encode(png).decode()]}},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gets_the_contracts_answer(app, client, png, form):
    response = client.post("/api/predict", **FORMS[form](png))
    assert response.status_code == 200
    answer = response.get_json()
    validate(app, answer, "Predictions")
    assert list(answer) == ["model", "version", "results", "elapsed_ms"]
    (result,) = answer["results"]
    assert (result["width"], result["height"]) == (280, 280)
    assert result["filename"] == ("me.png" if form == "multipart" else None)
    scores = [prediction["score"] for prediction in result["predictions"]]
    assert len(scores) == 10
    assert sum(scores) == pytest.approx(1, abs=1e-7)
    assert scores == sorted(scores, reverse=True)
    assert result["predictions"][0] == {"label": result["label"], "score": result["score"]}


def test_every_form_gives_the_same_answer(client, png):
    answers = [client.post("/api/predict", **form(png)).get_json() for form in FORMS.values()]
    for first, second in itertools.pairwise(answers):
        assert first["results"][0]["predictions"] == second["results"][0]["predictions"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda client, png: client.post("/api/predict?top_k=3", **as_body(png)),
        lambda client, png: client.post("/api/predict?top_k=9", **as_form(png, top_k="3")),
        lambda client, png: client.post("/api/predict?top_k=9", **as_json(png, top_k=3)),
        lambda client, png: client.post("/api/predict", **as_json(png, top_k="3")),
    ],
    ids=["query", "form over query", "json over query", "json text"],
)
def test_top_k_counts_predictions_and_the_body_wins(client, png, ask):
    assert len(ask(client, png).get_json()["results"][0]["predictions"]) == 3


def test_several_pictures_are_answered_in_order(client):
    pictures = [encode(seven(size=(100 + index, 100))) for index in range(5)]
    files = [(io.BytesIO(png), f"{index}.png") for index, png in enumerate(pictures)]
    results = client.post("/api/predict", data={"file": files}).get_json()["results"]
    assert [result["filename"] for result in results] == [f"{index}.png" for index in range(5)]
    assert [result["width"] for result in results] == [100, 101, 102, 103, 104]


def test_one_that_fails_does_not_spoil_the_others(app, client, png):
    files = [(io.BytesIO(png), "a.png"), (io.BytesIO(b"hello"), "b.png")]
    response = client.post("/api/predict", data={"file": files})
    assert response.status_code == 200
    validate(app, response.get_json(), "Predictions")
    good, bad = response.get_json()["results"]
    assert good["label"]
    assert set(bad) == {"filename", "error"}
    assert bad["error"]["status"] == 400


def test_bad_base64_is_the_problem_of_that_picture_alone(client, png):
    images = ["%%%", base64.b64encode(png).decode()]
    bad, good = client.post("/api/predict", json={"images": images}).get_json()["results"]
    assert "images[0]" in bad["error"]["detail"]
    assert good["label"]


def test_where_all_fail_the_response_is_the_first_problem(client):
    files = [(io.BytesIO(encode(Image.new("L", (50, 50)))), "a"), (io.BytesIO(b"hello"), "b")]
    response = client.post("/api/predict", data={"file": files})
    assert response.status_code == 422
    assert response.mimetype == "application/problem+json"


def test_seen_gives_the_networks_input(client, png):
    response = client.post("/api/predict?seen=true", **as_body(png))
    head, _, text = response.get_json()["results"][0]["seen"].partition(",")
    assert head == "data:image/png;base64"
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    assert picture.shape == (28, 28)
    assert picture[0, 0] == 0
    assert picture.max() == 255


def test_a_path_in_a_file_name_is_left_out(client, png):
    for name in ("/etc/me.png", "../../me.png", "me\u202e.png"):
        data = {"file": (io.BytesIO(png), name)}
        (result,) = client.post("/api/predict", data=data).get_json()["results"]
        assert result["filename"] == "me.png"


def test_models_lists_cards(app, client):
    answer = client.get("/api/models").get_json()
    validate(app, answer, "Cards")
    assert [card["name"] for card in answer["models"]] == ["digits"]
    assert answer["unavailable"] == []


def test_a_model_shows_its_card(app, client):
    answer = client.get("/api/models/digits").get_json()
    validate(app, answer, "Card")
    assert answer["labels"][9] == "9"


def test_alive_and_ready(app, client):
    assert client.get("/healthz").get_json() == {"status": "alive"}
    response = client.get("/readyz")
    assert response.status_code == 200
    validate(app, response.get_json(), "Readiness")
    assert response.get_json()["models"] == ["digits"]

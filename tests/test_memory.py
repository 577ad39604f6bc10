"""A worker gives back the memory that much work took, and does not bother after little."""

from __future__ import annotations

import gc
import weakref

import pytest
from PIL import Image
from samples import encode

from app import api, predict
from app.memory import give_back_what_is_free


@pytest.mark.parametrize(("seconds", "times"), [(-1.0, 1), (1e9, 0)])
def test_memory_is_given_back_after_much_work(client, png, monkeypatch, seconds, times):
    calls = []
    monkeypatch.setattr(predict, "MUCH_WORK", seconds)
    monkeypatch.setattr(predict, "give_back_what_is_free", lambda: calls.append(1))
    assert client.post("/api/predict", data=png, content_type="image/png").status_code == 200
    assert len(calls) == times


def test_memory_is_given_back_after_work_that_came_to_nothing(client, monkeypatch):
    calls = []
    monkeypatch.setattr(predict, "MUCH_WORK", -1.0)
    monkeypatch.setattr(predict, "give_back_what_is_free", lambda: calls.append(1))
    assert client.post("/api/predict", data=b"x", content_type="image/png").status_code == 400
    assert calls


def test_memory_is_given_back_after_much_work_on_a_tensor(client, monkeypatch):
    calls = []
    monkeypatch.setattr(predict, "MUCH_WORK", -1.0)
    monkeypatch.setattr(predict, "give_back_what_is_free", lambda: calls.append(1))
    tensor = {"name": "pictures", "datatype": "UINT8", "shape": [1, 1, 28, 28], "data": [0] * 784}
    assert client.post("/v2/models/digits/infer", json={"inputs": [tensor]}).status_code == 200
    assert calls


@pytest.mark.parametrize(
    "content", [b"x", encode(Image.new("L", (50, 50), 255))], ids=["unreadable", "blank"]
)
def test_pictures_that_are_refused_are_not_held_until_a_garbage_collection(
    client, monkeypatch, content
):
    held = []

    def upload(*given):
        made = predict.Upload(*given)
        held.append(weakref.ref(made))
        return made

    monkeypatch.setattr(api, "Upload", upload)
    gc.collect()
    gc.disable()
    try:
        response = client.post("/api/predict", data=content, content_type="image/png")
        assert response.status_code in (400, 422)
        assert [each() for each in held] == [None]
    finally:
        gc.enable()


def test_systems_that_cannot_give_memory_back_go_on(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    give_back_what_is_free()

"""A worker gives back the memory that much work took, and does not bother after little."""

from __future__ import annotations

import pytest

from app import predict
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


def test_systems_that_cannot_give_memory_back_go_on(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    give_back_what_is_free()

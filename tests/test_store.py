"""The store: what is saved is what is loaded, and nothing else is."""

from __future__ import annotations

import json

import pytest
import torch
from samples import ByInk, card, script

from app import create_app
from model_store import (
    Card,
    CardError,
    StoreError,
    folders,
    load,
    read_card,
    save,
    unsaid_deprecation,
)


@pytest.fixture
def folder(tmp_path):
    save(script(ByInk()), card(), tmp_path / "digits")
    return tmp_path / "digits"


def test_a_checkpoint_comes_back_with_its_card(folder):
    module, loaded = load(folder)
    assert loaded == read_card(folder)
    assert loaded.bare() == card()
    assert loaded.size == (folder / "model.pt").stat().st_size
    pictures = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    assert torch.equal(module(pictures), ByInk()(pictures))


def test_the_card_is_embedded_in_the_file(folder):
    extra = {"card.json": ""}
    with unsaid_deprecation():
        torch.jit.load(str(folder / "model.pt"), _extra_files=extra)
    assert Card.from_json(extra["card.json"]) == card()


def corrupt(folder):
    content = bytearray((folder / "model.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.pt").write_bytes(content)


def truncate(folder):
    content = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(content[: len(content) // 2])


def swap(folder):
    other = folder.parent / "other"
    save(script(ByInk()), card(version="2026.01.02-1111111"), other)
    (folder / "model.pt").write_bytes((other / "model.pt").read_bytes())
    for file in other.iterdir():
        file.unlink()
    other.rmdir()


def change_card(folder):
    values = json.loads((folder / "card.json").read_text())
    values["labels"] = values["labels"][::-1]
    (folder / "card.json").write_text(json.dumps(values))


DAMAGE = {
    "corrupt": (corrupt, "SHA-256"),
    "truncated": (truncate, "SHA-256"),
    "swapped": (swap, "SHA-256"),
    "card changed": (change_card, "differs"),
    "checkpoint missing": (lambda folder: (folder / "model.pt").unlink(), "no readable model.pt"),
    "card missing": (lambda folder: (folder / "card.json").unlink(), "no readable card.json"),
    "card broken": (lambda folder: (folder / "card.json").write_text("{"), "not JSON"),
    "card of nothing": (lambda folder: (folder / "card.json").write_text("{}"), "lacks"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_nothing_damaged_is_loaded(folder, damage):
    harm, reason = DAMAGE[damage]
    harm(folder)
    with pytest.raises(StoreError, match=reason):
        load(folder)


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_app_starts_without_a_damaged_model_and_says_why(folder, damage):
    save(script(ByInk()), card(name="second"), folder.parent / "second")
    harm, reason = DAMAGE[damage]
    harm(folder)
    client = create_app({"MODEL_STORE": str(folder.parent)}).test_client()
    readiness = client.get("/readyz")
    assert readiness.status_code == 503
    assert readiness.get_json()["models"] == ["second"]
    assert reason in readiness.get_json()["unavailable"]["digits"]
    models = client.get("/api/models").get_json()
    assert [model["name"] for model in models["models"]] == ["second"]
    assert reason in models["unavailable"][0]["reason"]
    assert client.get("/api/models/digits").status_code == 503


def test_a_model_whose_network_does_not_fit_its_card_is_left_out(tmp_path):
    save(script(ByInk()), card(labels=["a", "b"]), tmp_path / "digits")
    client = create_app({"MODEL_STORE": str(tmp_path)}).test_client()
    assert "labels" in client.get("/readyz").get_json()["unavailable"]["digits"]


def test_an_empty_or_missing_store_holds_nothing(tmp_path):
    (tmp_path / "notes").mkdir()
    assert folders(tmp_path) == []
    assert folders(tmp_path / "missing") == []
    client = create_app({"MODEL_STORE": str(tmp_path)}).test_client()
    assert client.get("/readyz").status_code == 503
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"labels": []},
        {"labels": "0123456789"},
        {"labels": [1, 2]},
        {"task": "cats"},
        {"input": {}},
        {"input": {"shape": [28, 28]}},
        {"metrics": None},
        {"name": 7},
    ],
)
def test_a_card_holds_what_it_should(change):
    with pytest.raises(CardError):
        card(**change)


def test_a_card_survives_json_and_unknown_fields():
    values = json.loads(card().to_json())
    assert Card.from_json(json.dumps({**values, "later": 1})) == card()


@pytest.mark.parametrize("value", ["0", "-1", "many", "1e6", ""])
def test_a_setting_that_is_off_is_named(monkeypatch, value):
    monkeypatch.setenv("GLIMPSE_MAX_BYTES", value)
    with pytest.raises(ValueError, match="GLIMPSE_MAX_BYTES"):
        create_app()


def test_settings_come_from_the_environment(monkeypatch, store):
    monkeypatch.setenv("GLIMPSE_MODEL_STORE", str(store))
    monkeypatch.setenv("GLIMPSE_MAX_IMAGES", "3")
    assert create_app().config["MAX_IMAGES"] == 3

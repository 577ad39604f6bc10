"""The store: what is saved is what is loaded, and nothing else is."""

from __future__ import annotations

import json
import math
import os
import re

import pytest
import torch
from msgspec.structs import replace
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
from model_store.card import RENAMED_IN_DATA, RENAMED_IN_RECIPES


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
    "card of nothing": (
        lambda folder: (folder / "card.json").write_text("{}"),
        "“name” is missing",
    ),
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


def test_a_folder_that_cannot_be_read_is_left_out(folder, monkeypatch):
    """As `lost+found` of a mounted volume; tests may run as root, who can read everything."""
    (folder.parent / "lost+found").mkdir()

    def denying(read):
        def denied(path, *arguments, **named):
            if "lost+found" in str(path):
                raise PermissionError(13, "Permission denied", str(path))
            return read(path, *arguments, **named)

        return denied

    for name in ("listdir", "scandir", "stat"):
        monkeypatch.setattr(os, name, denying(getattr(os, name)))
    assert folders(folder.parent) == [folder]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": []}, "“labels” must be a list of length >= 1"),
        ({"labels": "0123456789"}, "“labels” must be a list, not text"),
        ({"labels": [1, 2]}, "“labels[0]” must be text"),
        ({"task": "two words"}, "“task” must be text of letters"),
        ({"input": {}}, "“input.shape” is missing"),
        ({"input": {"shape": [28, 28]}}, "“input.shape” must be a list of length 3"),
        ({"input": {"shape": [1, 0, 28]}}, "“input.shape[1]” must be a whole number >= 1"),
        ({"input": {"shape": [1, 28, 28], "dtype": "float32"}}, "“input.dtype” must be uint8, not"),
        ({"thresholds": {"unsure": 80}}, "“thresholds[...]” must be a number <= 1"),
        ({"metrics": None}, "“metrics” must be a table, not nothing"),
        ({"metrics": {"test_accuracy": math.nan}}, "NaN or Infinity"),
        ({"metrics": {"test_recall": [-math.inf]}}, "NaN or Infinity"),
        ({"name": 7}, "“name” must be text, not a whole number"),
    ],
)
def test_a_card_with_a_wrong_field_is_refused_by_its_name(change, told):
    with pytest.raises(CardError, match=re.escape(told)):
        card(**change)


def test_a_card_with_a_number_that_is_not_finite_is_not_written():
    wrong = replace(card(), metrics={"test_recall": [0.5, math.nan]})
    with pytest.raises(CardError, match="not finite"):
        wrong.to_json()


def test_a_card_without_thresholds_does_not_mention_them():
    assert "thresholds" not in card().to_json()
    told = card(thresholds={"unsure": 0.7})
    assert Card.from_json(told.to_json()) == told


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_a_shipped_card_is_written_as_it_was_read(folder):
    """But for the keys that have a new name."""
    text = (folder / "card.json").read_text(encoding="utf-8")
    values = json.loads(text)
    written = json.loads(Card.from_json(text).to_json())
    assert len(text.splitlines()) == len(Card.from_json(text).to_json().splitlines())
    for key in ("recipe", "data"):
        for old, new in {**RENAMED_IN_RECIPES, **RENAMED_IN_DATA}.items():
            if old in values[key]:
                values[key] = {new if name == old else name: v for name, v in values[key].items()}
    assert json.dumps(written) == json.dumps(values)


def test_an_older_card_comes_under_the_present_names():
    older = card(
        recipe={"epochs": 3, "finish": {"epochs": 2}, "standardise": "data"},
        data={"twins_left_out": 7},
    )
    assert older.recipe == {"epochs": 3, "fine_tune": {"epochs": 2}, "normalise": "data"}
    assert older.data == {"duplicates_left_out": 7}


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

"""`/batch` as the server makes it: the models to choose from, and the server's limits."""

from __future__ import annotations

import json
import re

import pytest
from samples import ByInk, ByLight, card, face_card, script

from app import create_app
from model_store import save


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    save(script(ByInk()), card(), root / "digits")
    save(script(ByInk()), card("another"), root / "another")
    save(script(ByLight()), face_card(), root / "emotions")
    (root / "bad").mkdir()
    (root / "bad" / "model.pt").write_bytes(b"no model")
    return root


def page(store, **settings):
    app = create_app({"MODEL_STORE": str(store), **settings})
    return app.test_client().get("/batch").get_data(as_text=True)


def options(text):
    """Attributes and name of each model that can be chosen."""
    (select,) = re.findall(r'<select id="model".*?</select>', text, re.S)
    return re.findall(r"<option ([^>]*)>([^<]*)</option>", select)


def test_the_models_that_serve_can_be_chosen_and_the_default_is(stores):
    found = options(page(stores))
    assert [name for _, name in found] == ["another", "digits", "emotions"]
    assert [name for told, name in found if "selected" in told] == ["digits"]
    labels = re.search(r"data-labels='([^']*)'", found[2][0])
    assert labels and json.loads(labels[1]) == ["dark", "light"]
    assert "data-takes-crops" in found[2][0]


def test_another_default_is_chosen_where_a_setting_says_so(stores):
    found = options(page(stores, DEFAULT_MODEL="another"))
    assert [name for told, name in found if "selected" in told] == ["another"]


def test_the_page_knows_the_servers_limits(stores):
    text = page(stores, MAX_BYTES=12345, MAX_IMAGES=7)
    assert 'data-most-bytes="12345"' in text
    assert 'data-most-images="7"' in text


def test_without_a_model_the_page_says_what_to_do(tmp_path):
    text = page(tmp_path)
    assert "has no model that it can use" in text
    assert "batch.js" not in text

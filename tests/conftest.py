"""Fixtures by role: a store with a small model, the app over it, and its client."""

from __future__ import annotations

import pytest
from samples import ByInk, card, encode, script, seven

from app import create_app
from model_store import save


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A folder with one model, `digits`."""
    root = tmp_path_factory.mktemp("store")
    save(script(ByInk()), card(), root / "digits")
    return root


@pytest.fixture(scope="session")
def app(store):
    return create_app({"MODEL_STORE": str(store), "MAX_BYTES": 2_000_000, "MAX_PIXELS": 4_000_000})


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture(scope="session")
def png():
    """The bytes of a PNG of a seven."""
    return encode(seven())

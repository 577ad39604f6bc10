"""The page for any other model: a picture is chosen, and the whole of it gets a label."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect
from samples import ByLight, card, encode, face_card, script

from model_store import save

from .conftest import OpenPage, serving
from .scenes import SLOW


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the app with a model of whole pictures, and one of faces."""
    store = tmp_path_factory.mktemp("store")
    spec = {"shape": [3, 32, 48], "dtype": "uint8", "range": [0, 255]}
    rooms = card(name="rooms", task="image", labels=["dark", "<b>light</b>"], input=spec)
    save(script(ByLight()), rooms, store / "rooms")
    save(script(ByLight()), face_card(), store / "emotions")
    with serving(tmp_path_factory, store, GLIMPSE_DEFAULT_MODEL="rooms") as address:
        yield address


def test_a_picture_gets_the_label_of_its_whole(open_page: OpenPage):
    page = open_page("/try/rooms")
    picture = encode(Image.new("RGB", (90, 60), "white"))
    page.get_by_test_id("photo-input").set_input_files(
        {"name": "room.png", "mimeType": "image/png", "buffer": picture}
    )
    expect(page.locator("#label")).to_have_text("<b>light</b>", timeout=SLOW)
    assert Axe().run(page).response["violations"] == []


def test_no_face_stands_for_pictures_of_other_things(open_page: OpenPage):
    drawn = [
        open_page(path).evaluate(
            "getComputedStyle(document.querySelector('#drop'), '::before').maskImage"
        )
        for path in ("/faces", "/try/rooms")
    ]
    assert "url(" in drawn[1]
    assert drawn[0] != drawn[1]

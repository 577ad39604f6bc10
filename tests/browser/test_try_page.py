"""The page for any other model: a picture is chosen, and the whole of it gets a label."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect
from samples import ByLight, card, encode, face_card, script

from model_store import save

from .conftest import OpenPage, serving
from .scenes import SLOW


class Grey(torch.nn.Module):
    """Answers which of 40 greys a picture has."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        grey = pictures.float().mean((1, 2, 3)).unsqueeze(1) / 6.5
        return torch.softmax(-((torch.arange(40).unsqueeze(0) - grey) ** 2), dim=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the app with a model of whole pictures, and one of faces."""
    store = tmp_path_factory.mktemp("store")
    spec = {"shape": [3, 32, 48], "dtype": "uint8", "range": [0, 255]}
    rooms = card(name="rooms", task="image", labels=["dark", "<b>light</b>"], input=spec)
    save(script(ByLight()), rooms, store / "rooms")
    save(script(ByLight()), face_card(), store / "emotions")
    greys = [f"grey {index}" for index in range(40)]
    save(
        script(Grey()), card(name="greys", task="image", labels=greys, input=spec), store / "greys"
    )
    with serving(tmp_path_factory, store, GLIMPSE_DEFAULT_MODEL="rooms") as address:
        yield address


def test_a_picture_gets_the_label_of_its_whole(open_page: OpenPage):
    page = open_page("/try/rooms")
    picture = encode(Image.new("RGB", (90, 60), "white"))
    page.get_by_test_id("photo-input").set_input_files(
        {"name": "room.png", "mimeType": "image/png", "buffer": picture}
    )
    expect(page.locator("#label")).to_have_text("<b>light</b>", timeout=SLOW)
    expect(page.get_by_test_id("verdict")).to_have_text("sure")
    assert Axe().run(page).response["violations"] == []


def choose(page: Page, picture: Image.Image) -> None:
    """Chooses a picture on the page, and waits for the answer."""
    page.get_by_test_id("photo-input").set_input_files(
        {"name": "picture.png", "mimeType": "image/png", "buffer": encode(picture)}
    )
    expect(page.locator("#answer")).to_have_attribute("data-state", "answer", timeout=SLOW)


def test_a_tiny_picture_is_shown_larger_and_a_doubt_is_said(open_page: OpenPage):
    page = open_page("/try/rooms")
    choose(page, Image.new("RGB", (24, 16), (140, 140, 140)))
    expect(page.get_by_test_id("verdict")).to_have_text("not sure: <b>light</b> or dark")
    box = page.locator("#photo").bounding_box()
    assert box is not None
    assert box["width"] > 100
    assert box["width"] / box["height"] == pytest.approx(1.5)


def test_of_many_labels_the_best_are_listed(open_page: OpenPage):
    page = open_page("/try/greys")
    choose(page, Image.new("RGB", (90, 60), (130, 130, 130)))
    names = page.locator("#bars th").all_inner_texts()
    assert len(names) == 10
    assert names[0] == page.locator("#label").inner_text() == "grey 20"
    assert set(names[1:3]) == {"grey 19", "grey 21"}


def test_own_models_are_reached_from_every_page(open_page: OpenPage):
    page = open_page("/models")
    page.get_by_role("link", name="Pictures").click()
    expect(page).to_have_url(re.compile("/try/greys$"))
    page.get_by_role("link", name="rooms").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Try rooms")


def test_no_face_stands_for_pictures_of_other_things(open_page: OpenPage):
    drawn = [
        open_page(path).evaluate(
            "getComputedStyle(document.querySelector('#drop'), '::before').maskImage"
        )
        for path in ("/faces", "/try/rooms")
    ]
    assert "url(" in drawn[1]
    assert drawn[0] != drawn[1]

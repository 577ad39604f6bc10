"""The pages on a server that asks for keys: typed once a tab, sent with each picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect
from samples import encode, seven

from .conftest import OpenPage, serving
from .drawing import draw
from .strokes import HANDS, placed
from .test_faces_page import choose, labels

KEY = "a-key-that-nobody-guesses"
SEVEN = placed(HANDS["plain"][7], 0.1, 0.1, 0.8)
SLOW = 20_000  # ms in which an answer comes on a busy machine
Open = Callable[[str], Page]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    with serving(tmp_path_factory, GLIMPSE_API_KEYS=digest) as address:
        yield address


@pytest.fixture
def open_guarded(open_page: OpenPage, guarded: str) -> Open:
    return lambda path: open_page(path, base_url=guarded)


def give(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Use it").click()


def test_a_server_without_keys_asks_for_none(page: Page):
    draw(page, SEVEN)
    expect(page.get_by_test_id("digit-label")).to_have_text("7", timeout=SLOW)
    expect(page.get_by_test_id("key")).to_be_hidden()


def test_a_drawing_waits_for_the_key_and_is_then_read(open_guarded: Open):
    page = open_guarded("/")
    expect(page.get_by_test_id("key")).to_be_hidden()
    draw(page, SEVEN)
    expect(page.get_by_role("alert").get_by_text("requires a key")).to_be_visible(timeout=SLOW)
    expect(page.get_by_test_id("error")).to_be_hidden()
    give(page, KEY)
    expect(page.get_by_test_id("digit-label")).to_have_text("7", timeout=SLOW)
    expect(page.get_by_test_id("key")).to_be_hidden()


def test_a_wrong_key_is_asked_for_again(open_guarded: Open):
    page = open_guarded("/")
    draw(page, SEVEN)
    give(page, "wrong")
    expect(page.get_by_text("does not accept this key")).to_be_visible(timeout=SLOW)
    give(page, f" {KEY} ")
    expect(page.get_by_test_id("digit-label")).to_have_text("7", timeout=SLOW)


def test_a_photo_waits_for_the_key_too(open_guarded: Open):
    page = open_guarded("/faces")
    choose(page, "astronaut")
    give(page, KEY)
    labels(page, 1)
    expect(page.get_by_test_id("key")).to_be_hidden()


def test_many_pictures_wait_for_one_key(open_guarded: Open):
    page = open_guarded("/batch")
    picture = {"mimeType": "image/png", "buffer": encode(seven())}
    page.get_by_test_id("pictures-input").set_input_files(
        [{"name": f"{index}.png", **picture} for index in range(20)]
    )
    expect(page.get_by_test_id("key")).to_be_visible(timeout=SLOW)
    give(page, KEY)
    expect(page.get_by_test_id("count")).to_contain_text("20 of 20", timeout=SLOW)
    expect(page.get_by_test_id("key")).to_be_hidden()


def test_the_key_lasts_as_long_as_the_tab(open_guarded: Open):
    page = open_guarded("/")
    draw(page, SEVEN)
    give(page, KEY)
    expect(page.get_by_test_id("digit-label")).to_have_text("7", timeout=SLOW)
    page.goto("/faces")
    choose(page, "astronaut")
    labels(page, 1)
    expect(page.get_by_test_id("key")).to_be_hidden()
    other = open_guarded("/")
    draw(other, SEVEN)
    expect(other.get_by_test_id("key")).to_be_visible(timeout=SLOW)


def test_a_cleared_drawing_leaves_a_key_that_is_used_by_the_next(open_guarded: Open):
    page = open_guarded("/")
    draw(page, SEVEN)
    expect(page.get_by_test_id("key")).to_be_visible(timeout=SLOW)
    page.get_by_test_id("clear").click()
    give(page, KEY)
    expect(page.get_by_test_id("digit-label")).to_be_empty()
    draw(page, SEVEN)
    expect(page.get_by_test_id("digit-label")).to_have_text("7", timeout=SLOW)
    expect(page.get_by_test_id("key")).to_be_hidden()


def test_the_key_is_given_by_keyboard_and_the_pad_has_the_focus_again(open_guarded: Open):
    page = open_guarded("/")
    draw(page, SEVEN)
    expect(page.get_by_test_id("key")).to_be_visible(timeout=SLOW)
    page.get_by_test_id("save").focus()
    page.keyboard.press("Tab")
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("digit-label")).to_have_text("7", timeout=SLOW)
    expect(page.get_by_test_id("save")).to_be_focused()


def test_where_the_browser_keeps_nothing_the_key_lasts_as_long_as_the_page(
    open_page: OpenPage, guarded: str
):
    page = open_page("/docs", base_url=guarded)
    page.add_init_script(
        "Object.defineProperty(window, 'sessionStorage', { get() { throw new Error('no'); } });"
    )
    page.goto("/")
    draw(page, SEVEN)
    give(page, KEY)
    expect(page.get_by_test_id("digit-label")).to_have_text("7", timeout=SLOW)


def test_the_api_page_tells_of_the_missing_key_and_sends_the_one_given(open_guarded: Open):
    page = open_guarded("/docs")
    attempt = page.get_by_test_id("try-predict")
    expect(page.get_by_test_id("key")).to_be_visible()
    attempt.get_by_role("button", name="Send").click()
    expect(attempt.get_by_test_id("answered")).to_contain_text("401", timeout=SLOW)
    expect(attempt.get_by_test_id("answered")).to_contain_text("WWW-Authenticate")
    expect(page.get_by_test_id("key")).to_contain_text("requires a key")
    give(page, KEY)
    expect(page.get_by_test_id("key")).to_contain_text("sent from now on")
    command = attempt.locator("[data-part=curl]")
    expect(command).to_contain_text('-H "Authorization: Bearer $GLIMPSE_KEY"')
    assert KEY not in page.content()
    attempt.get_by_role("button", name="Send").click()
    expect(attempt.get_by_test_id("answered")).to_contain_text('"label": "7"', timeout=SLOW)
    expect(page.get_by_test_id("key")).to_be_visible()

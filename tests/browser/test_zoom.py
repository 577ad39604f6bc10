"""A photo is zoomed with two fingers, the wheel and keys; its boxes keep to their faces."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from .conftest import OpenPage
from .drawing import touch
from .scenes import SLOW, choose

# How far the first face's box lies from its place in the photo, and how wide the photo is.
PLACES = """() => {
    const [photo, face] = ["#photo", ".face"].map((each) =>
        document.querySelector(each).getBoundingClientRect());
    const { left, top, width, height } = photo;
    return [(face.left - left) / width, (face.top - top) / height, width];
}"""


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    page = open_page("/faces", has_touch=True, viewport={"width": 390, "height": 844})
    choose(page, "family")
    expect(page.get_by_test_id("face-label")).to_have_count(4, timeout=SLOW)
    return page


def middle(page: Page) -> tuple[float, float]:
    box = page.locator("#photo").bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def pinch(page: Page) -> None:
    x, y = middle(page)
    session = page.context.new_cdp_session(page)
    for kind, spread in (("touchStart", 20), ("touchMove", 40), ("touchMove", 70)):
        touch(session, kind, (x - spread, y), (x + spread, y))
    touch(session, "touchEnd")


def turn_wheel(page: Page) -> None:
    page.mouse.move(*middle(page))
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")


def press_plus(page: Page) -> None:
    page.locator(".face").first.press("+")


def press_the_button(page: Page) -> None:
    page.get_by_role("button", name="Larger").press("Enter")


@pytest.mark.parametrize("zoom", [pinch, turn_wheel, press_plus, press_the_button])
def test_boxes_keep_to_their_faces_and_0_shows_the_whole_photo_again(page: Page, zoom):
    *place, width = page.evaluate(PLACES)
    zoom(page)
    page.wait_for_function(f"(width) => ({PLACES})()[2] > 1.3 * width", arg=width)
    assert page.evaluate(PLACES)[:2] == pytest.approx(place, abs=0.01)
    page.locator(".face").first.press("0")
    assert page.evaluate(PLACES) == pytest.approx([*place, width], abs=0.01)


def test_buttons_make_the_photo_smaller_and_whole_again(page: Page):
    larger, smaller, whole = (
        page.get_by_role("button", name=name) for name in ("Larger", "Smaller", "Whole photo")
    )
    width = page.evaluate(PLACES)[2]
    expect(whole).to_have_attribute("aria-disabled", "true")
    larger.tap()
    larger.tap()
    twice = page.evaluate(PLACES)[2]
    smaller.tap()
    assert width < page.evaluate(PLACES)[2] < twice
    whole.tap()
    assert page.evaluate(PLACES)[2] == pytest.approx(width)
    for button in (larger, smaller, whole):
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 44

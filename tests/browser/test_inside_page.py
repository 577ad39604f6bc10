"""The page that looks inside a network: its layers, live, and what one map is made by."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from .conftest import OpenPage
from .drawing import draw
from .scenes import SEVEN, SLOW

BRIGHT = """(canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let most = 0;
    for (let at = 0; at < data.length; at += 4) most = Math.max(most, data[at]);
    return most;
}"""


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    return open_page("/inside")


def look(page: Page) -> None:
    draw(page, SEVEN)
    expect(page.get_by_test_id("digit-label")).to_have_text(re.compile("^7, "), timeout=SLOW)
    page.wait_for_timeout(200)


def test_the_layers_light_up_while_something_is_drawn_and_go_out_when_it_is_cleared(page: Page):
    maps = page.locator(".maps")
    assert all(each.evaluate(BRIGHT) < 30 for each in maps.all())
    look(page)
    assert all(each.evaluate(BRIGHT) > 200 for each in maps.all())
    expect(page.locator("#votes tr.is-best")).to_contain_text("7")
    page.get_by_test_id("clear").click()
    expect(page.get_by_text("the layers light up")).to_be_visible()
    assert all(each.evaluate(BRIGHT) < 30 for each in maps.all())


def test_a_map_that_is_tapped_shows_its_filter_and_what_excites_it(page: Page):
    look(page)
    layer = page.get_by_test_id("layer").nth(1)
    with page.expect_response("**/inside/digits*/1/2*"):
        maps = layer.locator(".maps")
        side = maps.evaluate("(each) => (each.clientWidth + 2) / 16")
        maps.click(position={"x": 2.5 * side, "y": side / 2})
    expect(layer.get_by_test_id("told")).to_contain_text("Map 3 of 32")
    for part in (".map", ".where", ".filter"):
        expect(layer.locator(part)).to_be_visible()
    assert layer.locator(".filter").evaluate(BRIGHT) > 100


def test_maps_are_chosen_with_the_keyboard_and_told(page: Page):
    look(page)
    chooser = page.get_by_role("slider", name="Map of convolution 1")
    chooser.focus()
    page.keyboard.press("ArrowRight")
    text = re.compile(r"map 2 of 32: (strongest at column \d+, row \d+|nothing excites it here)")
    expect(chooser).to_have_attribute("aria-valuetext", text)


def test_the_drawing_comes_along_from_the_page_for_digits(open_page: OpenPage):
    page = open_page("/")
    draw(page, SEVEN)
    page.wait_for_selector("#answer[aria-busy=false]")
    page.get_by_test_id("inside").click()
    expect(page.get_by_test_id("digit-label")).to_have_text(re.compile("^7, "), timeout=SLOW)


def test_nothing_moves_when_the_layers_light_up_and_all_fits_on_a_phone(open_page: OpenPage):
    page = open_page("/inside", viewport={"width": 360, "height": 740})
    places = (
        "() => [...document.querySelectorAll('h3, .maps')].map((e) => e.getBoundingClientRect().y)"
    )
    before = page.evaluate(places)
    look(page)
    assert page.evaluate(places) == before
    assert page.evaluate("document.documentElement.scrollWidth") == 360

"""Faults that the pages once had: strokes that were lost, failures that nobody was told of."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from .conftest import OpenPage
from .drawing import BAR, DOWNSTROKE, draw, has_ink, on_screen, settle, touch
from .scenes import SEVEN, SLOW

LINK = """() => {
    const data = new DataTransfer();
    data.setData("text/uri-list", "https://example.org/seven.png");
    const options = { bubbles: true, cancelable: true, dataTransfer: data };
    document.querySelector("main").dispatchEvent(new DragEvent("drop", options));
}"""


# Strokes


def test_a_stroke_is_drawn_while_the_page_is_selected(page: Page):
    page.keyboard.press("Control+a")
    draw(page, SEVEN)
    settle(page)
    expect(page.get_by_test_id("digit-label")).to_have_text("7")


def test_a_stroke_is_drawn_after_one_that_began_outside(page: Page):
    [[outside, inside]] = on_screen(page, [[(-0.1, -0.1), (0.9, 0.9)]])
    page.mouse.move(*outside)
    page.mouse.down()
    page.mouse.move(*inside, steps=5)
    page.mouse.up()
    draw(page, DOWNSTROKE)
    assert has_ink(page, 0.5, 0.4)
    assert has_ink(page, 0.5, 0.75)


def pen(page: Page, kind: str, x: float, y: float) -> None:
    session = page.context.new_cdp_session(page)
    event = {"type": kind, "x": x, "y": y, "buttons": 1, "pointerType": "pen", "button": "left"}
    session.send("Input.dispatchMouseEvent", {**event, "clickCount": 1, "force": 0.5})


def test_a_pen_draws_in_the_place_of_the_palm_that_came_first(open_page: OpenPage):
    page = open_page(has_touch=True)
    session = page.context.new_cdp_session(page)
    [[palm, further, start, end]] = on_screen(
        page, [[(0.8, 0.8), (0.7, 0.8), (0.3, 0.2), (0.3, 0.6)]]
    )
    touch(session, "touchStart", palm)
    touch(session, "touchMove", further)
    pen(page, "mousePressed", *start)
    touch(session, "touchMove", palm)
    pen(page, "mouseMoved", *end)
    pen(page, "mouseReleased", *end)
    touch(session, "touchEnd")
    assert has_ink(page, 0.3, 0.4)
    assert not has_ink(page, 0.75, 0.8)
    touch(session, "touchStart", palm)  # it rests again, right after the pen
    touch(session, "touchEnd")
    assert not has_ink(page, 0.8, 0.8)


@pytest.mark.parametrize("style", ["zoom: 1.5", "transform: scale(0.5)"])
def test_the_ink_lies_under_the_pen_on_a_page_that_is_zoomed(page: Page, style: str):
    page.evaluate("(style) => (document.querySelector('main').style.cssText = style)", style)
    page.wait_for_timeout(100)
    draw(page, [[(0.2, 0.2), (0.2, 0.8)], [(0.8, 0.2), (0.8, 0.8)]])
    for x in (0.2, 0.8):
        assert has_ink(page, x, 0.3)
        assert has_ink(page, x, 0.7)
    assert not has_ink(page, 0.5, 0.5)


# What is told


def test_a_browser_without_later_signals_gets_its_answer(open_page: OpenPage):
    page = open_page("about:blank")
    page.add_init_script("delete AbortSignal.any; delete AbortSignal.timeout;")
    page.goto("/")
    draw(page, SEVEN)
    settle(page)
    expect(page.get_by_test_id("digit-label")).to_have_text("7")


def test_a_fault_of_the_page_is_not_told_as_one_of_the_network(page: Page):
    page.evaluate("() => { window.reportError = () => {}; JSON.parse = () => {}; }")
    page.route("**/api/predict*", lambda route: route.fulfill(status=200, body="<html>"))
    draw(page, DOWNSTROKE)
    expect(page.get_by_test_id("error")).to_contain_text("Something in this page failed")


@pytest.mark.parametrize(
    "blocking",
    [
        "HTMLCanvasElement.prototype.toDataURL = () => { throw new DOMException('no'); }",
        "CanvasRenderingContext2D.prototype.getImageData = (x, y, w, h) => "
        "({ data: new Uint8ClampedArray(4 * w * h).fill(255) })",
    ],
    ids=["it throws", "it is white"],
)
def test_a_browser_that_withholds_the_canvas_is_told_so(open_page: OpenPage, blocking: str):
    page = open_page("about:blank")
    page.add_init_script(blocking)
    page.goto("/")
    draw(page, DOWNSTROKE)
    expect(page.get_by_test_id("error")).to_contain_text("Allow this page to read its canvas")
    settle(page)
    page.get_by_test_id("save").click()
    expect(page.get_by_test_id("error")).to_contain_text("Allow this page to read its canvas")


def test_an_opened_picture_with_nothing_in_it_is_told(page: Page):
    blank = io.BytesIO()
    Image.new("L", (60, 60), 255).save(blank, "PNG")
    file = {"name": "blank.png", "mimeType": "image/png", "buffer": blank.getvalue()}
    page.get_by_test_id("picture-input").set_input_files(file)
    expect(page.get_by_test_id("error")).to_contain_text("blank", timeout=SLOW)
    draw(page, BAR)
    expect(page.get_by_test_id("error")).to_be_hidden()


@pytest.mark.parametrize("path", ["/", "/faces", "/batch"])
def test_a_dropped_link_is_told(open_page: OpenPage, path: str):
    page = open_page(path)
    page.evaluate(LINK)
    expect(page.get_by_test_id("error")).to_contain_text("no file but a link")

"""The draw page: numbers, pictures in place of a drawing, and the drawing as a file."""

from __future__ import annotations

import base64
import re

import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from samples import encode, seven

from .drawing import DOWNSTROKE, draw, settle
from .scenes import NUMBER, SEVEN
from .test_draw_page import expect_empty

BLANK = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


def lay(page: Page, way: str, content: bytes) -> None:
    """Opens, drops or pastes a file on the page."""
    file = {"name": "picture.png", "mimeType": "image/png", "buffer": content}
    if way == "open":
        page.get_by_test_id("picture-input").set_input_files(file)
        return
    page.evaluate(
        """([way, content]) => {
            const bytes = Uint8Array.from(atob(content), (sign) => sign.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "picture.png", { type: "image/png" }));
            const event = way === "drop"
                ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
            document.body.dispatchEvent(event);
        }""",
        [way, base64.b64encode(content).decode()],
    )


def test_a_number_is_read_with_its_least_sure_digit_selected(page: Page):
    draw(page, NUMBER)
    settle(page)
    expect(page.get_by_test_id("digit-label")).to_have_text("2026")
    digits = page.get_by_role("group", name="Digits of the number").get_by_role("button")
    expect(digits).to_have_count(4)
    shares = [float(re.search(r"(\d+\.\d) %", text)[1]) for text in digits.all_inner_texts()]
    pressed = [button.get_attribute("aria-pressed") for button in digits.all()]
    assert shares[pressed.index("true")] == min(shares)
    digits.nth(3).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".is-best th")).to_have_text("6")


def test_one_digit_has_no_list_of_digits(page: Page):
    draw(page, SEVEN)
    settle(page)
    expect(page.get_by_role("group", name="Digits of the number")).to_be_hidden()


@pytest.mark.parametrize("way", ["open", "drop", "paste"])
def test_a_picture_is_read_in_place_of_a_drawing(page: Page, way: str):
    lay(page, way, encode(seven()))
    expect(page.get_by_test_id("digit-label")).to_have_text("7")
    expect(page.get_by_alt_text("The picture being read")).to_be_visible()
    draw(page, DOWNSTROKE)
    settle(page)
    expect(page.get_by_test_id("digit-label")).to_have_text("1")
    expect(page.get_by_alt_text("The picture being read")).to_be_hidden()


def test_clear_takes_the_picture_away(page: Page):
    lay(page, "open", encode(seven()))
    expect(page.get_by_test_id("digit-label")).to_have_text("7")
    page.get_by_test_id("clear").click()
    expect_empty(page)
    expect(page.get_by_text("Draw any digit")).to_be_visible()


def test_a_file_that_is_no_picture_is_a_problem(page: Page):
    lay(page, "open", b"no picture")
    expect(page.get_by_test_id("error")).to_contain_text("not an image")


def test_the_drawing_can_be_saved(page: Page):
    expect(page.get_by_test_id("save")).to_be_disabled()
    draw(page, SEVEN)
    with page.expect_download() as download:
        page.get_by_test_id("save").click()
    with Image.open(download.value.path()) as picture:
        assert picture.size == (280, 280)


@pytest.mark.parametrize(("verdict", "text"), [("unsure", "not sure: 4 or 9"), ("sure", "sure")])
def test_an_unsure_answer_says_so(page: Page, verdict: str, text: str):
    predictions = [{"label": "4", "score": 0.7}, {"label": "9", "score": 0.3}]
    told = {**predictions[0], "predictions": predictions, "verdict": verdict, "seen": BLANK}
    result = {**told, "subjects": [{**told, "box": {}}]}
    page.route("**/api/predict*", lambda route: route.fulfill(json={"results": [result]}))
    draw(page, SEVEN)
    expect(page.get_by_test_id("sureness")).to_have_text(text)


def test_why_shows_what_speaks_for_the_answer(page: Page):
    draw(page, SEVEN)
    settle(page)
    evidence = page.get_by_alt_text("Evidence for 7, in red")
    expect(evidence).to_be_hidden()
    page.get_by_label("Show why").check()
    expect(evidence).to_be_visible()
    page.get_by_label("Show why").uncheck()
    expect(evidence).to_be_hidden()

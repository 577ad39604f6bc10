"""Heat on the picture itself, second models, a challenge, and the answers of a visit."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from .conftest import OpenPage
from .drawing import draw, settle
from .scenes import SEVEN, SLOW, choose, draw_digit, show_face_and_ask_why
from .test_looks import AXE, LAYOUT, SCHEMES, SCREENS, show

COPIES = "navigator.clipboard.writeText = async (text) => { window.copied = text; };"


@pytest.fixture(scope="module")
def server(shipped: str) -> str:
    """The models that the repository brings: there are several of each task."""
    return shipped


def ask_why(page: Page) -> None:
    draw_digit(page)
    page.get_by_test_id("why").check()
    expect(page.get_by_test_id("heat")).to_be_visible(timeout=SLOW)


def unfold(page: Page, name: str) -> None:
    """Opens or closes what lies below, and comes back to the pad."""
    page.locator(f"#{name} summary").click()
    page.evaluate("scrollTo(0, 0)")


def heat_covers(page: Page, target: str) -> float:
    """The share of the box of `target` that the frame of the heat covers."""
    share: float = page.evaluate(
        """(target) => {
            const box = document.querySelector(target).getBoundingClientRect();
            const heat = document.querySelector("#heat").getBoundingClientRect();
            const wide = Math.min(box.right, heat.right) - Math.max(box.left, heat.left);
            const high = Math.min(box.bottom, heat.bottom) - Math.max(box.top, heat.top);
            return Math.max(wide, 0) * Math.max(high, 0) / (box.width * box.height);
        }""",
        target,
    )
    return share


def test_heat_lies_on_the_drawing_with_a_legend_until_it_is_switched_off(page: Page):
    ask_why(page)
    heat, pad = (page.get_by_test_id(name).bounding_box() for name in ("heat", "pad"))
    assert heat is not None and pad is not None
    # The digit's longer side, here 0.8 of the pad and the pen's width, is 20 of the 28 pixels.
    assert heat["height"] / pad["height"] == pytest.approx(0.85 * 28 / 20, abs=0.1)
    expect(page.get_by_test_id("heat-key")).to_have_text("littlemuch")
    page.get_by_test_id("why").uncheck()
    expect(page.get_by_test_id("heat")).to_be_hidden()
    expect(page.get_by_test_id("heat-key")).to_be_hidden()
    expect(page.get_by_test_id("why-label")).to_be_hidden()


def test_why_not_another_digit_is_shown_and_kept_while_drawing(page: Page):
    ask_why(page)
    heat, choice = page.get_by_test_id("heat"), page.get_by_test_id("why-label")
    own = heat.get_attribute("src")
    choice.select_option(label="Why not 8?")
    expect(heat).to_have_attribute("alt", "Evidence for 8, in red", timeout=SLOW)
    expect(heat).not_to_have_attribute("src", own or "")
    with page.expect_request("**/api/predict*label=8*"):
        draw(page, [[(0.3, 0.5), (0.7, 0.5)]])
    settle(page)
    expect(choice).to_have_value("8")
    page.get_by_test_id("clear").click()
    expect(heat).to_be_hidden()
    draw_digit(page)
    expect(choice).to_have_value("")
    expect(heat).to_have_attribute("alt", "Evidence for 7, in red", timeout=SLOW)


def test_the_pad_can_be_drawn_on_through_the_heat(page: Page):
    ask_why(page)
    before = page.get_by_test_id("heat").get_attribute("src")
    draw(page, [[(0.3, 0.5), (0.7, 0.5)]])
    expect(page.get_by_test_id("heat")).not_to_have_attribute("src", before or "", timeout=SLOW)


def test_heat_lies_on_the_chosen_face_and_says_why_not_another(open_page: OpenPage):
    page = open_page("/faces")
    show_face_and_ask_why(page)
    assert heat_covers(page, ".face") > 0.9
    assert heat_covers(page, "#photo") < 0.5
    heat = page.get_by_test_id("heat")
    own = heat.get_attribute("src")
    page.get_by_test_id("why-label").select_option(value="sad")
    expect(heat).to_have_attribute("alt", "Evidence for sad, in red", timeout=SLOW)
    expect(heat).not_to_have_attribute("src", own or "")


def test_a_second_model_answers_for_the_photo_and_the_address_names_both(open_page: OpenPage):
    page = open_page("/faces?model=emotions-original&second=emotions-balanced")
    with page.expect_request("**/api/predict*model=emotions-balanced*"):
        choose(page, "family")
    told = page.get_by_test_id("rival-answer")
    expect(told).to_have_text(re.compile(r"\w+, \d+\.\d %"), timeout=SLOW)
    page.get_by_test_id("rival").select_option("")
    expect(told).to_have_text("")


def test_compared_models_are_tried_on_one_drawing(open_page: OpenPage):
    page = open_page("/models/compare?a=digits-baseline&b=digits")
    page.get_by_test_id("own").click()
    expect(page.get_by_test_id("rival")).to_have_value("digits")
    draw_digit(page)
    expect(page.get_by_test_id("rival-answer")).to_have_text(re.compile("7, "), timeout=SLOW)


def test_the_better_figure_is_marked_in_words_too(open_page: OpenPage):
    page = open_page("/models/compare?a=emotions-adamax&b=emotions-adamax")
    expect(page.locator(".is-better")).to_have_count(0)
    page.goto("/models/compare?a=digits-baseline&b=digits")
    for row in page.get_by_test_id("recalls").locator("tbody tr").all():
        first, second = (float(row.locator("td").nth(at).inner_text().split()[0]) for at in (0, 1))
        better = row.locator(".is-better")
        if first != second:
            expect(better).to_have_text(re.compile(rf"^{max(first, second):.2f}.*better$"))


def test_the_challenge_asks_and_counts_what_a_person_says_is_fooled(page: Page):
    page.evaluate("Math.random = () => 0.3")
    unfold(page, "challenge")
    asked = re.fullmatch(
        r"Draw a (\d) that it reads as (\d)\.", page.get_by_test_id("task").inner_text()
    )
    assert asked and asked[1] != asked[2]
    expect(page.locator(".invitation p")).to_have_text(asked[0])

    def answer(route: Any) -> None:
        response = route.fetch()
        body = response.json()
        body["results"][0]["label"] = asked[2]
        route.fulfill(response=response, json=body)

    page.route("**/api/predict*", answer)
    draw(page, SEVEN)
    expect(page.get_by_test_id("hit")).to_be_visible(timeout=SLOW)
    page.get_by_test_id("fooled").click()
    expect(page.get_by_test_id("hit")).to_be_hidden()
    expect(page.get_by_test_id("fooled-count")).to_have_text("Fooled 1 time in this visit")
    assert page.get_by_test_id("task").inner_text() != asked[0]
    unfold(page, "challenge")
    expect(page.locator(".invitation p")).to_contain_text("Draw any digit")


def test_the_visit_has_a_picture_and_answer_of_each_drawing_and_forgets_them(page: Page):
    page.evaluate(COPIES)
    unfold(page, "visit")
    expect(page.get_by_test_id("copy-csv")).to_be_disabled()
    items = page.get_by_test_id("visited-list").locator("li")
    draw_digit(page)
    expect(items).to_have_count(1, timeout=SLOW)
    page.get_by_test_id("clear").click()
    page.get_by_role("button", name="Draw 42").click()
    expect(items).to_have_count(2, timeout=SLOW)
    expect(items.first.locator("b")).to_have_text("42")
    expect(items.first.locator("polyline")).not_to_have_count(0)
    page.get_by_test_id("copy-csv").click()
    lines = page.evaluate("copied").splitlines()
    assert lines[0].startswith("file,error,x,y,width,height,label,score,verdict,0,1,")
    assert [line.split(",")[0] for line in lines[1:]] == ["drawing 1", "drawing 2", "drawing 2"]
    page.get_by_test_id("copy-json").click()
    copied = json.loads(page.evaluate("copied"))
    assert [each["label"] for each in copied] == ["7", "42"]
    assert "seen" not in copied[0]["subjects"][0]
    kept = page.evaluate("JSON.stringify([Object.keys(localStorage), Object.keys(sessionStorage)])")
    assert kept == "[[],[]]"
    page.get_by_test_id("forget").click()
    expect(items).to_have_count(0)
    expect(page.get_by_test_id("visited")).to_have_text("0 answers")


def test_the_answers_for_a_photo_can_be_copied(open_page: OpenPage):
    page = open_page("/faces")
    page.evaluate(COPIES)
    expect(page.get_by_test_id("copy-csv")).to_be_disabled()
    choose(page, "family")
    expect(page.get_by_test_id("face-label")).to_have_count(4, timeout=SLOW)
    page.get_by_test_id("copy-csv").click()
    rows = page.evaluate("copied").splitlines()
    assert len(rows) == 5 and rows[1].startswith("family.jpg,,")
    page.get_by_test_id("copy-json").click()
    (photo,) = json.loads(page.evaluate("copied"))
    assert photo["filename"] == "family.jpg" and len(photo["faces"]) == 4


def test_all_of_it_unfolded_is_in_order_on_every_screen(open_page: OpenPage):
    page = open_page("/?lang=de")
    ask_why(page)
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    page.evaluate("document.querySelector('#hit').hidden = false")
    expect(page.get_by_test_id("visited-list").locator("li")).to_have_count(1, timeout=SLOW)
    for width in (360, 1440):
        for scheme in SCHEMES:
            show(page, width, SCREENS[width], scheme)
            found = Axe().run(page, options=AXE).response["violations"]
            assert [(each["help"], each["nodes"][0]["html"]) for each in found] == []
        page.evaluate("document.querySelector('#hit').hidden = true")
        assert page.evaluate(LAYOUT) == []
        page.evaluate("document.querySelector('#hit').hidden = false")

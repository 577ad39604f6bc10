"""“Not right?”: a wrong answer is reported with consent, and the report withdrawn again."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, Route, expect

from .conftest import OpenPage, serving
from .scenes import PHOTOS, SLOW, choose, draw_digit, draw_number
from .test_looks import AXE, LAYOUT, SCHEMES, SCREENS, show

REPORTS = "**/api/reports"
CODE = "9f2c-1b7e"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the app with reports on."""
    database = tmp_path_factory.mktemp("reports") / "reports.db"
    with serving(tmp_path_factory, GLIMPSE_REPORTS=f"sqlite:///{database}") as address:
        yield address


@pytest.fixture
def sent(page: Page) -> list[dict[str, Any]]:
    """What the page sends as reports, to a server that keeps them all."""
    return keep(page)


def keep(page: Page) -> list[dict[str, Any]]:
    """Answers the page's reports, and gives what it sends."""
    found: list[dict[str, Any]] = []

    def answer(route: Route) -> None:
        found.append(route.request.post_data_json)
        route.fulfill(status=201, json={"id": 1, "code": CODE, "kept": []})

    page.route(REPORTS, answer)
    return found


def opened(page: Page) -> None:
    """Opens the dialog for the answer that is shown."""
    page.get_by_test_id("report-open").click()
    expect(page.get_by_test_id("report")).to_be_visible()


def send(page: Page) -> None:
    page.get_by_test_id("report-consent").check()
    page.get_by_test_id("report-send").click()


def picture_of(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_an_answer_is_reported_with_consent_and_without_the_whole_picture(
    page: Page, sent: list[dict[str, Any]]
):
    expect(page.get_by_test_id("report-open")).to_be_disabled()
    with page.expect_response("**/api/predict*") as answered:
        draw_digit(page)
    opened(page)
    expect(page.get_by_test_id("report")).to_contain_text("It said 7, ")
    seen = page.get_by_test_id("report-seen").get_attribute("src")
    page.get_by_test_id("report-label-1").click()
    expect(page.get_by_test_id("report-consent")).not_to_be_checked()
    expect(page.get_by_test_id("report-whole")).not_to_be_checked()
    send(page)
    expect(page.get_by_test_id("report-done")).to_contain_text(CODE)
    expect(page.get_by_role("heading", name="Thank you")).to_be_focused()
    (report,) = sent
    assert seen and picture_of(seen).size == (28, 28)
    model = answered.value.json()
    assert report == {
        "answer": report["answer"],
        "model": f"digits@{model['version']}",
        "kind": "report",
        "label": "1",
        "seen": seen,
        "consent": True,
    }
    assert report["answer"].endswith(".0")


def test_the_dialog_too_says_that_it_was_no_digit(page: Page):
    page.get_by_role("button", name="Draw A").click()
    expect(page.get_by_test_id("sureness")).to_contain_text("That is not a digit", timeout=SLOW)
    opened(page)
    expect(page.get_by_test_id("report")).to_contain_text("It said: not a digit. Closest: ")


def test_nothing_is_sent_before_a_visitor_says_what_it_is_and_agrees(
    page: Page, sent: list[dict[str, Any]]
):
    draw_digit(page)
    opened(page)
    page.get_by_test_id("report-send").click()
    error = page.get_by_test_id("report-error")
    expect(error).to_contain_text("Say first what it is")
    page.get_by_test_id("report-none").click()
    page.get_by_test_id("report-send").click()
    expect(error).to_contain_text("tick the box")
    expect(page.get_by_test_id("report-consent")).to_be_focused()
    assert sent == []
    send(page)
    expect(page.get_by_test_id("report-done")).to_be_visible()
    assert sent[0]["label"] is None


def test_the_whole_picture_goes_along_only_where_it_is_ticked_and_bare(
    page: Page, sent: list[dict[str, Any]]
):
    draw_digit(page)
    opened(page)
    page.get_by_test_id("report-word").fill(" a hook ")
    page.get_by_test_id("report-whole").check()
    send(page)
    expect(page.get_by_test_id("report-done")).to_be_visible()
    whole = picture_of(sent[0]["picture"])
    assert whole.size > (100, 100) and not whole.getexif()
    assert sent[0]["label"] == "a hook" and "filename" not in sent[0]


def test_a_word_that_is_a_labels_name_is_the_label(open_page: OpenPage):
    page = open_page("/faces", locale="de-DE")
    sent = keep(page)
    choose(page, "family")
    expect(page.get_by_test_id("report-open")).to_be_enabled(timeout=SLOW)
    page.locator(".face").nth(2).click()
    opened(page)
    expect(page.get_by_test_id("report-none")).to_have_text("kein Gesicht")
    page.get_by_test_id("report-word").fill("DARK")
    send(page)
    expect(page.get_by_role("heading", name="Danke")).to_be_focused()
    assert sent[0]["label"] == "dark"
    assert sent[0]["answer"].endswith(".2")


def test_the_chosen_digit_of_a_number_is_reported(page: Page, sent: list[dict[str, Any]]):
    draw_number(page)
    page.locator(".number button").nth(3).click()
    opened(page)
    expect(page.get_by_test_id("report")).to_contain_text("It said 6, ")
    page.get_by_test_id("report-label-5").click()
    send(page)
    expect(page.get_by_test_id("report-done")).to_be_visible()
    assert sent[0]["answer"].endswith(".3") and sent[0]["label"] == "5"


PROBLEMS = [
    (503, "reports-away", "The reports cannot be kept now."),
    (429, "too-many-requests", "Too many requests."),
]


@pytest.mark.parametrize(("status", "kind", "detail"), PROBLEMS)
def test_a_report_that_fails_says_so_in_german_and_loses_nothing(
    open_page: OpenPage, status: int, kind: str, detail: str
):
    page = open_page("/", locale="de-DE")
    problem = {"type": f"urn:glimpse:problem:{kind}", "detail": detail}
    page.route(REPORTS, lambda route: route.fulfill(status=status, json=problem))
    draw_digit(page)
    opened(page)
    page.get_by_test_id("report-word").fill("ein Haken")
    send(page)
    error = page.get_by_test_id("report-error")
    expect(error.locator("[lang=en]")).to_have_text(detail)
    expect(error).not_to_have_text(detail)
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("report-open")).to_be_focused()
    page.unroute(REPORTS)
    sent = keep(page)
    opened(page)
    expect(page.get_by_test_id("report-word")).to_have_value("ein Haken")
    page.get_by_test_id("report-send").click()
    expect(page.get_by_test_id("report-done")).to_be_visible()
    assert sent[0]["label"] == "ein Haken"


def test_a_report_without_a_connection_can_be_sent_again(page: Page):
    page.route(REPORTS, lambda route: route.abort())
    draw_digit(page)
    opened(page)
    page.get_by_test_id("report-label-2").click()
    send(page)
    expect(page.get_by_test_id("report-error")).to_contain_text("Nothing is lost")
    page.unroute(REPORTS)
    keep(page)
    page.get_by_test_id("report-send").click()
    expect(page.get_by_test_id("report-done")).to_be_visible()


def test_a_report_is_withdrawn_at_once_or_later(page: Page, sent: list[dict[str, Any]]):
    withdrawn: list[Any] = []

    def take_back(route: Route) -> None:
        withdrawn.append(route.request.post_data_json)
        route.fulfill(status=204)

    page.route("**/api/reports/withdraw", take_back)
    draw_digit(page)
    opened(page)
    page.get_by_test_id("report-label-1").click()
    send(page)
    later = page.get_by_role("link", name="withdraw it later").get_attribute("href")
    page.get_by_test_id("report-withdraw").click()
    expect(page.get_by_test_id("report-gone")).to_be_focused()
    assert withdrawn == [{"code": CODE}]
    page.goto(later or "")
    expect(page.get_by_test_id("withdraw-code")).to_have_value(CODE)
    page.get_by_test_id("withdraw-send").click()
    expect(page.get_by_role("status").first).to_contain_text("no longer kept")
    assert withdrawn == [{"code": CODE}] * 2


def test_an_unsure_answer_can_be_kept_to_learn_from(page: Page, sent: list[dict[str, Any]]):
    def answer(route: Route) -> None:
        response = route.fetch()
        body = response.json()
        body["results"][0]["verdict"] = body["results"][0]["subjects"][0]["verdict"] = "unsure"
        route.fulfill(response=response, json=body)

    expect(page.get_by_test_id("report-keep")).to_be_hidden()
    page.route("**/api/predict*", answer)
    draw_digit(page)
    page.get_by_test_id("report-keep").click()
    expect(page.get_by_test_id("report-none")).to_be_hidden()
    send(page)
    expect(page.get_by_test_id("report-done")).to_be_visible()
    assert sent[0]["kind"] == "unsure" and "label" not in sent[0]


def test_the_keyboard_alone_reports(page: Page, sent: list[dict[str, Any]]):
    draw_digit(page)
    page.get_by_test_id("report-open").focus()
    for key in ("Enter", "Tab", "Space", "ArrowRight", "Tab", "Control+z", "Tab", "Tab", "Space"):
        page.keyboard.press(key)
    for key in ("Tab", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("heading", name="Thank you")).to_be_focused()
    assert sent[0]["label"] == "1" and "picture" not in sent[0]
    expect(page.get_by_test_id("digit-label")).to_have_text("7")


def test_what_is_typed_or_pasted_in_the_dialog_is_not_the_drawings(page: Page):
    draw_digit(page)
    opened(page)
    page.get_by_test_id("report-word").press("Control+z")
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("report-open")).to_be_enabled()


def test_the_dialog_is_in_order_on_every_screen(open_page: OpenPage):
    page = open_page("/?lang=de")
    keep(page)
    draw_digit(page)
    opened(page)
    page.get_by_test_id("report-send").click()
    in_order(page)
    page.get_by_test_id("report-label-1").click()
    send(page)
    expect(page.get_by_test_id("report-done")).to_be_visible()
    in_order(page)


def in_order(page: Page) -> None:
    for width in (360, 1440):
        for scheme in SCHEMES:
            show(page, width, SCREENS[width], scheme)
            found = Axe().run(page, options=AXE).response["violations"]
            assert [(each["help"], each["nodes"][0]["html"]) for each in found] == []
        assert page.evaluate(LAYOUT) == []
        small = page.evaluate(
            """[...document.querySelectorAll("#report :is(button, label)")].filter((each) => {
                const { width, height } = each.getBoundingClientRect();
                return each.checkVisibility() && (width < 44 || height < 44);
            }).map((each) => each.outerHTML)"""
        )
        assert small == []


def test_a_page_in_a_frame_elsewhere_offers_no_reports(open_page: OpenPage):
    frame = open_page("/embed")
    draw_digit(frame)
    assert frame.locator("#report, #report-open").count() == 0


def test_a_row_of_many_pictures_is_reported_from_its_picture(open_page: OpenPage):
    page = open_page("/batch")
    sent = keep(page)
    page.get_by_test_id("model").select_option("emotions")
    page.get_by_test_id("pictures-input").set_input_files(
        [PHOTOS / f"{name}.jpg" for name in ("family", "astronaut")]
    )
    expect(page.get_by_test_id("count")).to_have_text("2 of 2", timeout=SLOW)
    page.get_by_role("button", name="Show family.jpg").click()
    buttons = page.get_by_test_id("viewer").get_by_test_id("report-open")
    expect(buttons).to_have_count(4)
    assert page.evaluate(LAYOUT) == []
    buttons.nth(1).click()
    expect(page.get_by_test_id("report-none")).to_have_text("no face")
    page.get_by_test_id("report-none").click()
    send(page)
    expect(page.get_by_test_id("report-done")).to_be_visible()
    assert re.search(r"\.1\.1$", sent[0]["answer"]) and sent[0]["label"] is None
    page.get_by_role("button", name="Close").last.click()
    expect(buttons.nth(1)).to_be_focused()

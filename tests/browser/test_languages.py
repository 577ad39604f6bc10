"""The pages in German, and in brackets: what scripts say is translated too."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from html import escape
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect
from samples import encode, seven

from .conftest import OpenPage
from .drawing import DOT, DOWNSTROKE, draw
from .fonts import in_every_font

FAMILY = Path(__file__).parents[1] / "photos" / "family.jpg"
PREDICT = "**/api/predict*"
MODELS = ["/models", "/models/digits", "/models/emotions", "/models/compare"]
PAGES = ["/", "/faces", "/batch", "/docs", *MODELS, "/no"]
WIDTHS = [320, 360, 768, 1440]
SLOW = 30_000
LETTERS = re.compile(r"[^\W\d_]")


@pytest.fixture
def german(open_page: OpenPage) -> Page:
    """The draw page in a browser of a German reader."""
    return open_page("/", locale="de-DE")


def choose(page: Page, *names: str) -> None:
    """Chooses sevens of these names on the page for many pictures."""
    files = [{"name": name, "mimeType": "image/png", "buffer": encode(seven())} for name in names]
    page.get_by_test_id("pictures-input").set_input_files(files)


def test_a_digit_is_drawn_and_read_in_german(german: Page):
    page = german
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page.get_by_role("heading", level=1)).to_have_text("Zeichne eine Ziffer")
    expect(page.get_by_text("hier erscheint die Antwort")).to_be_visible()
    draw(page, DOWNSTROKE)
    expect(page.get_by_test_id("digit-label")).to_have_text("1")
    expect(page.get_by_test_id("digit-score")).to_have_text(re.compile(r"^\d+,\d %$"))
    expect(page.get_by_test_id("sureness")).to_have_text("sicher")
    expect(page.locator("#live")).to_have_text(re.compile(r"^1, \d+,\d %$"))
    page.get_by_label("Warum?").check()
    expect(page.get_by_alt_text("Was für 1 spricht, in Rot")).to_be_visible()
    page.get_by_role("button", name="Zurück").click()
    expect(page.locator("#live")).to_have_text("Zurückgenommen. Die Zeichenfläche ist leer.")


def test_the_pen_of_the_keyboard_speaks_german(german: Page):
    german.get_by_test_id("pad").focus()
    german.keyboard.press("Space")
    expect(german.locator("#live")).to_have_text("Stift aufgesetzt")
    german.keyboard.press("Escape")
    expect(german.locator("#live")).to_have_text("Die Zeichenfläche ist leer.")


def test_a_problem_is_told_in_german_with_the_servers_words_behind(german: Page):
    problem = {"type": "urn:glimpse:problem:too-many-requests", "detail": "Wait 3 s."}
    german.route(PREDICT, lambda route: route.fulfill(status=429, json=problem))
    draw(german, DOWNSTROKE)
    error = german.get_by_test_id("error")
    expect(error).to_contain_text("Du hast zu viele Anfragen")
    expect(error.locator("[lang=en]")).to_have_text("Wait 3 s.")
    german.unroute(PREDICT)
    german.route(PREDICT, lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    draw(german, DOT)
    expect(error).to_contain_text("Status 502")
    expect(error.locator("[lang=en]")).to_have_count(0)
    german.unroute(PREDICT)
    german.route(PREDICT, lambda route: route.fulfill(status=409, json={"detail": "An odd one."}))
    draw(german, DOT)
    expect(error).to_contain_text("Der Server konnte diese Anfrage nicht beantworten.")
    expect(error.locator("[lang=en]")).to_have_text("An odd one.")


def test_faces_are_found_in_german(open_page: OpenPage):
    page = open_page("/faces", locale="de-AT")
    page.get_by_test_id("photo-input").set_input_files(FAMILY)
    expect(page.locator("#which")).to_contain_text("Gesicht 1 von 4", timeout=SLOW)
    expect(page.locator("#live")).to_contain_text("4 Gesichter, das größte")
    expect(page.locator("#score")).to_have_text(re.compile(r"^\d+,\d %$"))
    file = {"name": "a.png", "mimeType": "image/png", "buffer": b"nothing"}
    page.get_by_test_id("photo-input").set_input_files(file)
    error = page.get_by_test_id("error")
    expect(error).to_contain_text("Das ist kein Bild", timeout=SLOW)
    expect(error.locator("[lang=en]")).to_contain_text("not an image")


def test_labels_of_faces_have_german_names(open_page: OpenPage):
    page = open_page("/faces", locale="de-DE")
    box = {"x": 1, "y": 1, "width": 9, "height": 9}
    seen = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
    face = {"box": box, "label": "happy", "score": 0.934, "predictions": [], "seen": seen}
    answer = {"results": [{"width": 10, "height": 10, "faces": [face]}]}
    page.route(PREDICT, lambda route: route.fulfill(json=answer))
    page.get_by_test_id("photo-input").set_input_files(FAMILY)
    expect(page.get_by_test_id("face-label")).to_have_text("Freude")
    expect(page.locator(".tag")).to_have_text("Freude 93 %")
    expect(page.locator("#live")).to_have_text("Ein Gesicht: Freude, 93,4 %")


def test_many_pictures_are_read_in_german_and_their_csv_is_the_apis(open_page: OpenPage):
    page = open_page("/batch", locale="de-DE")
    happy = {"label": "happy", "score": 0.934, "predictions": [{"label": "happy", "score": 0.934}]}
    box = {"x": 1, "y": 1, "width": 9, "height": 9}
    problem = {"type": "urn:glimpse:problem:unreadable-image", "detail": "This is not an image."}
    answer = {"results": [{**happy, "subjects": [{**happy, "box": box}]}, {"error": problem}]}
    page.route(PREDICT, lambda route: route.fulfill(json=answer))
    choose(page, "a.png", "b.png")
    expect(page.get_by_test_id("count")).to_have_text("2 von 2, 1 fehlgeschlagen")
    expect(page.locator("#live")).to_have_text("Fertig: 2 von 2, 1 fehlgeschlagen")
    expect(page.get_by_test_id("counts").get_by_role("listitem")).to_have_text(["Freude 1×"])
    expect(page.locator("tbody .label")).to_have_text("Freude")
    expect(page.locator("tbody .percent")).to_have_text(re.compile(r"^93,4\s%$"))
    told = page.locator("tbody .problem")
    expect(told).to_contain_text("Das ist kein Bild")
    expect(told.locator("[lang=en]")).to_have_text("This is not an image.")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV sichern").click()
    lines = csv.DictReader(io.StringIO(download.value.path().read_text("utf-8")))
    assert [(line["label"], line["score"], line["error"]) for line in lines] == [
        ("happy", "0.934", ""),
        ("", "", "This is not an image."),
    ]


def test_what_ends_the_reading_of_many_pictures_is_told_in_german(open_page: OpenPage):
    page = open_page("/batch", locale="de-DE")
    problem = {"type": "urn:glimpse:problem:unknown-model", "detail": "There is no such model."}
    page.route(PREDICT, lambda route: route.fulfill(status=404, json=problem))
    choose(page, "a.png")
    error = page.get_by_test_id("error")
    expect(error).to_contain_text("gibt es hier nicht. Mit „Weiter“ versuchst du es noch einmal.")
    expect(error.locator("[lang=en]")).to_have_text("There is no such model.")
    expect(page.get_by_test_id("go")).to_have_text("Weiter")


def test_the_page_of_the_api_is_german_and_tells_an_answer_in_german(open_page: OpenPage):
    page = open_page("/docs", locale="de-DE")
    expect(page.get_by_role("heading", level=1)).to_have_text("Die API")
    attempt = page.get_by_test_id("try-predict")
    attempt.get_by_role("button", name="Senden").click()
    expect(page.get_by_test_id("told")).to_contain_text("Antwort 200", timeout=SLOW)


def test_the_language_is_chosen_at_the_foot_and_stays(open_page: OpenPage):
    page = open_page("/models/compare?a=digits&b=emotions")
    page.get_by_role("link", name="Deutsch").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Zwei Modelle vergleichen")
    expect(page.get_by_label("Zweites")).to_have_value("emotions")
    page.get_by_role("button", name="Vergleichen").click()
    expect(page.locator("html")).to_have_attribute("lang", "de")
    page.get_by_role("link", name="Ziffern").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Zeichne eine Ziffer")
    expect(page.get_by_role("link", name="Deutsch")).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="English").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Draw a digit")
    assert page.context.cookies() == []


def test_a_snippet_is_copied_in_german(open_page: OpenPage):
    page = open_page("/models/digits?lang=de", permissions=["clipboard-read", "clipboard-write"])
    button = page.locator("[data-copy=curl]")
    expect(button).to_have_text("Kopieren")
    button.click()
    expect(button).to_have_text("Kopiert")
    expect(button).to_have_text("Kopieren")


@in_every_font
@pytest.mark.parametrize("path", PAGES)
def test_no_german_page_scrolls_sideways(open_page: OpenPage, path: str):
    page = open_page(path, locale="de-DE")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = page.evaluate(
            """() => [...document.querySelectorAll("button, .button, .masthead a, summary, dt, th")]
                .filter((each) => each.offsetParent && each.scrollWidth > each.clientWidth + 1)
                .map((each) => each.outerHTML)"""
        )
        assert cut == []


@in_every_font
def test_the_texts_of_charts_stay_within_them(open_page: OpenPage):
    page = open_page("/models/digits", locale="de-DE")
    reach = page.evaluate(
        """() => [...document.querySelectorAll("svg.chart text")].map((text) => {
            const inner = text.getBoundingClientRect();
            const outer = text.closest("svg.chart").getBoundingClientRect();
            const over = Math.max(outer.left - inner.left, inner.right - outer.right,
                outer.top - inner.top, inner.bottom - outer.bottom);
            return [text.textContent, over];
        })"""
    )
    assert [each for each in reach if each[1] >= 3] == []


def in_brackets(route: Route) -> None:
    """The page with the texts of its scripts in brackets."""
    response = route.fetch()
    body = response.text()
    given = re.search("name=\"texts\" content='(.*?)'", body)
    assert given
    texts = {
        key: {form: f"⟦{one}⟧" for form, one in text.items()}
        if isinstance(text, dict)
        else f"⟦{text}⟧"
        for key, text in json.loads(given[1]).items()
    }
    content = escape(json.dumps(texts), quote=True)
    body = body.replace(given[0], f"name=\"texts\" content='{content}'")
    route.fulfill(response=response, body=body)


def said(page: Page, act: Callable[[], None]) -> set[str]:
    """Every text that scripts set while `act` goes on, and every such alternative text."""
    page.evaluate(
        """() => {
            window.heard = new Set();
            new MutationObserver((changes) => {
                for (const { type, target, addedNodes } of changes) {
                    if (type === "attributes") heard.add(target.getAttribute("alt"));
                    for (const node of addedNodes) {
                        if (!(node.parentElement ?? target).closest("[lang=en]:not(html)")) {
                            heard.add(node.textContent);
                        }
                    }
                }
            }).observe(document.body,
                { subtree: true, childList: true, attributes: true, attributeFilter: ["alt"] });
        }"""
    )
    act()
    heard: list[str] = page.evaluate("[...heard]")
    return {each for each in heard if LETTERS.search(re.sub("⟦.*⟧", "", each))}


# The bar's text comes from the template.
NO_CONNECTION = "No connection. Pictures are read again when it is back."


def test_all_that_the_draw_page_says_is_of_the_catalogue(open_page: OpenPage):
    page = open_page("/models")
    page.route(re.compile(r"/$"), in_brackets)
    page.goto("/")

    def act() -> None:
        draw(page, DOWNSTROKE)
        expect(page.get_by_test_id("sureness")).to_have_text(re.compile("^⟦.*⟧$"))
        page.locator("#why").check()
        expect(page.get_by_alt_text("⟦Evidence for 1, in red⟧")).to_be_visible()
        page.get_by_test_id("undo").click()
        expect(page.locator("#live")).to_have_text("⟦Undone. The pad is empty.⟧")
        page.context.set_offline(True)
        draw(page, DOWNSTROKE)
        expect(page.get_by_test_id("error")).to_contain_text("⟦")

    # What stands there without an explanation, or without a number, comes from the template.
    picture = "Your drawing, centred and scaled to 28 by 28 pixels"
    assert said(page, act) == {picture, "Score of each digit", NO_CONNECTION}


def test_all_that_the_faces_page_says_is_of_the_catalogue(open_page: OpenPage):
    page = open_page("/models")
    page.route(re.compile(r"/faces$"), in_brackets)
    page.goto("/faces")

    def act() -> None:
        page.get_by_test_id("photo-input").set_input_files(FAMILY)
        expect(page.locator("#which")).to_contain_text("⟦Face 1 of 4", timeout=SLOW)
        page.context.set_offline(True)
        page.get_by_test_id("photo-input").set_input_files(FAMILY)
        expect(page.get_by_test_id("error")).to_contain_text("⟦", timeout=SLOW)

    picture = "The face as the network saw it, 48 by 48 grey pixels"
    labels = re.compile(r"^(dark|light)( \d+ %)?( \?)?$")
    told = {each for each in said(page, act) if not labels.match(each)}
    assert told == {picture, "Looking for faces", NO_CONNECTION}  # all from the template


def test_all_that_the_batch_page_says_is_of_the_catalogue(open_page: OpenPage):
    page = open_page("/models")
    page.route(re.compile(r"/batch$"), in_brackets)
    page.goto("/batch")

    def act() -> None:
        choose(page, "1", "2")
        expect(page.locator("#live")).to_have_text("⟦Done: ⟦2 of 2⟧⟧", timeout=SLOW)
        page.context.set_offline(True)
        choose(page, "3")
        expect(page.get_by_test_id("error")).to_contain_text("⟦", timeout=SLOW)
        page.get_by_test_id("clear").click()

    assert said(page, act) == {NO_CONNECTION}

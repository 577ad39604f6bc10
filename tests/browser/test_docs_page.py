"""The page of the API: calls made in it, and the curl commands that make the same."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from samples import encode, seven

from app.pages import pretty

from .conftest import OpenPage
from .fonts import in_every_font

WIDTHS = [320, 360, 768, 1440]
SLOW = 20_000  # ms in which an answer comes on a busy machine
PICTURE = {"name": "my seven; 'one'.png", "mimeType": "image/png", "buffer": encode(seven())}
CHOICES = {
    "defaults": {},
    "parameters": {"model": "digits", "top_k": "3", "faces": "whole", "explain": True},
}


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    return open_page("/docs", permissions=["clipboard-read", "clipboard-write"])


@pytest.fixture
def attempt(page: Page) -> Locator:
    """The form to try predictions with."""
    return page.get_by_test_id("try-predict")


def send(form: Locator) -> str:
    """The body of the answer as it is shown."""
    form.get_by_role("button", name="Send").click()
    expect(form.get_by_test_id("answered")).to_be_visible(timeout=SLOW)
    return form.locator("[data-part=body]").inner_text()


def choose(form: Locator, choices: dict[str, str | bool]) -> None:
    for name, value in choices.items():
        control = form.get_by_label(name, exact=True)
        if value is True:
            control.check()
        elif name == "top_k":
            control.fill(str(value))
        else:
            control.select_option(str(value))


def run(command: str, folder: Path) -> dict:
    environment = {**os.environ, "no_proxy": "*"}
    said = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(said.stdout)


def test_the_sample_is_classified_with_one_press(attempt: Locator):
    shown = send(attempt)
    assert json.loads(shown)["results"][0]["label"] == "7"
    expect(attempt.locator("[data-part=status]")).to_have_text("200 OK")
    expect(attempt.locator("[data-part=time]")).to_contain_text("ms")
    expect(attempt.locator("[data-part=headers]")).to_contain_text("X-Request-ID")


@pytest.mark.parametrize("form", ["Form", "Bytes", "JSON"])
@pytest.mark.parametrize("name", CHOICES)
def test_the_command_gets_the_same_answer(page: Page, attempt: Locator, tmp_path: Path, form, name):
    attempt.get_by_test_id("picture").set_input_files(PICTURE)
    attempt.get_by_label(form).check()
    choose(attempt, CHOICES[name])
    with page.expect_response("**/api/predict*") as response:
        send(attempt)
    attempt.get_by_role("button", name="Copy").click()
    (tmp_path / PICTURE["name"]).write_bytes(PICTURE["buffer"])
    said = run(page.evaluate("navigator.clipboard.readText()"), tmp_path)
    answered = response.value.json()
    assert len(answered["results"][0]["predictions"]) == (3 if CHOICES[name] else 10)
    assert ("explanation" in answered["results"][0]) == bool(CHOICES[name])
    assert said["results"] == answered["results"]


def test_a_data_url_is_shortened(attempt: Locator):
    choose(attempt, {"explain": True})
    assert "characters" in send(attempt)


def test_answers_are_laid_out_as_examples_are(page: Page):
    value = {
        "predictions": [{"label": "7", "score": 0.9997}] * 3,
        "data": [0] * 784,
        "seen": "data:image/png;base64," + "A" * 200,
        "detail": "A sentence that is as long as it is and does not end for a while. " * 2,
        "none": [None, {}, [], True, "“é”"],
    }
    laid_out = "async (value) => (await import('/static/js/json.js')).pretty(value)"
    assert page.evaluate(laid_out, value) == pretty(value)


def test_the_sample_comes_back_for_a_chosen_picture(attempt: Locator):
    command = attempt.locator("[data-part=curl]")
    expect(command).to_contain_text("file=@seven.png")
    attempt.get_by_test_id("picture").set_input_files(PICTURE)
    expect(command).not_to_contain_text("file=@seven.png")
    attempt.get_by_role("button", name="Use the sample").click()
    expect(command).to_contain_text("file=@seven.png")
    assert json.loads(send(attempt))["results"][0]["filename"] == "seven.png"


def test_a_problem_is_shown_with_its_status(attempt: Locator):
    attempt.get_by_test_id("picture").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"}
    )
    assert "urn:glimpse:problem:unreadable-image" in send(attempt)
    expect(attempt.locator("[data-part=status]")).to_contain_text("400")


def test_too_many_requests_show_how_long_to_wait(page: Page, attempt: Locator):
    page.route(
        "**/api/predict*",
        lambda route: route.fulfill(
            status=429,
            headers={"Retry-After": "20"},
            content_type="application/problem+json",
            body="{}",
        ),
    )
    send(attempt)
    expect(attempt.locator("[data-part=headers]")).to_contain_text("Retry-After20")


def test_without_a_network_the_page_says_what_to_do(page: Page, attempt: Locator):
    page.route("**/api/predict*", lambda route: route.abort())
    attempt.get_by_role("button", name="Send").click()
    expect(attempt.get_by_role("alert")).to_contain_text("cannot be reached")


def test_every_operation_can_be_sent_as_it_stands(page: Page):
    """With the values that the forms begin with, each gives the answer that it is described by."""
    operations = page.get_by_test_id("operation")
    assert operations.count() > 10
    off = {"report", "withdrawReport", "deleteReport"}  # on this server
    for operation in operations.all():
        form = operation.locator(".try")
        if not form.evaluate("details => details.open"):
            form.get_by_text("Try it").click()
        assert send(form)
        expected = "404 NOT FOUND" if operation.get_attribute("id") in off else "200 OK"
        expect(form.locator("[data-part=status]")).to_have_text(expected)


def test_a_path_parameter_is_taken_from_its_field(page: Page):
    form = page.get_by_test_id("try-showModel")
    form.get_by_text("Try it").click()
    form.get_by_label("name").select_option("emotions")
    assert json.loads(send(form))["name"] == "emotions"
    expect(form.locator("[data-part=curl]")).to_contain_text("/api/models/emotions")


def test_the_body_of_a_tensor_can_be_changed(page: Page):
    form = page.get_by_test_id("try-infer")
    form.get_by_text("Try it").click()
    form.get_by_label("Body, JSON").fill('{"inputs": []}')
    assert '"error"' in send(form)
    expect(form.locator("[data-part=status]")).to_contain_text("400")


def test_the_page_works_with_the_keyboard_alone(page: Page, attempt: Locator):
    def press_to(target: Locator) -> None:
        for _ in range(80):
            if target.evaluate("element => element === document.activeElement"):
                return
            page.keyboard.press("Tab")
        pytest.fail("it cannot be reached")

    page.get_by_role("link", name="Classify pictures").focus()
    page.keyboard.press("Enter")
    press_to(attempt.get_by_label("Form"))
    page.keyboard.press("ArrowRight")
    expect(attempt.get_by_label("Bytes")).to_be_checked()
    press_to(attempt.get_by_label("top_k"))
    page.keyboard.type("2")
    page.keyboard.press("Enter")
    expect(attempt.get_by_test_id("answered")).to_contain_text('"label": "7"', timeout=SLOW)
    expect(page.get_by_test_id("told")).to_contain_text("Answer 200 OK")


def test_the_navigation_leads_to_the_page(open_page: OpenPage):
    page = open_page("/")
    page.get_by_role("navigation").get_by_role("link", name="API").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The API")
    expect(page.get_by_role("link", name="API", exact=True)).to_have_attribute(
        "aria-current", "page"
    )


def test_without_javascript_the_page_is_a_reference(open_page: OpenPage):
    page = open_page("/docs", java_script_enabled=False)
    expect(page.get_by_role("heading", name="Classify pictures")).to_be_visible()
    expect(page.get_by_role("button", name="Send")).to_have_count(0)


@in_every_font
def test_the_page_never_scrolls_sideways(page: Page, attempt: Locator):
    send(attempt)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width

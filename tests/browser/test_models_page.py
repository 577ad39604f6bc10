"""The models' pages in a browser: their links, snippets and charts, on screens small and large."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from samples import encode, seven

from .conftest import OpenPage


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    return open_page("/models/digits", permissions=["clipboard-read", "clipboard-write"])


TRAIN = (
    "python -m training train digits-pens --data DIR1 --data DIR2 --name digits --publish "
    "--store STORE"
)


def copied(page: Page, name: str) -> str:
    """What is on the clipboard after the copy button of a snippet has been pressed."""
    page.locator(f"[data-copy={name}]").click()
    expect(page.locator(f"[data-copy={name}]")).to_have_text("Copied")
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def test_the_list_leads_to_a_model_and_to_a_comparison(open_page: OpenPage):
    page = open_page("/")
    page.get_by_role("navigation").get_by_role("link", name="Models").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Models")
    page.locator(".card", has_text="pen strokes").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("digits")
    expect(page.get_by_test_id("accuracy")).to_contain_text("%")
    current = page.get_by_role("navigation").get_by_role("link", name="Models")
    expect(current).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="All models").click()
    page.get_by_role("link", name="Compare two models").click()
    page.get_by_label("First").select_option("emotions")
    page.get_by_label("Second").select_option("digits")
    page.get_by_role("button", name="Compare").click()
    expect(page).to_have_url(re.compile(r"a=emotions&b=digits"))
    expect(page.get_by_test_id("verdict")).to_contain_text("different labels")


def test_the_snippets_are_copied_and_say_so(page: Page):
    text = copied(page, "curl")
    assert text.startswith("curl -F file=@digit.png 'http://127.0.0.1:")
    assert text.endswith("/api/predict?model=digits'")
    expect(page.locator("#live")).to_have_text("Copied.")
    expect(page.locator("[data-copy=curl]")).to_have_text("Copy")


def test_without_a_clipboard_the_text_is_copied_by_the_old_way(page: Page):
    page.evaluate(
        "() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }"
    )
    assert copied(page, "train") == TRAIN


def test_where_nothing_can_copy_the_text_is_selected(page: Page):
    page.evaluate(
        """() => {
            navigator.clipboard.writeText = () => Promise.reject(new Error("no"));
            document.execCommand = () => false;
        }"""
    )
    page.locator("[data-copy=train]").click()
    expect(page.locator("[data-copy=train]")).to_have_text("Press Ctrl C")
    selected = page.evaluate("getSelection().toString()")
    assert selected == TRAIN


def test_the_python_snippet_runs(page: Page, tmp_path: Path):
    (tmp_path / "digit.png").write_bytes(encode(seven()))
    command = [sys.executable, "-c", copied(page, "python")]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout.startswith("7 ")


def test_the_curl_snippet_runs(page: Page, tmp_path: Path):
    (tmp_path / "digit.png").write_bytes(encode(seven()))
    command = ["sh", "-c", copied(page, "curl")]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert '"label":"7"' in said.stdout.replace(" ", "")


def test_the_javascript_snippet_runs(page: Page):
    code = copied(page, "javascript")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('input'), {type: 'file'}))"
    )
    picture = {"name": "digit.png", "mimeType": "image/png", "buffer": encode(seven())}
    page.locator("input[type=file]").set_input_files(picture)
    with page.expect_console_message() as said:
        page.evaluate(f"async () => {{ {code} }}")
    assert said.value.text.startswith("7 ")


def test_the_page_works_with_the_keyboard_alone(page: Page):
    button = page.locator("[data-copy=train]")
    for _ in range(60):
        page.keyboard.press("Tab")
        if button.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(button).to_have_text("Copied")
    table = page.get_by_test_id("matrix")
    expect(table).to_be_hidden()
    page.get_by_text("The matrix as a table").focus()
    page.keyboard.press("Enter")
    expect(table).to_be_visible()


def test_the_charts_follow_the_colour_scheme(open_page: OpenPage):
    colours = {}
    for scheme in ("light", "dark"):
        page = open_page("/models/digits", color_scheme=scheme)
        text = page.locator(".matrix .count").first
        colours[scheme] = text.evaluate("element => getComputedStyle(element).fill")
    assert colours == {"light": "rgb(27, 29, 27)", "dark": "rgb(240, 239, 233)"}


def test_the_numbers_of_the_matrix_stand_out_from_their_cells(open_page: OpenPage):
    """Four and a half to one, as WCAG asks of text, in both schemes."""
    for scheme in ("light", "dark"):
        page = open_page("/models/digits", color_scheme=scheme)
        ratios = page.evaluate(
            """() => {
                const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
                const light = (colour) => colour.map((value) => value / 255)
                    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
                    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
                const ground = rgb(getComputedStyle(document.body).backgroundColor);
                return [...document.querySelectorAll(".matrix g:has(text)")].map((cell) => {
                    const style = getComputedStyle(cell.querySelector("rect"));
                    const share = Number(style.fillOpacity);
                    const mix = (value, at) => value * share + ground[at] * (1 - share);
                    const back = rgb(style.fill).map(mix);
                    const text = rgb(getComputedStyle(cell.querySelector("text")).fill);
                    const [low, high] = [light(back), light(text)].sort((a, b) => a - b);
                    return (high + 0.05) / (low + 0.05);
                });
            }"""
        )
        assert len(ratios) > 10
        assert min(ratios) >= 4.5


def test_every_chart_and_picture_has_a_name(page: Page):
    for chart in page.get_by_role("img").all():
        assert chart.evaluate("e => e.alt || e.querySelector('title')?.textContent")
    assert page.locator(".chart:not([role=img])").count() == 0
    for text in ("The matrix as a table", "The curves as a table", "The epochs as a table"):
        expect(page.get_by_text(text)).to_be_visible()


def test_without_scripts_there_is_no_button_that_does_nothing(open_page: OpenPage):
    page = open_page("/models/digits", java_script_enabled=False)
    expect(page.locator("[data-copy]").first).to_be_hidden()
    expect(page.locator(".matrix")).to_be_visible()

"""The draw page: the pad, its tools, the live answer, and what it needs to be usable by all."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image
from playwright.sync_api import Page, Route, expect

from .conftest import OpenPage
from .drawing import (
    BAR,
    DOT,
    DOWNSTROKE,
    draw,
    draw_with_finger,
    has_ink,
    on_screen,
    settle,
    touch,
)
from .fonts import in_every_font
from .scenes import SEVEN

PREDICT = "**/api/predict*"
PHONE = {"width": 360, "height": 740}


def sent_pictures(page: Page) -> list[bytes]:
    """A list that grows by each picture that the page sends."""
    pictures: list[bytes] = []

    def note(route: Route) -> None:
        pictures.append(route.request.post_data_buffer or b"")
        route.continue_()

    page.route(PREDICT, note)
    return pictures


def held_requests(page: Page) -> list[Route]:
    """A list that grows by each request for an answer, which is not sent on."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(PREDICT, hold)
    return held


def wait_for(page: Page, held: list[Route], count: int) -> None:
    for _ in range(200):
        if len(held) >= count:
            return
        page.wait_for_timeout(25)
    pytest.fail(f"{len(held)} requests came, not {count}")


def expect_empty(page: Page) -> None:
    """The page is as it was at first."""
    expect(page.get_by_test_id("digit-label")).to_be_empty()
    expect(page.get_by_test_id("digit-score")).to_be_empty()
    expect(page.get_by_test_id("seen")).to_be_hidden()
    expect(page.get_by_text("the answer appears here")).to_be_visible()
    expect(page.get_by_test_id("error")).to_be_hidden()


# The answer


def test_before_any_ink_the_page_invites_to_draw(page: Page):
    expect(page.get_by_text("Draw any digit")).to_be_visible()
    expect_empty(page)


def test_an_answer_shows_label_score_bars_and_what_the_network_saw(page: Page):
    draw(page, SEVEN)
    settle(page)
    expect(page.get_by_test_id("digit-label")).to_have_text("7")
    score = page.get_by_test_id("digit-score").inner_text()
    assert re.fullmatch(r"\d{1,3}\.\d %", score)
    bars = [page.get_by_test_id(f"bar-{digit}") for digit in range(10)]
    expect(bars[7]).to_contain_text(score)
    shares = [float(re.search(r"(\d+\.\d) %", bar.inner_text())[1]) for bar in bars]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    seen = page.get_by_test_id("seen")
    expect(seen).to_be_visible()
    assert seen.evaluate("(image) => [image.naturalWidth, image.naturalHeight]") == [28, 28]


def test_the_bars_stand_in_the_order_of_the_digits(page: Page):
    draw(page, SEVEN)
    settle(page)
    names = page.locator("[data-testid^=bar-] th").all_inner_texts()
    assert names == [str(digit) for digit in range(10)]


def test_the_answer_comes_while_the_pen_is_still_down(page: Page):
    [points] = on_screen(page, DOWNSTROKE)
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    expect(page.get_by_test_id("digit-label")).to_have_text("1")
    page.mouse.up()


@in_every_font
def test_an_answer_moves_nothing_on_the_page(page: Page):
    def places() -> list[dict[str, float]]:
        return page.evaluate(
            "() => [...document.querySelectorAll('main *:not(.sureness *, .fill, img)')]"
            ".map((element) => element.getBoundingClientRect().toJSON())"
        )

    before = places()
    draw(page, SEVEN)
    settle(page)
    assert places() == before


def test_at_most_one_request_is_under_way_and_the_latest_picture_wins(page: Page):
    held = held_requests(page)
    draw(page, DOT)
    wait_for(page, held, 1)
    draw(page, DOWNSTROKE)
    draw(page, BAR)
    page.wait_for_timeout(200)
    assert len(held) == 1
    held[0].continue_()
    wait_for(page, held, 2)
    last = Image.open(io.BytesIO(held[1].request.post_data_buffer)).convert("L").resize((10, 10))
    assert last.getpixel((7, 2)) < 200  # the bar's
    assert last.getpixel((4, 7)) < 200  # the downstroke's
    held[1].continue_()
    settle(page)
    assert len(held) == 2


def test_an_answer_to_a_cleared_drawing_does_not_show(page: Page):
    held: list[Route] = []
    page.route(PREDICT, lambda route: route.continue_() if held else held.append(route))
    draw(page, SEVEN)
    wait_for(page, held, 1)
    page.get_by_test_id("clear").click()
    draw(page, DOWNSTROKE)
    settle(page)
    held[0].fulfill(
        json={"results": [{"label": "7", "score": 1, "predictions": [], "seen": "data:,"}]}
    )
    page.wait_for_timeout(200)
    expect(page.get_by_test_id("digit-label")).to_have_text("1")


def test_after_clear_the_next_drawing_is_read_without_delay(page: Page):
    page.clock.install(time=0)
    page.reload()
    page.clock.pause_at(3600)
    held = held_requests(page)
    for count, glyph in enumerate([DOT, DOWNSTROKE], start=1):
        draw(page, glyph)
        page.clock.run_for(100)  # ms, of the 1,000 that follow a failure
        wait_for(page, held, count)
        page.get_by_test_id("clear").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_sent_is_black_on_white_whatever_the_theme(open_page: OpenPage, scheme: str):
    page = open_page(color_scheme=scheme)
    pictures = sent_pictures(page)
    draw(page, SEVEN)
    settle(page)
    image = Image.open(io.BytesIO(pictures[-1]))
    assert image.format == "PNG"
    assert image.size == (280, 280)
    grey = np.asarray(image.convert("RGBA"))[..., :3].mean(axis=2)
    assert grey[:20, :20].min() == 255
    assert grey.min() == 0
    assert np.asarray(image.convert("RGBA"))[..., 3].min() == 255


# The pad


def test_a_click_leaves_a_dot_that_is_read(page: Page):
    draw(page, DOT)
    settle(page)
    assert has_ink(page, 0.5, 0.5)
    expect(page.get_by_test_id("digit-label")).not_to_be_empty()


def test_a_stroke_goes_on_when_it_leaves_the_pad_and_comes_back(page: Page):
    draw(page, [[(0.5, 0.5), (1.2, 0.5), (1.2, 0.8), (0.5, 0.8), (0.3, 0.8)]])
    assert has_ink(page, 0.8, 0.5)
    assert has_ink(page, 0.4, 0.8)
    page.get_by_test_id("undo").click()
    assert not has_ink(page, 0.4, 0.8)
    expect_empty(page)


def test_a_second_finger_does_not_disturb_the_stroke(open_page: OpenPage):
    page = open_page(has_touch=True, viewport=PHONE)
    session = page.context.new_cdp_session(page)
    [[start, middle, end, elsewhere]] = on_screen(
        page, [[(0.3, 0.2), (0.3, 0.5), (0.3, 0.8), (0.8, 0.5)]]
    )
    touch(session, "touchStart", start)
    touch(session, "touchStart", start, elsewhere)
    touch(session, "touchMove", middle, elsewhere)
    touch(session, "touchMove", middle)  # the second finger is lifted
    touch(session, "touchMove", end)
    touch(session, "touchEnd")
    assert has_ink(page, 0.3, 0.35)
    assert has_ink(page, 0.3, 0.7)
    assert not has_ink(page, 0.8, 0.5)
    assert not has_ink(page, 0.55, 0.5)


def test_a_finger_on_the_pad_does_not_scroll_the_page(open_page: OpenPage):
    page = open_page(has_touch=True, viewport={"width": 360, "height": 500})
    draw_with_finger(page, [list(reversed(DOWNSTROKE[0]))])
    assert page.evaluate("scrollY") == 0
    assert has_ink(page, 0.5, 0.5)


def test_the_right_button_does_not_draw(page: Page):
    [[point]] = on_screen(page, DOT)
    page.mouse.click(*point, button="right")
    assert not has_ink(page, 0.5, 0.5)
    expect_empty(page)


@pytest.mark.parametrize("density", [1, 1.5, 3])
def test_the_canvas_has_a_pixel_for_each_of_the_screens(open_page: OpenPage, density: float):
    page = open_page(device_scale_factor=density)
    drawn, shown = page.get_by_test_id("pad").evaluate(
        "(pad) => [[pad.width, pad.height], [pad.clientWidth, pad.clientHeight]]"
    )
    assert drawn == [round(side * density) for side in shown]


def test_the_drawing_outlives_a_resize(open_page: OpenPage):
    page = open_page(viewport={"width": 1280, "height": 900})
    draw(page, DOWNSTROKE)
    page.set_viewport_size({"width": 320, "height": 740})
    assert has_ink(page, 0.5, 0.3)
    assert has_ink(page, 0.5, 0.7)
    assert not has_ink(page, 0.2, 0.5)


def test_drawing_works_over_plain_http_from_another_machine(open_page: OpenPage, server: str):
    page = open_page(server.replace("127.0.0.1", "glimpse.test"))
    assert not page.evaluate("isSecureContext")  # some pointer features are missing there
    draw(page, SEVEN)
    settle(page)
    expect(page.get_by_test_id("digit-label")).to_have_text("7")


# Undo and clear


def test_undo_takes_back_the_last_stroke_and_reads_again(page: Page):
    draw(page, DOWNSTROKE)
    draw(page, BAR)
    page.get_by_test_id("undo").click()
    settle(page)
    assert not has_ink(page, 0.8, 0.3)
    assert has_ink(page, 0.5, 0.6)
    expect(page.get_by_test_id("digit-label")).to_have_text("1")


@pytest.mark.parametrize("keys", ["Control+z", "Meta+z"])
def test_undo_has_a_key(page: Page, keys: str):
    draw(page, DOWNSTROKE)
    page.keyboard.press(keys)
    assert not has_ink(page, 0.5, 0.5)
    expect_empty(page)


def test_undo_of_the_only_stroke_leaves_the_page_as_it_was(page: Page):
    draw(page, SEVEN)
    settle(page)
    page.get_by_test_id("undo").click()
    expect_empty(page)


def test_clear_empties_pad_and_answer(page: Page):
    draw(page, SEVEN)
    settle(page)
    page.get_by_test_id("clear").click()
    assert not has_ink(page, 0.5, 0.1)
    expect_empty(page)


@pytest.mark.parametrize("key", ["Escape", "Delete"])
def test_clear_has_a_key_on_the_pad(page: Page, key: str):
    draw(page, SEVEN)
    page.get_by_test_id("pad").press(key)
    assert not has_ink(page, 0.5, 0.1)
    expect_empty(page)


def test_undo_brings_a_cleared_drawing_back(page: Page):
    draw(page, DOWNSTROKE)
    page.get_by_test_id("clear").click()
    page.get_by_test_id("undo").click()
    settle(page)
    expect(page.get_by_test_id("digit-label")).to_have_text("1")


# Keyboard and screen reader


def test_a_digit_can_be_drawn_with_the_keyboard_alone(page: Page):
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.testid") == "pad":
            break
    expect(page.get_by_test_id("pad")).to_be_focused()
    expect(page.get_by_text("puts it down or lifts it")).to_be_visible()
    for key in ["ArrowLeft"] * 4 + ["Space"] + ["ArrowRight"] * 8:
        page.keyboard.press(key)
    page.keyboard.down("ArrowLeft")  # held with the next it makes a slant
    for _ in range(5):
        page.keyboard.press("ArrowDown")
    page.keyboard.up("ArrowLeft")
    for key in ["ArrowDown"] * 6 + ["Enter"]:
        page.keyboard.press(key)
    settle(page)
    expect(page.get_by_test_id("digit-label")).to_have_text("7")


def test_a_lifted_pen_moves_without_drawing(page: Page):
    pad = page.get_by_test_id("pad")
    for key in ["Space", "ArrowDown", "Space", "ArrowDown", "ArrowDown", "ArrowDown"]:
        pad.press(key)
    assert has_ink(page, 0.5, 0.27)
    assert not has_ink(page, 0.5, 0.4)


def test_the_mouse_draws_where_the_pen_of_the_keyboard_is_still_down(page: Page):
    pad = page.get_by_test_id("pad")
    pad.press("Space")
    draw(page, DOWNSTROKE)
    assert has_ink(page, 0.5, 0.7)
    for _ in range(4):
        pad.press("ArrowRight")
    assert not has_ink(page, 0.65, 0.25)  # the mouse has lifted the keyboard's pen


def test_the_keys_are_explained_to_those_who_cannot_see_them(page: Page):
    described = page.get_by_test_id("pad").get_attribute("aria-describedby")
    expect(page.locator(f"#{described}")).to_contain_text("Space puts it down")


def test_the_settled_answer_is_read_out(page: Page):
    draw(page, SEVEN)
    live = page.locator("[aria-live=polite]")
    expect(live).to_have_text(re.compile(r"^7, \d+\.\d %$"))


def test_clearing_is_read_out(page: Page):
    draw(page, SEVEN)
    page.get_by_test_id("clear").click()
    expect(page.locator("[aria-live=polite]")).to_have_text("The pad is empty.")


def test_the_buttons_have_names(page: Page):
    expect(page.get_by_role("button", name="Undo", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Clear", exact=True)).to_be_visible()


# When something fails


def test_a_problem_of_the_server_is_shown_until_the_next_answer(page: Page):
    detail = "The models are still loading. Try again in a moment."
    page.route(
        PREDICT,
        lambda route: route.fulfill(
            status=503, content_type="application/problem+json", json={"detail": detail}
        ),
    )
    draw(page, DOWNSTROKE)
    error = page.get_by_test_id("error")
    expect(error).to_have_text(detail)
    expect(error).to_have_role("alert")
    expect(page.get_by_test_id("digit-label")).to_be_empty()
    page.unroute(PREDICT)
    draw(page, DOT)
    expect(page.get_by_test_id("digit-label")).not_to_be_empty()
    expect(error).to_be_hidden()


def test_a_failure_without_a_problem_says_what_to_do(page: Page):
    page.route(PREDICT, lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    draw(page, DOWNSTROKE)
    expect(page.get_by_test_id("error")).to_contain_text("Keep drawing to try again")


def test_without_a_network_the_page_says_what_to_do_and_recovers(page: Page):
    page.context.set_offline(True)
    draw(page, DOWNSTROKE)
    expect(page.get_by_test_id("error")).to_contain_text("Check the connection")
    page.context.set_offline(False)
    draw(page, DOT)
    expect(page.get_by_test_id("digit-label")).not_to_be_empty()
    expect(page.get_by_test_id("error")).to_be_hidden()


def test_a_picture_with_nothing_to_read_is_no_error(page: Page):
    draw(page, SEVEN)
    settle(page)
    page.route(PREDICT, lambda route: route.fulfill(status=422, json={"detail": "No ink."}))
    draw(page, DOT)
    settle(page)
    expect_empty(page)


# Looks


@in_every_font
def test_pad_and_answer_fit_on_a_phone_together(open_page: OpenPage):
    page = open_page(viewport={"width": 360, "height": 640})
    draw(page, SEVEN)
    settle(page)
    expect(page.get_by_test_id("digit-label")).to_be_in_viewport(ratio=1)
    expect(page.get_by_test_id("digit-score")).to_be_in_viewport(ratio=1)
    expect(page.get_by_test_id("pad")).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(open_page: OpenPage, scheme: str):
    page = open_page(color_scheme=scheme)
    draw(page, SEVEN)
    settle(page)
    texts = page.evaluate(
        """() => [...document.querySelectorAll("body *")]
        .filter((element) => element.checkVisibility({visibilityProperty: true})
            && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
        .map((element) => {
            let ground = element;
            while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)")
                ground = ground.parentElement;
            const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
            return [element.innerText, numbers(getComputedStyle(element).color),
                numbers(getComputedStyle(ground).backgroundColor)];
        })"""
    )
    assert len(texts) > 20
    low = {text: contrast(ink, ground) for text, ink, ground in texts}
    assert {text: ratio for text, ratio in low.items() if ratio < 4.5} == {}


def contrast(first: list[float], second: list[float]) -> float:
    """The contrast ratio of two sRGB colours, 1..21, as WCAG 2 defines it."""

    def luminance(colour: list[float]) -> float:
        linear = [
            channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
            for channel in (value / 255 for value in colour[:3])
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_the_theme_is_followed(open_page: OpenPage):
    grounds = [
        open_page(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert grounds[0] != grounds[1]


# Quiet


def test_a_strict_content_security_policy_breaks_nothing(page: Page):
    logged: list[str] = []
    page.on("console", lambda message: logged.append(message.text))

    def with_policy(route: Route) -> None:
        response = route.fetch()
        policy = "default-src 'self'; img-src 'self' data:"
        route.fulfill(
            response=response, headers=response.headers | {"content-security-policy": policy}
        )

    page.route(re.compile(r"/$"), with_policy)
    page.reload()
    draw(page, SEVEN)
    settle(page)
    expect(page.get_by_test_id("digit-label")).to_have_text("7")
    assert logged == []


def test_without_javascript_the_page_says_what_it_needs(open_page: OpenPage):
    page = open_page(java_script_enabled=False)
    expect(page.locator("noscript p")).to_be_visible()


def test_the_page_shows_how_to_call_the_api_of_this_host(page: Page, server: str):
    expect(page.locator("pre")).to_have_text(f"curl -F file=@digit.png {server}/api/predict")


def test_all_addresses_stay_under_the_prefix_that_the_app_is_mounted_at(client: FlaskClient):
    html = client.get("/", environ_overrides={"SCRIPT_NAME": "/glimpse"}).text
    addresses = re.findall(r'(?:href|src|data-predict-url)="([^"#]+)"', html)
    assert len(addresses) > 5
    assert [address for address in addresses if not address.startswith("/glimpse/")] == []
    assert "http://localhost/glimpse/api/predict" in html

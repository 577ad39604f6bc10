"""Digits drawn with real pointer events are read as what they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from .conftest import OpenPage
from .drawing import draw, draw_with_finger, draw_with_pen, settle
from .strokes import HANDS, Glyph, placed

CORNERS = [(0.05, 0.05), (0.6, 0.05), (0.05, 0.6), (0.6, 0.6)]  # left and top of the glyph


def large(glyph: Glyph, digit: int) -> Glyph:
    return placed(glyph, 0.1, 0.1, 0.8)


def small(glyph: Glyph, digit: int) -> Glyph:
    return placed(glyph, 0.36, 0.36, 0.28)


def in_a_corner(glyph: Glyph, digit: int) -> Glyph:
    return placed(glyph, *CORNERS[digit % 4], 0.35)


@pytest.mark.parametrize("place", [large, small, in_a_corner])
@pytest.mark.parametrize("hand", HANDS)
def test_every_digit_of_every_hand_is_read(
    page: Page, hand: str, place: Callable[[Glyph, int], Glyph]
):
    read = {}
    for digit, glyph in HANDS[hand].items():
        draw(page, place(glyph, digit))
        settle(page)
        read[digit] = page.get_by_test_id("digit-label").inner_text()
        page.get_by_test_id("clear").click()
    assert read == {digit: str(digit) for digit in range(10)}


@pytest.mark.parametrize("draw_with", [draw_with_finger, draw_with_pen])
@pytest.mark.parametrize("digit", [2, 4, 7])
def test_finger_and_pen_draw_as_the_mouse_does(
    open_page: OpenPage, draw_with: Callable[[Page, Glyph], None], digit: int
):
    phone = open_page(has_touch=True, viewport={"width": 390, "height": 740}, device_scale_factor=3)
    draw_with(phone, large(HANDS["european"][digit], digit))
    settle(phone)
    assert phone.get_by_test_id("digit-label").inner_text() == str(digit)

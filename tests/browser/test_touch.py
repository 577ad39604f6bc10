"""On a touch screen every button, link and field is as large as a finger: 44 pixels a side."""

from __future__ import annotations

import pytest

from .conftest import OpenPage
from .scenes import SCENES

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
# What can be touched and is smaller. A label counts with its field, and a link or a face with the
# larger area that its ::after gives it.
SMALL = """() => {
    const root = document.querySelector("dialog:modal") ?? document.body;
    const all = root.querySelectorAll("a[href], button, select, summary, input, textarea");
    const shown = [...all].filter((each) => !each.disabled && !each.closest(".unseen, svg")
        && each.checkVisibility({ opacityProperty: true, visibilityProperty: true }));
    return shown.flatMap((each) => {
        const box = (each.closest("label") ?? each).getBoundingClientRect();
        const after = getComputedStyle(each, "::after");
        const area = after.position === "absolute" ? after : { width: 0, height: 0 };
        const sides = ["width", "height"].map((side) =>
            Math.max(box[side], parseFloat(area[side]) || 0));
        return Math.min(...sides) > 43.5 ? [] : [[each.outerHTML.slice(0, 80), ...sides]];
    });
}"""


@pytest.fixture(scope="module")
def server(shipped: str) -> str:
    """The models that the repository brings: their pages are full."""
    return shipped


@pytest.mark.parametrize("scene", SCENES)
def test_what_can_be_touched_is_large_enough_for_a_finger(open_page: OpenPage, scene: str):
    path, act = SCENES[scene]
    page = open_page(path, **PHONE)
    act(page)
    assert page.evaluate(SMALL) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390

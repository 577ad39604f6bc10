"""How the pages look and read: every scene on screens small and large, light and dark.

Pictures of all of them are left in `test-artifacts/looks`, for people to look at.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from .conftest import ROOT, OpenPage
from .fonts import FILES, SETS, in_every_font
from .scenes import SCENES

PICTURES = ROOT / "test-artifacts" / "looks"
LAYOUT = (Path(__file__).parent / "layout.js").read_text(encoding="utf-8")
SCREENS = {360: 740, 768: 1024, 1440: 900}
SCHEMES = ("light", "dark")
# 1440 pixels at a zoom of 200 %, and the width that WCAG's reflow asks for: 1280 at 400 %.
ZOOMED = {720: 450, 320: 256}
PATHS = sorted({path for path, _ in SCENES.values()})
FAILING = {"draw-error", "faces-none", "not-found", "offline"}  # Chromium logs a failed request
# Where a person's own doing, or a problem, makes room for something.
MOVING = {
    *("draw-number", "draw-error", "draw-keyboard", "faces-none"),
    "inside-digit",  # what a map is made by comes beneath its layer
    *("batch-digits", "batch-faces"),  # the table takes the place of the invitation to choose
    "docs-sent",  # the answer, as long as it is, comes beneath the call
}

# All rules but those of WCAG's level AAA; target-size is off unless it is asked for.
AXE = {
    "resultTypes": ["violations"],
    "runOnly": [
        *("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"),
        *("best-practice", "experimental"),
    ],
    "rules": {
        "target-size": {"enabled": True},
        "p-as-heading": {"enabled": False},  # it takes an answer in large letters for a heading
    },
}


@pytest.fixture(scope="module")
def server(shipped: str) -> str:
    """The models that the repository brings: their pages are full."""
    return shipped


def show(page: Page, width: int, height: int, scheme: str) -> None:
    """The same page on another screen."""
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme)


def enact(open_page: OpenPage, scene: str, **options: Any) -> Page:
    path, act = SCENES[scene]
    page = open_page(path, **options)
    act(page)
    return page


def violations(page: Page, width: int, scheme: str) -> list[dict[str, Any]]:
    """What axe-core finds wrong with the page on a screen."""
    show(page, width, SCREENS[width], scheme)
    found: list[dict[str, Any]] = Axe().run(page, options=AXE).response["violations"]
    return found


@pytest.mark.parametrize("scene", SCENES)
def test_axe_finds_nothing(open_page: OpenPage, scene: str):
    page = enact(open_page, scene)
    found = [
        (width, scheme, violation["help"], node["target"], node["failureSummary"])
        for width, scheme in product((360, 1440), SCHEMES)
        for violation in violations(page, width, scheme)
        for node in violation["nodes"]
    ]
    assert found == []


@in_every_font
@pytest.mark.skipif(SETS[0] not in FILES, reason="Chromium takes its fonts from this system")
def test_the_pages_are_shown_in_the_fonts_of_the_set(open_page: OpenPage, fonts: str):
    page = open_page("/")
    session = page.context.new_cdp_session(page)
    for domain in ("DOM", "CSS"):
        session.send(f"{domain}.enable")
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    used = {}
    for selector in ("h1", "button", "pre"):
        node = session.send("DOM.querySelector", {"nodeId": root, "selector": selector})
        found = session.send("CSS.getPlatformFontsForNode", node)["fonts"]
        used[selector] = [font["familyName"] for font in found]
    assert used == {"h1": [fonts], "button": [fonts], "pre": ["DejaVu Sans Mono"]}


@in_every_font
@pytest.mark.parametrize("scene", SCENES)
def test_nothing_is_cut_off_overlaps_or_is_too_small_to_touch(
    open_page: OpenPage, scene: str, fonts: str
):
    page = enact(open_page, scene)
    PICTURES.mkdir(parents=True, exist_ok=True)
    problems = {}
    first = fonts == SETS[0]
    for (width, height), scheme in product(SCREENS.items(), SCHEMES if first else ["light"]):
        show(page, width, height, scheme)
        problems[width, scheme] = page.evaluate(LAYOUT)
        if first:
            page.screenshot(path=PICTURES / f"{scene}-{width}-{scheme}.png", full_page=True)
    for width, height in ZOOMED.items():
        show(page, width, height, "light")
        problems[width, "light"] = page.evaluate(LAYOUT)
    assert {screen: found for screen, found in problems.items() if found} == {}


@pytest.mark.parametrize(
    ("selector", "style", "told"),
    [
        (".lead", "margin-block-start: -2em", "on each other"),
        ("h1", "inline-size: 3em; white-space: nowrap; overflow: hidden", "cut off"),
        ("h1", "inline-size: 3em; white-space: nowrap", "text out of its box"),
        ("h1", "margin-inline-start: -5em", "off the screen"),
        (".lead", "min-inline-size: 110vw", "the page scrolls sideways"),
        (".intro", "max-block-size: 3em", "beyond its parent"),
        (
            ".button",
            "align-self: start; min-block-size: 0; padding: 0; font-size: 12px",
            "too small a target",
        ),
    ],
)
def test_the_check_of_the_layout_sees(open_page: OpenPage, selector: str, style: str, told: str):
    page = open_page("/nowhere")
    page.locator(selector).first.evaluate("(e, style) => (e.style.cssText = style)", style)
    assert any(problem.startswith(told) for problem in page.evaluate(LAYOUT))


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scene", SCENES)
def test_a_page_is_quiet_and_still_and_stays_on_the_host(
    open_page: OpenPage, server: str, scene: str, width: int
):
    """Nothing is logged, nothing moves by itself and no request goes elsewhere."""
    said: list[str] = []
    asked: list[str] = []

    def moved() -> list[object]:
        """What moved by itself, from where to where, and when in milliseconds."""
        page = open_page("about:blank", viewport={"width": width, "height": SCREENS[width]})
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.add_init_script(
            """window.shifts = [];
            window.watcher = new PerformanceObserver((list) => shifts.push(...list.getEntries()));
            watcher.observe({ type: "layout-shift", buffered: true });"""
        )
        path, act = SCENES[scene]
        page.goto(path)
        act(page)
        found: list[object] = page.evaluate(
            """() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(() => {
                const all = [...shifts, ...watcher.takeRecords()];
                resolve(all.flatMap(({ sources, startTime }) => sources.map((source) =>
                    [source.node?.outerHTML, source.previousRect, source.currentRect, startTime])));
            })))"""
        )
        return found

    # Chromium reports a shift in about one of thirty loads of a whole run that no later load
    # of the same page shows; one of the page's own comes again.
    first = moved()
    if scene not in MOVING:
        assert not first or not (second := moved()), (first, second)
    if scene not in FAILING:
        assert said == []  # the content security policy would speak here too
    assert asked
    assert [url for url in asked if not url.startswith((server, "blob:", "data:"))] == []


@pytest.mark.parametrize("path", PATHS)
def test_nothing_moves_where_motion_is_unwanted(open_page: OpenPage, path: str):
    page = open_page(path, reduced_motion="reduce")
    moving = page.evaluate(
        """() => [...document.querySelectorAll("*")].flatMap((element) =>
            [null, "::before", "::after"].map((part) => getComputedStyle(element, part))
            .filter((style) => style.transition !== "none" && style.transitionDuration !== "0s"
                || style.animationName !== "none" || style.scrollBehavior === "smooth")
            .map(() => element.outerHTML))"""
    )
    assert moving == []

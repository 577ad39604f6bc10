"""Drawing on the page's pad with a mouse, a finger or a pen, as the browser sees them."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import CDPSession, Page

from .strokes import Glyph, Point, placed

DOT: Glyph = [[(0.5, 0.5)]]
DOWNSTROKE: Glyph = [[(0.5, step / 10) for step in range(2, 9)]]
BAR: Glyph = [[(step / 10, 0.3) for step in range(2, 9)]]


def on_screen(page: Page, glyph: Glyph) -> Glyph:
    """A glyph in units of the pad, in pixels of the window."""
    box = page.get_by_test_id("pad").bounding_box()
    assert box is not None
    assert box["width"] == box["height"]
    return placed(glyph, box["x"], box["y"], box["width"])


def draw(page: Page, glyph: Glyph) -> None:
    """Draws with the mouse."""
    for stroke in on_screen(page, glyph):
        page.mouse.move(*stroke[0])
        page.mouse.down()
        for point in stroke[1:]:
            page.mouse.move(*point)
        page.mouse.up()


def draw_with_finger(page: Page, glyph: Glyph) -> None:
    """Draws by touch."""
    session = page.context.new_cdp_session(page)
    for stroke in on_screen(page, glyph):
        touch(session, "touchStart", stroke[0])
        for point in stroke[1:]:
            touch(session, "touchMove", point)
        touch(session, "touchEnd")
    session.detach()


def touch(session: CDPSession, kind: str, *points: Point) -> None:
    """One touch event with a finger on each of the points."""
    fingers = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(points)]
    session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})


def draw_with_pen(page: Page, glyph: Glyph) -> None:
    """Draws with a stylus."""
    session = page.context.new_cdp_session(page)

    def send(kind: str, point: Point, buttons: int) -> None:
        event: dict[str, Any] = {"type": kind, "x": point[0], "y": point[1], "buttons": buttons}
        event |= {"pointerType": "pen", "button": "left", "clickCount": 1, "force": 0.5}
        session.send("Input.dispatchMouseEvent", event)

    for stroke in on_screen(page, glyph):
        send("mousePressed", stroke[0], 1)
        for point in stroke[1:]:
            send("mouseMoved", point, 1)
        send("mouseReleased", stroke[-1], 0)
    session.detach()


def settle(page: Page) -> None:
    """Waits until the answer belongs to all that was drawn."""
    page.wait_for_selector("#answer[aria-busy=false]")


def has_ink(page: Page, x: float, y: float) -> bool:
    """Whether the pad shows ink at a point, in units of the pad, once the frame is painted."""
    script = """([x, y]) => new Promise((resolve) => requestAnimationFrame(() => setTimeout(() => {
        const pad = document.querySelector("[data-testid=pad]");
        const pixel = [Math.round(x * pad.width), Math.round(y * pad.height)];
        resolve(pad.getContext("2d").getImageData(...pixel, 1, 1).data[3] > 127);
    })))"""
    return bool(page.evaluate(script, [x, y]))

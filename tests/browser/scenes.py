"""The pages as people see them: each scene opens one and does there what shows something."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect
from samples import encode, seven

from .drawing import draw, settle
from .strokes import HANDS, placed

PHOTOS = Path(__file__).resolve().parents[1] / "photos"
SEVEN = placed(HANDS["plain"][7], 0.1, 0.1, 0.8)
NUMBER = [
    stroke
    for place, digit in enumerate([2, 0, 2, 6])
    for stroke in placed(HANDS["plain"][digit], 0.04 + 0.24 * place, 0.35, 0.2)
]
SLOW = 20_000  # ms in which an answer comes on a busy machine
WHY = re.compile("Evidence for .*, in red")


def nothing(page: Page) -> None:
    """The page as it opens."""


def draw_digit(page: Page) -> None:
    draw(page, SEVEN)
    settle(page)
    expect(page.get_by_test_id("digit-label")).to_have_text("7", timeout=SLOW)


def draw_number(page: Page) -> None:
    draw(page, NUMBER)
    settle(page)
    expect(page.get_by_test_id("digit-label")).to_have_text("2026", timeout=SLOW)


def draw_and_ask_why(page: Page) -> None:
    draw_digit(page)
    page.get_by_test_id("why").check()
    expect(page.get_by_alt_text(WHY)).to_be_visible(timeout=SLOW)


def draw_by_keyboard(page: Page) -> None:
    page.get_by_test_id("pad").press("Space")
    page.get_by_test_id("pad").press("ArrowDown")
    settle(page)


def draw_in_vain(page: Page) -> None:
    detail = "The models are still loading. Try again in a moment."
    page.route(
        "**/api/predict*",
        lambda route: route.fulfill(
            status=503, content_type="application/problem+json", json={"detail": detail}
        ),
    )
    draw(page, SEVEN)
    expect(page.get_by_test_id("error")).to_have_text(detail, timeout=SLOW)


def choose(page: Page, name: str) -> None:
    """Chooses a photo on the page for faces."""
    page.get_by_test_id("photo-input").set_input_files(PHOTOS / f"{name}.jpg")


def show_faces(page: Page) -> None:
    choose(page, "family")
    expect(page.get_by_test_id("face-label")).to_have_count(4, timeout=SLOW)


def show_face_and_ask_why(page: Page) -> None:
    choose(page, "astronaut")
    expect(page.get_by_test_id("face-label")).to_have_count(1, timeout=SLOW)
    page.get_by_test_id("why").check()
    expect(page.get_by_alt_text(WHY)).to_be_visible(timeout=SLOW)


def show_face_at_edge(page: Page) -> None:
    """A face so near to the photo's edge that its label has no room above its middle."""
    buffer = io.BytesIO()
    with Image.open(PHOTOS / "astronaut.jpg") as photo:
        width, height = photo.size
        photo.crop((round(0.32 * width), 0, width, height)).save(buffer, "JPEG")
    file = {"name": "edge.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}
    page.get_by_test_id("photo-input").set_input_files(file)
    expect(page.get_by_test_id("face-label")).to_have_count(1, timeout=SLOW)


def show_no_face(page: Page) -> None:
    choose(page, "coffee")
    expect(page.get_by_test_id("error")).to_be_visible(timeout=SLOW)


def open_camera(page: Page) -> None:
    page.evaluate(
        """() => {
            const canvas = document.createElement("canvas");
            canvas.getContext("2d").fillRect(0, 0, 300, 150);
            navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(10);
        }"""
    )
    page.get_by_role("button", name="Use the camera").click()
    expect(page.get_by_role("button", name="Take it")).to_be_visible()


def look_inside(page: Page) -> None:
    draw(page, SEVEN)
    expect(page.get_by_test_id("digit-label")).to_contain_text("7", timeout=SLOW)
    page.locator(".maps").first.click()
    expect(page.get_by_test_id("told").first).to_be_visible()


def fill_table(page: Page) -> None:
    seven_png = encode(seven())
    files = [("seven.png", seven_png), ("a-name-that-is-rather-long-" * 3 + ".png", seven_png)]
    files.append(("broken.png", b"no picture"))
    page.get_by_test_id("pictures-input").set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files]
    )
    expect(page.get_by_test_id("count")).to_contain_text("3 of 3", timeout=SLOW)


def fill_table_with_faces(page: Page) -> None:
    page.get_by_test_id("model").select_option("emotions")
    page.get_by_test_id("pictures-input").set_input_files(
        [PHOTOS / f"{name}.jpg" for name in ("family", "astronaut")]
    )
    expect(page.get_by_test_id("count")).to_contain_text("2 of 2", timeout=SLOW)


def send_sample(page: Page) -> None:
    attempt = page.get_by_test_id("try-predict")
    attempt.get_by_role("button", name="Send").click()
    expect(attempt.get_by_test_id("answered")).to_contain_text('"label": "7"', timeout=SLOW)


def wait_in_vain(page: Page) -> None:
    page.route("**/healthz", lambda route: route.fulfill(status=503))


def unfold(page: Page) -> None:
    """Opens all that can be opened."""
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")


# A new page needs a line here for each state that it can be in.
SCENES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "draw": ("/", nothing),
    "draw-digit": ("/", draw_digit),
    "draw-number": ("/", draw_number),
    "draw-why": ("/", draw_and_ask_why),
    "draw-keyboard": ("/", draw_by_keyboard),
    "draw-error": ("/", draw_in_vain),
    "faces": ("/faces", nothing),
    "faces-found": ("/faces", show_faces),
    "faces-why": ("/faces", show_face_and_ask_why),
    "faces-edge": ("/faces", show_face_at_edge),
    "faces-none": ("/faces", show_no_face),
    "faces-camera": ("/faces", open_camera),
    "inside": ("/inside", nothing),
    "inside-digit": ("/inside", look_inside),
    "batch": ("/batch", nothing),
    "batch-digits": ("/batch", fill_table),
    "batch-faces": ("/batch", fill_table_with_faces),
    "docs": ("/docs", nothing),
    "docs-sent": ("/docs", send_sample),
    "docs-unfolded": ("/docs", unfold),
    "models": ("/models", nothing),
    "model-digits": ("/models/digits", nothing),
    "model-digits-unfolded": ("/models/digits", unfold),
    "model-emotions-unfolded": ("/models/emotions", unfold),
    "compare-digits": ("/models/compare?a=digits-baseline&b=digits", nothing),
    "compare-emotions": ("/models/compare?a=emotions-balanced&b=emotions", nothing),
    "compare-unlike": ("/models/compare?a=digits&b=emotions", nothing),
    "not-found": ("/nowhere", nothing),
    "offline": ("/offline", wait_in_vain),
}

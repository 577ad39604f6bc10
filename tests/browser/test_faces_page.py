"""The page for faces: photos chosen, dropped and pasted, their boxes, scores and problems."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .conftest import OpenPage
from .scenes import PHOTOS, SLOW, choose


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    return open_page("/faces")


def hand_over(page: Page, name: str, event: str) -> None:
    """Drops or pastes a photo, as the browser would."""
    content = base64.b64encode((PHOTOS / f"{name}.jpg").read_bytes()).decode()
    page.evaluate(
        """([content, event]) => {
            const data = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (sign) => sign.charCodeAt(0));
            data.items.add(new File([bytes], "photo.jpg", { type: "image/jpeg" }));
            const options = { bubbles: true, cancelable: true };
            const made = event === "drop"
                ? new DragEvent("drop", { ...options, dataTransfer: data })
                : new ClipboardEvent("paste", { ...options, clipboardData: data });
            document.querySelector("#drop").dispatchEvent(made);
        }""",
        [content, event],
    )


def labels(page: Page, count: int) -> list[str]:
    faces = page.get_by_test_id("face-label")
    expect(faces).to_have_count(count, timeout=SLOW)
    return faces.all_inner_texts()


def test_a_chosen_photo_gets_a_box_and_a_label_for_each_face(page: Page):
    choose(page, "family")
    assert set(labels(page, 4)) <= {"dark", "light"}
    photo = page.locator("#photo").bounding_box()
    assert photo is not None
    for face in page.locator(".face").all():
        box = face.bounding_box()
        assert box is not None
        assert photo["x"] <= box["x"] and box["x"] + box["width"] <= photo["x"] + photo["width"]
        assert photo["y"] <= box["y"] and box["y"] + box["height"] <= photo["y"] + photo["height"]


def test_the_selected_face_has_its_scores_beside_the_photo(page: Page):
    choose(page, "family")
    labels(page, 4)
    expect(page.locator("#which")).to_contain_text("Face 1 of 4")
    seen = page.locator("#seen").get_attribute("src")
    page.locator(".face").nth(2).click()
    expect(page.locator("#which")).to_contain_text("Face 3 of 4")
    expect(page.locator(".face").nth(2)).to_have_attribute("aria-pressed", "true")
    assert page.locator("#seen").get_attribute("src") != seen
    label = page.locator("#label").inner_text()
    assert label == page.get_by_test_id("face-label").nth(2).text_content()
    best = page.locator("tr.is-best")
    expect(best).to_have_count(1)
    expect(best).to_have_attribute("data-label", label)


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_photo_can_be_dropped_and_pasted(page: Page, event: str):
    hand_over(page, "astronaut", event)
    labels(page, 1)


def test_a_second_photo_replaces_the_first(page: Page):
    choose(page, "family")
    labels(page, 4)
    choose(page, "astronaut")
    labels(page, 1)
    expect(page.locator("#which")).to_be_hidden()


def test_a_photo_without_a_face_is_told_so_and_forgotten_by_the_next(page: Page):
    choose(page, "coffee")
    expect(page.get_by_test_id("error")).to_contain_text("No face was found", timeout=SLOW)
    choose(page, "astronaut")
    labels(page, 1)
    expect(page.get_by_test_id("error")).to_be_hidden()


def test_a_file_that_is_no_photo_is_told_so(page: Page, tmp_path: Path):
    file = tmp_path / "photo.png"
    file.write_text("not a picture")
    page.get_by_test_id("photo-input").set_input_files(file)
    expect(page.get_by_test_id("error")).to_contain_text("not an image", timeout=SLOW)
    expect(page.locator(".photo")).to_be_hidden()


def test_a_large_photo_is_sent_smaller(page: Page):
    sizes: list[int] = []

    def note(route):
        sizes.append(len(route.request.post_data_buffer or b""))
        route.continue_()

    page.route("**/api/predict*", note)
    content = (PHOTOS / "astronaut.jpg").read_bytes()
    padded = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": content + bytes(5 * 1024 * 1024)}
    page.get_by_test_id("photo-input").set_input_files(padded)
    labels(page, 1)
    assert sizes[0] < 1_000_000


def test_without_a_network_the_page_says_what_to_do(page: Page):
    page.route("**/api/predict*", lambda route: route.abort())
    choose(page, "astronaut")
    expect(page.get_by_test_id("error")).to_contain_text("cannot be reached", timeout=SLOW)


def test_the_page_works_with_the_keyboard_alone(page: Page):
    # Begun when the key is pressed, Chromium's interception may come too late.
    page.on("filechooser", lambda chooser: None)
    page.keyboard.press("Tab")
    for _ in range(8):
        if page.evaluate("document.activeElement.id") == "photo-input":
            break
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "photo-input"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(PHOTOS / "family.jpg")
    labels(page, 4)
    page.locator(".face").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#which")).to_contain_text("Face 2 of 4")


def test_the_answer_is_read_out(page: Page):
    choose(page, "family")
    expect(page.locator("#live")).to_contain_text("4 faces, the largest", timeout=SLOW)


def test_the_page_says_what_happens_to_the_photo_and_what_cannot_be_known(page: Page):
    expect(page.locator("#privacy")).to_contain_text("Nothing is stored")
    expect(page.locator(".caution")).to_contain_text("An expression is not a feeling")


def test_pages_lead_to_each_other(page: Page):
    page.get_by_role("link", name="Digits").click()
    expect(page.get_by_test_id("pad")).to_be_visible()
    page.get_by_role("link", name="Faces").click()
    expect(page.get_by_role("link", name="Faces")).to_have_attribute("aria-current", "page")


def test_the_camera_takes_a_photo(open_page: OpenPage):
    page = open_page("/faces")
    page.evaluate(
        """() => {
            navigator.mediaDevices.getUserMedia = async () => {
                const canvas = document.createElement("canvas");
                canvas.getContext("2d").fillRect(0, 0, 300, 150);
                return canvas.captureStream(10);
            };
        }"""
    )
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#camera")).to_be_visible()
    page.wait_for_function("document.querySelector('#viewfinder').videoWidth > 0")
    page.get_by_role("button", name="Take it").click()
    expect(page.locator("#camera")).to_be_hidden()
    expect(page.get_by_test_id("error")).to_contain_text("No face", timeout=SLOW)


def test_a_camera_that_is_refused_is_told(page: Page):
    page.evaluate(
        """() => {
            const refuse = () => Promise.reject(new Error("NotAllowed"));
            navigator.mediaDevices.getUserMedia = refuse;
        }"""
    )
    page.get_by_role("button", name="Use the camera").click()
    expect(page.get_by_test_id("error")).to_contain_text("Allow it")


def test_why_shows_what_speaks_for_the_answer_and_keeps_the_face(page: Page):
    choose(page, "family")
    labels(page, 4)
    page.locator(".face").nth(2).click()
    page.get_by_label("Show why").check()
    explained = page.get_by_alt_text(re.compile("Evidence for .*, in red"))
    expect(explained).to_be_visible(timeout=SLOW)
    expect(page.locator(".face").nth(2)).to_have_attribute("aria-pressed", "true")
    of_the_third = explained.get_attribute("src")
    page.locator(".face").nth(1).click()
    expect(explained).not_to_have_attribute("src", of_the_third)
    page.get_by_label("Show why").uncheck()
    expect(page.get_by_alt_text("as the network saw it")).to_be_visible()


def test_why_sends_the_crop_alone(page: Page):
    choose(page, "family")
    labels(page, 4)
    with page.expect_request("**/api/predict*") as asked:
        page.get_by_label("Show why").check()
    answer = asked.value.response().json()["results"][0]
    assert (answer["width"], answer["height"]) == (48, 48)
    assert answer["label"] == page.get_by_test_id("face-label").first.text_content()
    shown = page.locator(".face").first.text_content()
    assert f"{100 * answer['score']:.0f} %" in shown

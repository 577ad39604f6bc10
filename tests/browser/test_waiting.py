"""What the pages show while they wait, what they keep, and what they offer to try."""

from __future__ import annotations

import io
import os
import re
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image
from playwright.sync_api import Page, Request, Route, expect

from .conftest import OpenPage
from .drawing import DOWNSTROKE, draw, has_ink, settle
from .scenes import PHOTOS, SEVEN, SLOW, choose

PREDICT = "**/api/predict*"
NONE = {"label": "4", "score": 0.998, "verdict": "none"}
NONE["predictions"] = [
    {"label": str(digit), "score": 0.998 if digit == 4 else 0} for digit in range(10)
]


def answer_none(page: Page) -> None:
    seen = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
    subject = {**NONE, "seen": seen, "box": {"x": 0, "y": 0, "width": 9, "height": 9}}
    result = {**subject, "subjects": [subject], "width": 9, "height": 9}
    page.route(PREDICT, lambda route: route.fulfill(json={"results": [result]}))


def test_what_is_no_digit_is_told_so_with_the_closest(page: Page):
    answer_none(page)
    draw(page, SEVEN)
    settle(page)
    told = "That is not a digit. Closest: 4, 99.8 %"
    expect(page.get_by_test_id("sureness")).to_have_text(told)
    expect(page.get_by_test_id("digit-score")).to_be_hidden()
    expect(page.locator("#live")).to_have_text(f"4: {told}")


def test_a_sample_is_drawn_and_read(page: Page):
    page.get_by_role("button", name="Draw 42").press("Enter")
    settle(page)
    expect(page.get_by_test_id("digit-label")).to_have_text("42")
    expect(page.get_by_test_id("pad")).to_be_focused()
    page.get_by_test_id("undo").click()
    expect(page.get_by_role("button", name="Draw 42")).to_be_visible()


def test_a_sample_photo_leaves_the_keyboard_at_the_choice_of_another(faces: Page):
    faces.locator("[data-sample]").first.press("Enter")
    expect(faces.locator(".face")).to_have_count(4, timeout=SLOW)
    expect(faces.get_by_test_id("photo-input")).to_be_focused()


def test_the_drawing_outlives_a_reload(page: Page):
    draw(page, DOWNSTROKE)
    page.reload()
    settle(page)
    assert has_ink(page, 0.5, 0.5)
    expect(page.get_by_test_id("digit-label")).to_have_text("1")


def test_a_drawing_is_read_again_by_itself_when_the_line_is_back(page: Page):
    page.context.set_offline(True)
    draw(page, DOWNSTROKE)
    expect(page.get_by_test_id("error")).to_contain_text("tries again by itself")
    page.context.set_offline(False)
    expect(page.get_by_test_id("digit-label")).to_have_text("1")
    expect(page.get_by_test_id("error")).to_be_hidden()


def test_a_link_holds_the_drawing_in_the_part_that_no_server_gets(open_page: OpenPage, page: Page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    draw(page, SEVEN)
    settle(page)
    page.get_by_test_id("link").click()
    expect(page.get_by_test_id("link")).to_have_text("Copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(r"http://[^/]+/#d=[\w~-]{12,200}", link)
    asked: list[str] = []
    other = open_page("about:blank")
    other.on("request", lambda request: asked.append(request.url))
    other.goto(link)
    settle(other)
    expect(other.get_by_test_id("digit-label")).to_have_text("7")
    assert not any("#" in url or link.partition("#")[2] in url for url in asked[1:])


@pytest.mark.parametrize("text", ["nonsense!", "AAA", "~~~", "A" * 30_000])
def test_a_link_that_holds_no_drawing_is_an_empty_pad(open_page: OpenPage, text: str):
    page = open_page(f"/#d={text}")
    expect(page.get_by_text("Draw any digit")).to_be_visible()


def test_a_picture_of_drawing_and_answer_can_be_saved(page: Page, tmp_path):
    draw(page, SEVEN)
    settle(page)
    with page.expect_download() as saved:
        page.get_by_test_id("poster").click()
    saved.value.save_as(tmp_path / "poster.png")
    with Image.open(tmp_path / "poster.png") as poster:
        assert poster.size == (1200, 630)
        colours = {colour for _, colour in poster.convert("RGB").getcolors(1 << 20)}
    assert (27, 29, 27) in colours  # the drawing's ink
    assert (11, 99, 85) in colours  # the answer


# Photos


@pytest.fixture
def faces(open_page: OpenPage) -> Page:
    return open_page("/faces")


def test_an_upload_can_be_cancelled_and_another_photo_chosen(faces: Page):
    faces.route(PREDICT, lambda _: None)  # no answer comes
    choose(faces, "family")
    expect(faces.locator("#doing-text")).to_have_text(re.compile("Looking for faces|Sending"))
    expect(faces.get_by_role("progressbar")).to_be_visible()
    faces.get_by_test_id("stop").click()
    expect(faces.get_by_text("Choose a photo", exact=True)).to_be_visible()
    expect(faces.locator(".photo")).to_be_hidden()
    faces.unroute(PREDICT)
    choose(faces, "astronaut")
    expect(faces.get_by_test_id("face-label")).to_have_count(1, timeout=SLOW)


def test_a_large_transparent_picture_is_sent_on_white(faces: Page):
    picture = Image.frombytes("RGBA", (320, 320), os.urandom(4 * 320 * 320))
    picture.putalpha(0)
    noise = io.BytesIO()
    picture.save(noise, "PNG")
    assert len(noise.getvalue()) > 300 * 1024
    sent: list[bytes] = []

    def note(route: Route) -> None:
        sent.append(route.request.post_data_buffer or b"")
        route.abort()

    faces.route(PREDICT, note)
    file = {"name": "clear.png", "mimeType": "image/png", "buffer": noise.getvalue()}
    faces.get_by_test_id("photo-input").set_input_files(file)
    expect(faces.get_by_test_id("error")).to_be_visible(timeout=SLOW)
    assert Image.open(io.BytesIO(sent[0])).convert("L").getextrema() == (255, 255)


def test_a_group_has_a_headline_and_each_face_a_name_with_its_place(faces: Page):
    choose(faces, "family")
    expect(faces.get_by_test_id("headline")).to_have_text(
        re.compile(r"^4 faces: [1-4] "), timeout=SLOW
    )
    names = [face.get_attribute("aria-label") for face in faces.locator(".face").all()]
    assert sorted(re.search(r"number (\d) from the left", name)[1] for name in names) == list(
        "1234"
    )
    faces.locator(".strip button").nth(2).click()
    expect(faces.locator(".face").nth(2)).to_have_attribute("aria-pressed", "true")
    expect(faces.locator("#live")).to_have_text(names[2])


def test_labels_of_a_crowd_lie_neither_on_each_other_nor_on_faces(open_page: OpenPage):
    with Image.open(PHOTOS / "family.jpg") as photo:
        crowd = Image.new("RGB", (3 * photo.width, 2 * photo.height))
        for place in range(6):
            crowd.paste(photo, (place % 3 * photo.width, place // 3 * photo.height))
    file = io.BytesIO()
    crowd.save(file, "JPEG")
    page = open_page("/faces", viewport={"width": 360, "height": 740})
    page.get_by_test_id("photo-input").set_input_files(
        {"name": "crowd.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()}
    )
    expect(page.get_by_test_id("face-label").nth(11)).to_be_attached(timeout=SLOW)
    overlaps = """() => {
        const boxes = (selector) => [...document.querySelectorAll(selector)]
            .filter((each) => getComputedStyle(each).opacity === "1")
            .map((each) => [each, each.getBoundingClientRect()]);
        const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
            && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
        const tags = boxes(".tag");
        const others = [...tags, ...boxes(".face")];
        return [tags.length, tags.flatMap(([tag, a]) => others.filter(([other, b]) =>
            other !== tag && other !== tag.parentElement && over(a, b))).length];
    }"""
    shown, hidden = page.evaluate(overlaps)
    assert shown > 0
    assert hidden == 0
    before = page.locator("#zoomed").evaluate("(each) => each.offsetWidth")
    page.locator(".face").first.focus()
    page.keyboard.press("+")
    assert page.locator("#zoomed").evaluate("(each) => each.offsetWidth") > 1.4 * before


def test_a_sample_photo_is_read(faces: Page):
    faces.get_by_role("button", name="A family of four").click()
    expect(faces.get_by_test_id("face-label")).to_have_count(4, timeout=SLOW)


# All


def test_the_first_screen_of_a_phone_shows_the_answer_and_the_first_bars(open_page: OpenPage):
    page = open_page(viewport={"width": 360, "height": 740})
    draw(page, SEVEN)
    settle(page)
    for digit in range(3):
        expect(page.get_by_test_id(f"bar-{digit}")).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("path", ["/", "/faces", "/batch", "/models"])
def test_the_first_tab_skips_to_the_content(open_page: OpenPage, path: str):
    page = open_page(path)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.locator(".paper.is-empty").count() == (path == "/")


@pytest.mark.parametrize("path", ["/", "/faces", "/batch", "/models"])
def test_a_page_read_from_right_to_left_fits_and_one_in_print_has_no_navigation(
    open_page: OpenPage, path: str
):
    page = open_page(path, viewport={"width": 360, "height": 740})
    page.evaluate("document.documentElement.dir = 'rtl'")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.emulate_media(media="print")
    expect(page.get_by_role("navigation").first).to_be_hidden()


FAKE_CAMERA = """(photo) => {
    navigator.mediaDevices.getUserMedia = async () => {
        const image = new Image();
        image.src = photo;
        await image.decode();
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        const pen = canvas.getContext("2d");
        setInterval(() => pen.drawImage(image, 0, 0), 50);
        return canvas.captureStream(20);
    };
}"""


def test_the_mirror_names_the_faces_before_the_camera_one_picture_after_another(faces: Page):
    under_way = most = answered = 0

    def begin(request: Request) -> None:
        nonlocal under_way, most
        under_way += "/api/predict" in request.url
        most = max(most, under_way)

    def end(request: Request) -> None:
        nonlocal under_way, answered
        under_way -= "/api/predict" in request.url
        answered += "/api/predict" in request.url

    faces.on("request", begin)
    faces.on("requestfinished", end)
    faces.on("requestfailed", end)
    photo = faces.locator("[data-sample]").first.get_attribute("data-sample")
    faces.evaluate(FAKE_CAMERA, photo)
    faces.get_by_role("button", name="Use the camera").click()
    faces.get_by_test_id("mirror").click()
    expect(faces.locator(".live-face")).to_have_count(4, timeout=SLOW)
    expect(faces.get_by_test_id("mirror-told")).to_contain_text("%")
    expect(faces.get_by_text("An expression is not a feeling: it may")).to_be_visible()
    faces.wait_for_timeout(500)
    assert most == 1
    faces.get_by_test_id("mirror").click()
    expect(faces.locator(".live-face")).to_have_count(0)
    faces.wait_for_timeout(200)
    before = answered
    faces.wait_for_timeout(500)
    assert answered == before


def test_another_model_is_asked_beside_the_first(open_page: OpenPage, shipped: str):
    page = open_page(f"{shipped}/?model=digits-baseline")
    draw(page, SEVEN)
    page.get_by_test_id("rival").select_option("digits")
    expect(page.get_by_test_id("rival-answer")).to_have_text(
        re.compile(r"^7, \d+\.\d %$"), timeout=SLOW
    )


class InPieces(BaseHTTPRequestHandler):
    """Passes requests on to `app`; a page comes in two pieces, with a pause between them."""

    app = ""
    cut = b'<figure class="seen">'

    def do_GET(self) -> None:
        request = urllib.request.Request(self.app + self.path, headers={"Host": "127.0.0.1"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
            self.send_response(200)
            self.send_header("Content-Type", answer.headers["Content-Type"])
        self.end_headers()
        first, cut, rest = body.partition(self.cut)
        self.wfile.write(first)
        if cut:
            time.sleep(1.5)
        self.wfile.write(cut + rest)

    def log_message(self, *_: object) -> None:
        """Keeps the tests' output clean."""


def test_a_page_that_comes_in_pieces_does_not_move(open_page: OpenPage, server: str):
    handler = type("Handler", (InPieces,), {"app": server})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as pieces:
        threading.Thread(target=pieces.serve_forever, daemon=True).start()
        page = open_page("about:blank")
        page.add_init_script(
            """window.shifts = [];
            new PerformanceObserver((list) => shifts.push(...list.getEntries()))
                .observe({ type: "layout-shift", buffered: true });"""
        )
        page.goto(f"http://127.0.0.1:{pieces.server_port}/")
        expect(page.get_by_role("button", name="Draw 42")).to_be_visible()
        page.wait_for_timeout(200)
        moved = page.evaluate("shifts.flatMap((e) => e.sources.map((s) => s.node?.outerHTML))")
        pieces.shutdown()
    assert moved == []

"""The page for review: the owner signs in, and decides about reports by mouse and keyboard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageDraw, ImageOps
from playwright.sync_api import Locator, Page, expect
from samples import encode

from reports import STATUSES, Database, Sent, open_database

from .conftest import ROOT, OpenPage, serving
from .scenes import PHOTOS
from .strokes import HANDS, placed
from .test_looks import AXE, LAYOUT, SCHEMES, SCREENS, show
from .test_touch import PHONE, SMALL

KEY = "the-owners-key"
HTML = "<img src=x onerror=alert(1)>.jpg"


@dataclass
class Place:
    """A server with the page for review, and its database of reports."""

    url: str
    database: Database
    session: Any = None  # of Chromium: sign-ins are counted, so one is for all tests


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    url = f"sqlite:///{tmp_path_factory.mktemp('reports') / 'reports.db'}"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    store = tmp_path_factory.mktemp("store")  # without the model of the faces, which is gone
    (store / "digits").symlink_to(ROOT / "model_store" / "digits")
    settings = {"GLIMPSE_REPORTS": url, "GLIMPSE_REVIEW_KEYS": digest, "GLIMPSE_ENGINE": "onnx"}
    with serving(tmp_path_factory, store, **settings) as address:
        yield Place(address, open_database(url))


@pytest.fixture(scope="module")
def server(place: Place) -> str:
    return place.url


def written(digit: int, hand: str = "plain", shift: int = 0) -> bytes:
    """A PNG of 28×28 pixels, as the network sees a digit."""
    picture = Image.new("L", (280, 280))
    pen = ImageDraw.Draw(picture)
    for stroke in placed(HANDS[hand][digit], 50 + shift, 45, 190):
        pen.line(stroke, fill=255, width=24, joint="curve")
    return encode(picture.resize((28, 28), Image.Resampling.BOX))


def face() -> bytes:
    with Image.open(PHOTOS / "astronaut.jpg") as photo:
        wide, high = photo.size
        found = photo.crop((wide * 2 // 5, high // 12, wide * 3 // 5, high // 3))
        return encode(ImageOps.fit(found.convert("L"), (96, 96)))


WRONG = Sent(
    answer="",
    kind="report",
    model="digits",
    version="2026.01.01-abcdef0",
    task="digit",
    predicted="1",
    score=0.61,
    verdict="sure",
    entropy=0.5,
    said="7",
    picture=written(7),
)
REPORTS = {
    "seven": WRONG,
    "other": replace(WRONG, picture=written(7, "european")),
    "copy": replace(WRONG, picture=written(7, "european", shift=1)),
    "two": replace(WRONG, predicted="3", said="2", picture=written(2)),
    "none": replace(WRONG, predicted="4", said=None, picture=written(4, "slanted")),
    "clear": replace(WRONG, kind="unsure", said=None, predicted="9", picture=written(9)),
    "unclear": replace(
        WRONG, kind="unsure", said=None, predicted="6", entropy=1.9, picture=written(6, "slanted")
    ),
    "face": replace(
        WRONG,
        model="emotions",
        task="face",
        predicted="neutral",
        said="happy",
        picture=face(),
        whole=(PHOTOS / "astronaut.jpg").read_bytes(),
        whole_name=HTML,
    ),
}


@pytest.fixture
def ids(place: Place) -> dict[str, int]:
    """The numbers of the reports, which are all new."""
    database = place.database
    for status in STATUSES:
        database.delete([each.id for each in database.page(status).reports])
    return {
        name: database.add(replace(sent, answer=name), "a visitor").id
        for name, sent in REPORTS.items()
    }


@pytest.fixture
def open_review(open_page: OpenPage, place: Place, ids: dict[str, int]) -> OpenPage:
    """Opens a page of the owner, who is signed in."""

    def open_(path: str = "/review", **options: Any) -> Page:
        if place.session is None:
            page = open_page("/review")
            sign_in(page, KEY)
            place.session = page.context.storage_state()
        page = open_page(path, storage_state=place.session, **options)
        ready(page)
        return page

    return open_


@pytest.fixture
def page(open_review: OpenPage) -> Page:
    """The page on a desktop screen."""
    return open_review()


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("Review key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def ready(page: Page) -> None:
    """Waits for the page's script."""
    expect(page.get_by_test_id("chosen")).not_to_be_empty()


def box(page: Page, number: int) -> Locator:
    """The checkbox of the picture that shows a report."""
    return page.locator(f"[name=ids][value='{number}'], [name=ids][value^='{number},']")


def done(page: Page, text: str) -> None:
    """Waits until the page says that the server has done it."""
    expect(page.get_by_test_id("live")).to_have_text(text)


def found(place: Place, *numbers: int) -> list[tuple[str, str | None]]:
    """Status and label of reports, in the database; fewer where some are deleted."""
    each = {report.id: report for report in place.database.reports(numbers)}
    return [(each[number].status, each[number].label) for number in numbers if number in each]


def axe_finds_nothing(page: Page) -> None:
    for width, scheme in zip((360, 1440), SCHEMES, strict=True):
        show(page, width, SCREENS[width], scheme)
        wrong = Axe().run(page, options=AXE).response["violations"]
        assert [(each["help"], each["nodes"][0]["html"]) for each in wrong] == []


def lies_right(page: Page) -> None:
    """On small and large screens. The bar lies below the grid meanwhile: it stays on the screen,
    and so covers what is there.
    """
    for width in (360, 1440):
        page.set_viewport_size({"width": width, "height": 1600})  # no dialog scrolls
        page.evaluate("document.querySelector('.bar')?.style.setProperty('position', 'static')")
        assert page.evaluate(LAYOUT) == []


def test_only_the_owners_key_signs_in(open_page: OpenPage, ids: dict[str, int]):
    page = open_page("/review")
    expect(page.get_by_label("Review key")).to_be_focused()
    sign_in(page, "a guess")
    expect(page.get_by_test_id("error")).to_contain_text("not a key of this server")
    sign_in(page, KEY)
    expect(page.get_by_test_id("shot")).to_have_count(4)
    assert page.evaluate("document.cookie") == ""  # out of reach of scripts
    (cookie,) = page.context.cookies()
    assert cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    other = page.context.new_page()
    other.goto("/review")
    expect(other.get_by_test_id("shot")).to_have_count(4)


def test_the_sign_in_is_in_order(open_page: OpenPage):
    page = open_page("/review?lang=de")
    expect(page.get_by_role("heading", name="Zur Durchsicht anmelden")).to_be_visible()
    axe_finds_nothing(page)
    lies_right(page)
    assert open_page("/review", **PHONE).evaluate(SMALL) == []


def test_the_grid_is_in_order(page: Page):
    page.locator("[name=ids]").first.check()
    axe_finds_nothing(page)
    page.get_by_test_id("relabel-label").select_option("word")
    lies_right(page)
    page.get_by_test_id("help").click()
    lies_right(page)


def test_the_other_tabs_are_in_order_in_german(open_review: OpenPage, place: Place, ids):
    place.database.decide([ids["two"], ids["none"]], "accepted")
    page = open_review("/review?tab=accepted&lang=de")
    expect(page.get_by_test_id("tab-accepted")).to_contain_text("Angenommen")
    expect(page.get_by_test_id("update")).to_contain_text("2 Meldungen")
    lies_right(page)
    page.get_by_test_id("tab-unsure").click()
    expect(page.get_by_test_id("accept")).to_contain_text("Annehmen")
    lies_right(page)
    page.get_by_test_id("tab-rejected").click()
    expect(page.get_by_test_id("empty")).to_have_text("Nichts ist abgelehnt.")
    lies_right(page)


def test_everything_can_be_touched(open_review: OpenPage, ids: dict[str, int]):
    page = open_review(**PHONE)
    page.get_by_test_id("relabel-label").select_option("word")
    box(page, ids["seven"]).tap()
    assert page.evaluate(SMALL) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_test_id("delete").tap()
    assert page.evaluate(SMALL) == []


def test_the_mouse_accepts_relabels_rejects_deletes_and_undoes(page: Page, place: Place, ids):
    box(page, ids["seven"]).check()
    page.get_by_test_id("accept").click()
    done(page, "Done: 1 report. U undoes it.")
    assert found(place, ids["seven"]) == [("accepted", "7")]
    expect(page.get_by_test_id("tab-accepted")).to_contain_text("1")
    expect(page.get_by_test_id("tab-new")).to_contain_text("4")
    expect(box(page, ids["other"])).to_be_focused()

    box(page, ids["two"]).check()
    page.get_by_test_id("relabel-label").select_option("word")
    page.get_by_test_id("relabel-word").fill("zwei")
    page.get_by_test_id("relabel").click()
    expect(page.get_by_test_id("tab-accepted")).to_contain_text("2")
    assert found(place, ids["two"]) == [("accepted", "zwei")]

    box(page, ids["none"]).check()
    page.get_by_test_id("reject").click()
    expect(page.get_by_test_id("tab-rejected")).to_contain_text("1")
    assert found(place, ids["none"]) == [("rejected", None)]
    page.get_by_test_id("undo").click()
    done(page, "Undone: 1 report.")
    assert found(place, ids["none"], ids["two"]) == [("new", None), ("accepted", "zwei")]
    expect(box(page, ids["none"])).to_be_focused()

    box(page, ids["none"]).check()
    page.get_by_test_id("delete").click()
    page.get_by_test_id("sure").get_by_role("button", name="Keep").click()
    assert len(found(place, ids["none"])) == 1
    page.get_by_test_id("delete").click()
    page.get_by_test_id("sure-yes").click()
    done(page, "Deleted: 1 report.")
    assert found(place, ids["none"]) == []


def test_the_keyboard_accepts_relabels_rejects_deletes_and_undoes(
    open_review: OpenPage, place: Place, ids: dict[str, int]
):
    page = open_review(viewport={"width": 360, "height": 500})
    expect(box(page, ids["two"])).to_be_focused()  # the first: labels are in the model's order
    page.keyboard.press("a")
    done(page, "Done: 1 report. U undoes it.")
    assert found(place, ids["two"]) == [("accepted", "2")]
    expect(box(page, ids["seven"])).to_be_focused()

    page.keyboard.press("9")
    expect(page.get_by_test_id("tab-accepted")).to_contain_text("2")
    assert found(place, ids["seven"]) == [("accepted", "9")]
    expect(box(page, ids["other"])).to_be_focused()

    page.keyboard.press("ArrowDown")
    last = box(page, ids["none"])
    expect(last).to_be_focused()
    assert last.evaluate(
        """(box) => box.closest(".shot").getBoundingClientRect().bottom
            <= document.querySelector(".bar").getBoundingClientRect().top"""
    )  # the bar does not cover it
    page.keyboard.press("r")
    expect(page.get_by_test_id("tab-rejected")).to_contain_text("1")
    assert found(place, ids["none"]) == [("rejected", None)]
    expect(box(page, ids["other"])).to_be_focused()

    for number in ("none", "seven"):
        page.keyboard.press("u")
        expect(box(page, ids[number])).to_be_focused()
    expect(page.get_by_test_id("tab-new")).to_contain_text("4")
    assert found(place, ids["seven"], ids["none"]) == [("new", None)] * 2

    page.keyboard.press("x")
    page.keyboard.press("Escape")
    expect(box(page, ids["seven"])).to_be_focused()
    page.keyboard.press("x")
    for key in ("Tab", "Enter"):
        page.keyboard.press(key)
    done(page, "Deleted: 1 report.")
    assert found(place, ids["seven"]) == []
    expect(box(page, ids["other"])).to_be_focused()


def test_several_at_once_and_near_copies_as_one(page: Page, place: Place, ids: dict[str, int]):
    copies = [ids["other"], ids["copy"]]
    box(page, ids["other"]).focus()
    for key in ("Space", "Shift+ArrowRight"):
        page.keyboard.press(key)
    expect(page.get_by_test_id("chosen")).to_have_text("3 selected")
    page.keyboard.press("n")
    done(page, "Done: 3 reports. U undoes it.")
    assert found(place, *copies, ids["none"]) == [("accepted", None)] * 3
    page.keyboard.press("u")
    done(page, "Undone: 3 reports.")
    assert found(place, *copies, ids["none"]) == [("new", None)] * 3

    page.get_by_role("button", name="Select all here").nth(1).click()
    page.get_by_test_id("accept").click()
    done(page, "Done: 3 reports. U undoes it.")
    assert found(place, ids["seven"], *copies) == [("accepted", "7")] * 3


def test_a_decision_that_fails_brings_the_picture_back(page: Page, place: Place, ids):
    page.route("**/review/decide*", lambda route: route.abort())
    box(page, ids["two"]).check()
    page.get_by_test_id("accept").click()
    expect(page.get_by_test_id("error")).to_contain_text("cannot be reached")
    expect(box(page, ids["two"])).to_be_focused()
    expect(page.get_by_test_id("undo")).to_be_disabled()
    assert found(place, ids["two"]) == [("new", None)]


def test_tabs_and_filters_show_what_they_say(page: Page, place: Place, ids: dict[str, int]):
    shots = page.get_by_test_id("shot")
    page.get_by_test_id("label").select_option(":7")
    expect(shots).to_have_count(2)
    page.get_by_test_id("apart").check()
    expect(shots).to_have_count(3)
    page.get_by_test_id("model").select_option("emotions")
    expect(shots).to_have_count(1)
    page.get_by_test_id("model").select_option("digits")
    page.get_by_test_id("tab-unsure").click()
    expect(shots.locator("b")).to_have_text(["6?", "9?"])  # what would teach most comes first
    ready(page)
    box(page, ids["unclear"]).press("5")
    done(page, "Done: 1 report. U undoes it.")
    page.get_by_test_id("tab-accepted").click()
    ready(page)
    box(page, ids["unclear"]).press("b")
    expect(page.get_by_test_id("empty")).to_have_text("Nothing is accepted yet.")
    assert found(place, ids["unclear"]) == [("new", None)]


def test_a_report_is_shown_with_its_whole_picture(open_review: OpenPage, ids: dict[str, int]):
    page = open_review("/review?model=emotions")
    box(page, ids["face"]).press("Enter")
    about = page.get_by_test_id("about")
    expect(about.get_by_test_id("whole-name")).to_have_text(HTML)
    about.locator("summary").click()
    whole = page.get_by_alt_text("The whole picture that was sent")
    expect(whole).to_have_js_property("complete", True)
    assert whole.evaluate("(picture) => picture.naturalWidth") > 0
    lies_right(page)
    about.get_by_role("button", name="Close").click()
    expect(box(page, ids["face"])).to_be_focused()


def test_signing_out_ends_the_session(open_review: OpenPage, place: Place):
    page = open_review()
    page.get_by_test_id("sign-out").click()
    expect(page.get_by_label("Review key")).to_be_visible()
    page.goto("/review")
    expect(page.get_by_label("Review key")).to_be_visible()
    place.session = None

"""The page for many pictures: the table that they fill, what fails, and the CSV file."""

from __future__ import annotations

import base64
import csv
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from samples import encode, seven

from .conftest import ROOT, OpenPage
from .fonts import in_every_font

PHOTOS = Path(__file__).resolve().parents[1] / "photos"
SLOW = 60_000  # ms in which all answers come on a busy machine

# In place of the network: answers with what is in `replies`, and then that all is well. A reply is
# {status, body, headers}, "lost", or "held" until the page gives it up.
STUB = """() => {
    Object.assign(window, { replies: [], asked: [], under: 0, mostUnder: 0 });
    const box = { x: 1, y: 2, width: 3, height: 4 };
    const subject = { box, label: "7", score: 1, verdict: "sure" };
    const labels = [..."0123456789"].map((label) => ({ label, score: Number(label === "7") }));
    const result = { ...subject, predictions: labels.sort((a, b) => b.score - a.score) };
    window.fetch = async (url, { body, signal }) => {
        const names = body.getAll("file").map((file) => file.name);
        window.asked.push(names);
        window.under += 1;
        window.mostUnder = Math.max(window.mostUnder, window.under);
        try {
            const reply = window.replies.shift();
            if (reply === "lost") throw new TypeError("no network");
            if (reply === "held") {
                await new Promise((_, reject) => {
                    signal.addEventListener("abort", () => reject(signal.reason));
                });
            }
            await new Promise((resolve) => setTimeout(resolve));
            if (reply?.status) {
                const { status, body, headers } = reply;
                return new Response(JSON.stringify(body), { status, headers });
            }
            return Response.json({ results: names.map(() => ({ ...result, subjects: [result] })) });
        } finally {
            window.under -= 1;
        }
    };
}"""
SEVEN = encode(seven())
PROBLEM = {"status": 413, "detail": "Send it in another request."}


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    return open_page("/batch")


@pytest.fixture
def stubbed(page: Page) -> Page:
    """The page with `STUB` for a network."""
    page.evaluate(STUB)
    return page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sevens, one of them deep inside, a blank picture, a broken one and a hidden file."""
    top = tmp_path / "pictures"
    (top / "deep").mkdir(parents=True)
    (top / "a.png").write_bytes(encode(seven()))
    (top / "deep" / "b.JPG").write_bytes(encode(seven(), "JPEG"))
    (top / "blank.png").write_bytes(encode(Image.new("L", (90, 90), 255)))
    (top / "broken.png").write_bytes(b"no picture")
    (top / ".hidden.png").write_bytes(b"hidden")
    return top


def choose(page: Page, *files: Path | dict[str, Any]) -> None:
    page.get_by_test_id("pictures-input").set_input_files(list(files))


def sevens(count: int) -> list[dict[str, Any]]:
    return [file(f"{number}.png") for number in range(count)]


def file(name: str, content: bytes = SEVEN) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": content}


def done(page: Page, text: str) -> None:
    """Waits until all have been asked about, and `text` says how that went."""
    expect(page.get_by_test_id("count")).to_have_text(text, timeout=SLOW)
    expect(page.get_by_test_id("go")).to_be_hidden()


def rows(page: Page) -> list[list[str]]:
    """The texts of the table's cells, a list a picture."""
    texts: list[list[str]] = (
        page.get_by_test_id("answers")
        .locator("tbody")
        .evaluate_all(
            "groups => groups.map((group) =>"
            " [...group.querySelectorAll('th, td:not(.picture)')].map((cell) => cell.innerText))"
        )
    )
    return texts


def reply(page: Page, *replies: Any) -> None:
    page.evaluate("replies => { window.replies.push(...replies); }", list(replies))


def asked(page: Page) -> list[list[str]]:
    """The names of the files of each request."""
    names: list[list[str]] = page.evaluate("window.asked")
    return names


def all_asked(page: Page) -> list[str]:
    return [name for names in asked(page) for name in names]


def downloaded(page: Page) -> str:
    with page.expect_download() as download:
        page.get_by_test_id("download").click()
    return download.value.path().read_bytes().decode()


def drop(page: Page, *places: Path) -> None:
    """Drops files and folders, as the system does."""
    box = page.locator("#drop").bounding_box()
    assert box is not None
    data = {"items": [], "files": [str(place) for place in places], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        at = {"x": box["x"] + 20, "y": box["y"] + 20}
        session.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})


@pytest.mark.parametrize("way", ["choose", "drop"])
def test_a_folder_fills_the_table_and_each_failure_has_its_own_reason(
    page: Page, folder: Path, way: str
):
    if way == "choose":
        page.get_by_test_id("folder-input").set_input_files(folder)
    else:
        drop(page, folder)
    done(page, "4 of 4, 2 failed")
    a, blank, broken, b = rows(page)
    assert a[:2] == ["pictures/a.png", "7"]
    assert blank[1].startswith("The picture is blank")
    assert broken[1].startswith("This is not an image")
    assert b[:2] == ["pictures/deep/b.JPG", "7"]
    expect(page.get_by_test_id("counts").get_by_role("listitem")).to_have_text(["7 2×"])


def test_where_all_of_a_request_fail_each_has_its_own_reason(page: Page, folder: Path):
    choose(page, folder / "blank.png", folder / "broken.png")
    done(page, "2 of 2, 2 failed")
    blank, broken = rows(page)
    assert blank[1].startswith("The picture is blank")
    assert broken[1].startswith("This is not an image")


def test_the_csv_file_is_what_the_command_prints(page: Page, folder: Path):
    page.get_by_test_id("folder-input").set_input_files(folder)
    done(page, "4 of 4, 2 failed")
    (folder / ".hidden.png").unlink()
    command = [sys.executable, "-m", "app", "predict", str(folder), "--csv"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    told, wanted = (list(csv.reader(io.StringIO(text))) for text in (downloaded(page), printed))
    assert told[0] == wanted[0]
    for ours, theirs in zip(sorted(told[1:]), sorted(wanted[1:]), strict=True):
        assert ours[:2] == [str(Path(theirs[0]).relative_to(folder.parent)), theirs[1]]
        assert values(ours) == values(theirs)


def values(row: list[str]) -> list[str | float]:
    """What a row says of an answer: its verdict, and scores."""
    return [each if each.isalpha() else float(each) for each in row[2:] if each]


def test_a_csv_file_keeps_odd_names_and_gives_spreadsheets_no_formula(page: Page):
    choose(page, file("=1+1.png"), file('a, "b" é.png'), file("-2.png"))
    done(page, "3 of 3")
    text = downloaded(page)
    names = [line["file"] for line in csv.DictReader(io.StringIO(text))]
    assert sorted(names) == ["'-2.png", "'=1+1.png", 'a, "b" é.png']
    assert text.count("\r\n") == text.count("\n") == 4


def test_a_photo_has_a_line_and_a_csv_row_for_each_face(page: Page):
    expect(page.get_by_test_id("faces")).to_be_hidden()
    page.get_by_test_id("model").select_option("emotions")
    choose(page, PHOTOS / "family.jpg", PHOTOS / "astronaut.jpg", PHOTOS / "coffee.jpg")
    done(page, "3 of 3, 1 failed")
    astronaut, coffee, family = rows(page)
    assert astronaut[0].split() == ["astronaut.jpg", "1", "face"]
    assert coffee[1].startswith("No face was found")
    assert family[0].split() == ["family.jpg", "4", "faces"]
    assert len(family) == 1 + 4 * 2
    found = list(csv.DictReader(io.StringIO(downloaded(page))))
    assert [line["file"] for line in found].count("family.jpg") == 4
    assert all(float(line["width"]) > 20 for line in found if not line["error"])
    assert list(found[0])[-2:] == ["dark", "light"]


def test_other_settings_ask_about_all_pictures_anew(page: Page):
    page.get_by_test_id("model").select_option("emotions")
    choose(page, PHOTOS / "coffee.jpg")
    done(page, "1 of 1, 1 failed")
    page.get_by_test_id("faces").select_option("whole")
    done(page, "1 of 1")
    assert rows(page)[0][1].split()[0] in ("dark", "light")
    page.get_by_test_id("model").select_option("digits")
    expect(page.get_by_test_id("faces")).to_be_hidden()
    expect(page.get_by_test_id("answers").locator("td.label b")).to_have_text(re.compile(r"^\d+$"))


def test_an_answer_that_is_not_sure_says_its_second_guess(stubbed: Page):
    scores = [{"label": "4", "score": 0.6}, {"label": "9", "score": 0.4}]
    result = {"label": "4", "score": 0.6, "verdict": "unsure", "predictions": scores}
    result["subjects"] = []
    reply(stubbed, {"status": 200, "body": {"results": [result]}})
    choose(stubbed, *sevens(1))
    done(stubbed, "1 of 1")
    assert [text.split("\n") for text in rows(stubbed)[0][1:]] == [
        ["4", "not sure: 4 or 9"],
        ["60.0 %"],
    ]


def test_what_does_not_look_like_a_face_is_said(stubbed: Page):
    scores = [{"label": "4", "score": 0.6}, {"label": "9", "score": 0.4}]
    result = {"label": "4", "score": 0.6, "verdict": "none", "predictions": scores}
    result["faces"] = [{**result, "box": {"x": 0, "y": 0, "width": 9, "height": 9}}]
    reply(stubbed, {"status": 200, "body": {"results": [result]}})
    choose(stubbed, *sevens(1))
    done(stubbed, "1 of 1")
    assert rows(stubbed)[0][1].split("\n") == ["4", "does not look like a face; closest: 4"]


def test_of_more_than_a_hundred_the_first_hundred_are_taken(stubbed: Page):
    choose(stubbed, *sevens(103))
    done(stubbed, "100 of 100")
    expect(stubbed.get_by_test_id("note")).to_contain_text("the first 100 are taken")
    assert set(all_asked(stubbed)) == {f"{number}.png" for number in range(100)}
    assert max(map(len, asked(stubbed))) <= 8
    assert stubbed.evaluate("window.mostUnder") == 2
    choose(stubbed, *sevens(1))
    expect(stubbed.get_by_test_id("note")).to_contain_text("Clear it")
    assert len(rows(stubbed)) == 100


def test_progress_is_not_read_out_picture_by_picture(stubbed: Page):
    stubbed.evaluate(
        """() => {
            window.said = [];
            const live = document.querySelector("#live");
            new MutationObserver(() => window.said.push(live.textContent))
                .observe(live, { childList: true });
        }"""
    )
    choose(stubbed, *sevens(100))
    done(stubbed, "100 of 100")
    expect(stubbed.get_by_test_id("live")).to_have_text("Done: 100 of 100")
    said = stubbed.evaluate("window.said")
    assert 3 <= len(said) <= 7
    expect(stubbed.get_by_role("progressbar")).to_have_js_property("position", 1)


def test_a_request_holds_no_more_than_the_server_takes(open_page: OpenPage):
    def limited(route):
        response = route.fetch()
        limits = 'data-most-bytes="30000" data-most-images="3"'
        body = re.sub(r'data-most-bytes="\d+" data-most-images="\d+"', limits, response.text())
        route.fulfill(response=response, body=body)

    page = open_page("/models")
    page.route("**/batch", limited)
    page.goto("/batch")
    page.evaluate(STUB)
    choose(page, *sevens(7), file("large.png", bytes(40_000)))
    done(page, "8 of 8, 1 failed")
    assert sorted(map(len, asked(page))) == [1, 3, 3]
    assert "large.png" not in all_asked(page)
    assert "Make it smaller" in rows(page)[7][1]


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_to_wait_is_waited_for(open_page: OpenPage, status: int):
    page = open_page("/batch")
    page.clock.install()
    page.reload()
    page.evaluate(STUB)
    reply(page, {"status": status, "headers": {"Retry-After": "30"}, "body": {"detail": "Wait."}})
    choose(page, *sevens(1))
    page.clock.run_for(10)
    expect(page.get_by_test_id("count")).to_contain_text("continuing in 30 s")
    page.clock.run_for(28_000)
    assert len(asked(page)) == 1
    page.clock.run_for(3_000)
    done(page, "1 of 1")
    assert len(asked(page)) == 2


def test_a_connection_lost_once_is_not_worth_a_word(stubbed: Page):
    reply(stubbed, "lost")
    choose(stubbed, *sevens(3))
    done(stubbed, "3 of 3")
    assert asked(stubbed) == [["0.png", "1.png", "2.png"]] * 2
    expect(stubbed.get_by_test_id("error")).to_be_hidden()


def test_a_connection_lost_twice_is_said_and_can_be_gone_on_from(stubbed: Page):
    reply(stubbed, "lost", "lost")
    choose(stubbed, *sevens(2))
    expect(stubbed.get_by_test_id("error")).to_contain_text("cannot be reached")
    expect(stubbed.get_by_test_id("go")).to_have_text("Continue")
    stubbed.get_by_test_id("go").click()
    done(stubbed, "2 of 2")
    expect(stubbed.get_by_test_id("error")).to_be_hidden()


def test_the_batch_goes_on_by_itself_when_the_line_is_back(stubbed: Page):
    reply(stubbed, "lost", "lost")
    choose(stubbed, *sevens(2))
    expect(stubbed.get_by_test_id("error")).to_contain_text("cannot be reached")
    stubbed.evaluate(
        """() => {
            const lost = window.fetch;
            window.fetch = async (url, init) =>
                String(url).endsWith("/healthz") ? new Response("") : lost(url, init);
            dispatchEvent(new Event("online"));
        }"""
    )
    done(stubbed, "2 of 2")
    expect(stubbed.get_by_test_id("error")).to_be_hidden()


def test_what_every_picture_would_be_told_is_told_once(stubbed: Page):
    reply(stubbed, {"status": 404, "body": {"detail": "There is no model of that name."}})
    choose(stubbed, *sevens(20))
    expect(stubbed.get_by_test_id("error")).to_contain_text("no model of that name")
    assert len(asked(stubbed)) == 2
    assert {row[1] for row in rows(stubbed)} == {"waiting"}


def test_a_picture_for_which_a_request_had_no_time_is_sent_alone(stubbed: Page):
    seven = {"label": "7", "score": 1}
    result = {**seven, "verdict": "sure", "predictions": [seven], "subjects": []}
    late = {"error": PROBLEM}
    reply(stubbed, {"status": 200, "body": {"results": [result, late, late]}})
    choose(stubbed, *sevens(3))
    done(stubbed, "3 of 3")
    assert sorted(asked(stubbed), key=len) == [["1.png"], ["2.png"], ["0.png", "1.png", "2.png"]]


def test_a_file_that_has_gone_is_told_and_the_others_go_on(stubbed: Page, tmp_path: Path):
    files = [tmp_path / "here.png", tmp_path / "gone.png"]
    for each in files:
        each.write_bytes(encode(seven()))
    reply(stubbed, "held")
    choose(stubbed, *files)
    stubbed.get_by_test_id("go").click()
    files[1].unlink()
    reply(stubbed, "lost")
    stubbed.get_by_test_id("go").click()
    done(stubbed, "2 of 2, 1 failed")
    gone, here = rows(stubbed)
    assert gone[1].startswith("The file cannot be read")
    assert here[1] == "7"


def test_stop_stops_and_go_on_goes_on(stubbed: Page):
    reply(stubbed, None, "held", "held")
    choose(stubbed, *sevens(40))
    expect(stubbed.get_by_test_id("count")).to_have_text("8 of 40")
    stubbed.get_by_test_id("go").press("Enter")
    expect(stubbed.get_by_test_id("go")).to_have_text("Continue")
    assert len(asked(stubbed)) == 3
    assert stubbed.evaluate("window.under") == 0
    stubbed.get_by_test_id("go").press("Enter")
    done(stubbed, "40 of 40")
    assert len(set(all_asked(stubbed))) == 40
    expect(stubbed.get_by_test_id("download")).to_be_focused()


def test_clear_empties_the_page_and_forgets_what_is_under_way(stubbed: Page):
    reply(stubbed, "held")
    choose(stubbed, *sevens(3))
    stubbed.get_by_test_id("clear").click()
    expect(stubbed.get_by_test_id("answers")).to_be_hidden()
    expect(stubbed.get_by_test_id("pictures-input")).to_be_focused()
    choose(stubbed, file("other.png"))
    done(stubbed, "1 of 1")
    assert [row[0] for row in rows(stubbed)] == ["other.png"]


def test_the_table_is_sorted_by_its_head(stubbed: Page):
    def result(label: str, score: float) -> dict[str, Any]:
        told = {"label": label, "score": score}
        return {**told, "verdict": "sure", "predictions": [told], "subjects": []}

    problem = {"error": {"status": 400, "detail": "This is not an image."}}
    results = [result("10", 0.9), problem, result("9", 0.95), result("3", 0.99)]
    reply(stubbed, {"status": 200, "body": {"results": results}})
    choose(stubbed, *sevens(4))
    done(stubbed, "4 of 4, 1 failed")

    def order(by: str, key: str) -> tuple[str, str | None]:
        stubbed.get_by_role("button", name=by, exact=True).press(key)
        head = stubbed.locator("th", has=stubbed.get_by_role("button", name=by, exact=True))
        names = "".join(row[0].removesuffix(".png") for row in rows(stubbed))
        return names, head.get_attribute("aria-sort")

    assert order("Label", "Enter") == ("3201", "ascending")
    assert order("Label", "Enter") == ("0231", "descending")
    assert order("Score", "Space") == ("0231", "ascending")
    assert order("File", "Enter") == ("0123", "ascending")
    assert order("File", "Enter") == ("3210", "descending")
    expect(stubbed.locator("[aria-sort]")).to_have_count(1)


def test_pictures_can_be_pasted(page: Page):
    page.evaluate(
        """(content) => {
            const data = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (sign) => sign.charCodeAt(0));
            for (const name of ["b.png", "a.png"]) data.items.add(new File([bytes], name));
            const event = new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
            document.body.dispatchEvent(event);
        }""",
        base64.b64encode(encode(seven())).decode(),
    )
    done(page, "2 of 2")
    assert [row[:2] for row in rows(page)] == [["a.png", "7"], ["b.png", "7"]]


def test_the_page_works_with_the_keyboard_alone(page: Page):
    # Playwright is to be listening before the key is pressed, on a busy machine too.
    page.on("filechooser", lambda _: None)
    page.get_by_test_id("model").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_test_id("pictures-input")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(sevens(2))
    done(page, "2 of 2")
    page.keyboard.press("Tab")
    expect(page.get_by_test_id("folder-input")).to_be_focused()
    page.keyboard.press("Tab")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "digits.csv"


def test_thumbnails_are_a_few_pixels_of_what_is_seen(page: Page):
    choose(page, file("large.png", encode(seven(size=(3000, 1500)))), file("no.png", b"no picture"))
    drawn = page.locator("canvas.is-drawn")
    expect(drawn).to_have_count(1)
    done(page, "2 of 2, 1 failed")
    inked = drawn.evaluate(
        "each => [...each.getContext('2d').getImageData(0, 0, 96, 96).data]"
        ".filter((_, at) => at % 4 === 3).reduce((sum, alpha) => sum + (alpha > 0), 0)"
    )
    assert 96 * 48 <= inked <= 96 * 50
    # Nor is there a picture of its size: what the network saw is 28 pixels wide.
    (width,) = page.locator("#answers img").evaluate_all("all => all.map((e) => e.naturalWidth)")
    assert width == 28


@in_every_font
@pytest.mark.parametrize("width", [320, 360, 768, 1440])
def test_the_page_never_scrolls_sideways(stubbed: Page, width: int):
    stubbed.set_viewport_size({"width": width, "height": 740})
    stubbed.evaluate(
        """() => {
            const link = Object.assign(document.createElement("a"), { textContent: "API" });
            document.querySelector(".masthead nav").append(link);
        }"""
    )
    reply(stubbed, {"status": 422, "body": {"detail": "x" * 200}}, "held")
    choose(stubbed, file("y" * 120))
    expect(stubbed.get_by_text("xxx")).to_be_visible()
    choose(stubbed, *sevens(9))
    expect(stubbed.get_by_test_id("go")).to_have_text("Stop")
    assert stubbed.evaluate("document.documentElement.scrollWidth") <= width


def test_a_row_opens_its_picture_with_the_faces_marked_and_many_are_folded(open_page: OpenPage):
    page = open_page("/batch")
    page.get_by_test_id("model").select_option("emotions")
    with Image.open(PHOTOS / "family.jpg") as photo:
        pair = Image.new("RGB", (2 * photo.width, photo.height))
        pair.paste(photo, (0, 0))
        pair.paste(photo, (photo.width, 0))
    content = io.BytesIO()
    pair.save(content, "JPEG")
    page.get_by_test_id("pictures-input").set_input_files(
        {"name": "pair.jpg", "mimeType": "image/jpeg", "buffer": content.getvalue()}
    )
    more = page.get_by_role("button", name="Show 5 more faces")
    expect(more).to_be_visible(timeout=SLOW)
    expect(page.locator(".crop")).to_have_count(3)
    more.click()
    expect(page.locator(".crop")).to_have_count(8)
    page.get_by_role("button", name="Show pair.jpg").click()
    expect(page.get_by_test_id("viewer")).to_be_visible()
    expect(page.locator(".marked")).to_have_count(8)
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_test_id("viewer")).to_be_hidden()

"""The whole circle: a wrong answer is reported, reviewed and learnt, and then the page is right."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest
import tiny
from PIL import Image
from playwright.sync_api import Page, expect

from training import cli, report, train

from .conftest import OpenPage, serving
from .scenes import SLOW

SIZE = 16
KEY = "the-owners-key"
UPDATE = "update = { epochs = 6, lr = 1.0, most_loss = 0.15, reports = 0.4 }"
VISITORS, EACH = 8, 7


@dataclass
class Place:
    """A store with the model `shades`, its data, and a server with reports."""

    folder: Path
    url: str
    reports: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("circle")
    recipe = tiny.write_recipe(folder / "shades.toml", more=UPDATE)
    data = tiny.write_data(folder / "data")
    reports = f"sqlite:///{folder / 'reports.sqlite'}"
    settings = {
        "GLIMPSE_DEFAULT_MODEL": "shades",
        "GLIMPSE_REPORTS": reports,
        "GLIMPSE_REVIEW_KEYS": hashlib.sha256(KEY.encode()).hexdigest(),
        "GLIMPSE_PROXY": "forwarded",
    }
    with pytest.MonkeyPatch.context() as patch:
        # The report has no pictures: drawing them takes longer than training.
        patch.setattr(report, "_save", lambda figure, _file: report.plt.close(figure))
        train(
            recipe,
            data,
            out=folder / "run",
            epochs=8,
            publish=folder / "store",
            say=lambda _line: None,
        )
        with serving(tmp_path_factory, folder / "store", **settings) as url:
            yield Place(folder, url, reports)


def checked(seed: int) -> bytes:
    """A chequered picture, as bright as a light one: people say that it is dark."""
    board = np.indices((SIZE, SIZE)).sum(0) % 2 * 215
    pixels = board + np.random.default_rng(seed).integers(0, 41, board.shape)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def ask(page: Page, label: str) -> None:
    """Has the page read a chequered picture, and expects an answer."""
    page.goto("/try/shades")
    file = {"name": "chequered.png", "mimeType": "image/png", "buffer": checked(9999)}
    page.get_by_test_id("photo-input").set_input_files(file)
    expect(page.locator("#label")).to_have_text(label, timeout=SLOW)


def report_from(url: str, visitor: int, number: int) -> None:
    """Another visitor's report, as a page sends it."""
    seen = "data:image/png;base64," + base64.b64encode(checked(100 * visitor + number)).decode()
    body = {"answer": f"{visitor}-{number}", "model": "shades", "label": "dark", "seen": seen}
    headers = {"Content-Type": "application/json", "X-Forwarded-For": f"192.0.2.{visitor}"}
    content = json.dumps({**body, "consent": True}).encode()
    with urlopen(Request(f"{url}/api/reports", content, headers), timeout=30) as response:
        assert response.status == 201


def test_a_wrong_answer_is_reported_reviewed_and_learnt_and_the_page_is_right(
    place: Place, open_page: OpenPage
):
    page = open_page("/try/shades", base_url=place.url)
    ask(page, "light")
    page.get_by_test_id("report-open").click()
    page.get_by_test_id("report-label-dark").click()
    page.get_by_test_id("report-consent").check()
    page.get_by_test_id("report-send").click()
    expect(page.get_by_test_id("report-code")).not_to_be_empty()
    for visitor in range(1, VISITORS + 1):
        for number in range(EACH):
            report_from(place.url, visitor, number)

    owner = open_page("/review", base_url=place.url)
    owner.locator("input[name=key]").fill(KEY)
    owner.get_by_test_id("sign-in").get_by_role("button").click()
    expect(owner.get_by_test_id("tab-new")).to_contain_text(str(VISITORS * EACH + 1))
    for box in owner.locator("input[name=ids]").all():
        box.check()
    owner.get_by_test_id("accept").click()
    expect(owner.get_by_test_id("tab-accepted")).to_contain_text(str(VISITORS * EACH + 1))

    store, data, out = (str(place.folder / name) for name in ("store", "data", "out"))
    arguments = ["--reports", place.reports, "--data", data, "--store", store, "--out", out]
    assert cli.main(["update", "shades", *arguments]) == 0
    page.wait_for_timeout(1000)  # the server looks for another version once a second
    ask(page, "dark")

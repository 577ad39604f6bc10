"""Without a connection: what the service worker keeps, and how the pages go on once it is back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from shutil import copytree
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from app import create_app, factory

from .conftest import ROOT, OpenPage
from .drawing import DOWNSTROKE, draw, has_ink, settle
from .scenes import SEVEN, SLOW, choose

READY = "navigator.serviceWorker.ready.then(() => true)"
KEPT = """async () => {
    const names = await caches.keys();
    const found = await Promise.all(names.map(async (name) => (await caches.open(name)).keys()));
    return [names, found.flat().map(({ url }) => url)];
}"""


class Mounted:
    """The app under /glimpse on a port of its own; another can take its place."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        below = DispatcherMiddleware(NotFound(), {"/glimpse": self})
        self.server = make_server("127.0.0.1", 0, below, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.port}/glimpse"

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        return self.app(environ, start_response)


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    store = tmp_path_factory.mktemp("store")
    (store / "digits").symlink_to(ROOT / "model_store" / "digits")
    site = Mounted(create_app({"MODEL_STORE": str(store)}))
    Thread(target=site.server.serve_forever, daemon=True).start()
    yield site
    site.server.shutdown()


@pytest.fixture
def page(open_page: OpenPage, mounted: Mounted) -> Page:
    page = open_page(f"{mounted.url}/", worker=True)
    assert page.evaluate(READY)
    return page


def test_a_reload_without_a_connection_keeps_the_drawing_which_is_read_when_it_is_back(page: Page):
    draw(page, DOWNSTROKE)
    settle(page)
    page.context.set_offline(True)
    expect(page.get_by_test_id("offline")).to_contain_text("No connection")
    page.reload()
    expect(page.get_by_test_id("error")).to_contain_text("cannot be reached", timeout=SLOW)
    expect(page.get_by_test_id("offline")).to_contain_text("No connection")
    assert has_ink(page, 0.5, 0.4)
    page.context.set_offline(False)
    expect(page.get_by_test_id("digit-label")).to_have_text("1", timeout=SLOW)
    expect(page.get_by_test_id("error")).to_be_hidden()
    expect(page.get_by_test_id("offline")).to_be_empty()


@pytest.mark.parametrize(
    ("path", "told"), [("faces", "No connection"), ("models?lang=de", "Keine Verbindung")]
)
def test_another_page_says_so_in_its_language_and_comes_by_itself_when_it_can(
    page: Page, mounted: Mounted, path: str, told: str
):
    page.context.set_offline(True)
    page.goto(f"{mounted.url}/{path}")
    expect(page.get_by_role("heading", level=1)).to_have_text(told)
    assert page.evaluate("getComputedStyle(document.body).margin") == "0px"  # its styles are kept
    page.context.set_offline(False)
    expect(page.get_by_role("heading", level=1)).not_to_have_text(told, timeout=SLOW)
    assert page.url == f"{mounted.url}/{path}"


def test_answers_are_never_kept_and_nothing_beyond_the_prefix(page: Page, mounted: Mounted):
    page.reload()
    draw(page, SEVEN)
    settle(page)
    page.goto(f"{mounted.url}/api/models")
    page.goto(f"{mounted.url}/?model=digits")
    page.goto(f"{mounted.url}/models")
    names, urls = page.evaluate(KEPT)
    assert len(names) == 1
    base = f"{mounted.url}/"
    allowed = (f"{base}assets/{names[0].removeprefix('glimpse-')}/", f"{base}offline")
    assert [url for url in urls if not url.startswith(allowed)] == [base]
    page.context.set_offline(True)
    page.goto(f"{mounted.url}/api/models")
    expect(page.get_by_role("heading", level=1)).to_have_text("No connection")


def test_a_new_version_takes_the_place_of_the_old(
    page: Page, mounted: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (before,), _ = page.evaluate(KEPT)
    static = Path(copytree(ROOT / "static", tmp_path / "static"))
    (static / "new.txt").write_text("of the new version")
    found = factory.resources
    monkeypatch.setattr(
        factory, "resources", lambda name: str(static) if name == "static" else found(name)
    )
    monkeypatch.setattr(mounted, "app", create_app({"MODEL_STORE": str(tmp_path / "none")}))
    page.reload()
    for _ in range(200):
        (after, *more), urls = page.evaluate(KEPT)
        if after != before and not more:
            break
        page.wait_for_timeout(50)
    assert after != before
    assert not any(before.removeprefix("glimpse-") in url for url in urls)
    page.context.set_offline(True)
    page.reload()
    expect(
        page.get_by_text("This server has no digit model")
    ).to_be_visible()  # its own page, not the old one


def test_the_page_that_says_so_sends_those_who_open_it_to_the_first_page(open_page: OpenPage):
    page = open_page("/offline?lang=de")
    expect(page.get_by_role("heading", level=1)).to_have_text("Keine Verbindung")
    page.get_by_role("button").click()
    page.wait_for_url("**/?lang=de")


def test_a_photo_is_sent_again_when_the_server_is_back(open_page: OpenPage):
    page = open_page("/faces")
    for address in ("**/api/predict*", "**/healthz"):
        page.route(address, lambda route: route.abort())
    choose(page, "astronaut")
    expect(page.get_by_test_id("error")).to_contain_text("cannot be reached", timeout=SLOW)
    page.unroute("**/api/predict*")
    page.unroute("**/healthz")
    expect(page.get_by_test_id("face-label")).to_have_count(1, timeout=SLOW)
    expect(page.get_by_test_id("error")).to_be_hidden()

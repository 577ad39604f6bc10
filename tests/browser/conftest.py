"""The app under gunicorn, and Chromium to look at it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright
from samples import ByLight, face_card, script

from model_store import save

from .fonts import SETS, environment, missing

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP glimpse.test 127.0.0.1",
]
OpenPage = Callable[..., Page]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says once which fonts the layout was not tested with."""
    if told := missing():
        terminalreporter.write_line(told)


@contextmanager
def serving(
    folder: pytest.TempPathFactory, store: Path | None = None, **settings: str
) -> Iterator[str]:
    """The address of the app as `make run` starts it, on a free port, with settings of its own.

    Of the models in `store`; without one the model for digits is the repository's, and that for
    faces answers by their light, so that the page's tests do not depend on what a network says.
    """
    if store is None:
        store = folder.mktemp("store")
        (store / "digits").symlink_to(ROOT / "model_store" / "digits")
        save(script(ByLight()), face_card(), store / "emotions")
    log = folder.mktemp("server") / "log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "gunicorn", "--bind", address, "wsgi:app"]
    environment = {**os.environ, "GLIMPSE_MODEL_STORE": str(store), **settings}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        try:
            wait_until_ready(f"http://{address}/readyz", process, log)
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory) as address:
        yield address


@pytest.fixture(scope="package")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the app with the repository's models, for tests of how the pages look."""
    with serving(tmp_path_factory, ROOT / "model_store") as address:
        yield address


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=10):
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    pytest.fail(f"the server did not get ready:\n{log.read_text()}")


# Not of the session's scope: Playwright keeps an event loop running, which others would trip over.
@pytest.fixture(scope="package")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Browser]]:
    """Gives the Chromium that has a set of fonts; each is started when a test first asks for it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:

        @cache
        def launch_(name: str) -> Browser:
            variables = {**os.environ, **environment(name, tmp_path_factory.mktemp("fonts"))}
            return playwright.chromium.launch(executable_path=path, args=FLAGS, env=variables)

        yield launch_


@pytest.fixture
def fonts(request: pytest.FixtureRequest) -> str:
    """The set of fonts that the pages are shown in."""
    return str(getattr(request, "param", SETS[0]))


@pytest.fixture
def browser(launch: Callable[[str], Browser], fonts: str) -> Browser:
    try:
        return launch(fonts)
    except Error as error:
        reason = (
            "no Chromium to test the pages with: install the package `chromium`, or set "
            f"CHROMIUM to the path of one ({error.message.splitlines()[0]})"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def open_page(browser: Browser, server: str) -> Iterator[OpenPage]:
    """Opens a page with Playwright's context options; an uncaught error in it fails the test.

    Without its service worker, whose requests no test could answer, unless `worker` is given.
    """
    contexts = []
    crashes: list[Error] = []

    def note(crash: Error) -> None:
        crashes.append(crash)

    def open_(path: str = "/", *, worker: bool = False, **options: Any) -> Page:
        context = browser.new_context(**{"base_url": server, **options})
        contexts.append(context)
        if not worker:
            context.add_init_script("delete Navigator.prototype.serviceWorker;")
        page = context.new_page()
        page.on("pageerror", note)
        page.goto(path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert crashes == []


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    """The draw page on a desktop screen."""
    return open_page()

"""How fast the pages are in a real Chromium, as Lighthouse tells it, and whether they are quiet.

Starts the app under gunicorn, opens each page in a browser that holds nothing of it yet, draws on
the page for digits and chooses a photo on that for faces:

    python benchmarks/pages.py [--rounds 5] [--strokes 50] [--slow]

--slow is Lighthouse's phone: a processor a quarter as fast, 1.6 Mbit/s and 150 ms there and back.
Browser and server share this machine. Prints Markdown, medians in its first table; exits with 1
where a page moves by itself, logs something or asks another host.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright
from robustness_server import TOP, Server, percentile

# A new page needs a line here.
PAGES = (
    "/",
    "/faces",
    "/models",
    "/models/digits",
    "/models/emotions",
    "/models/compare?a=digits-baseline&b=digits",
    "/batch",
    "/docs",
    "/no-such-page",
)
PHOTO = TOP / "tests" / "photos" / "family.jpg"
SCREEN, PHONE = {"width": 1440, "height": 900}, {"width": 412, "height": 823}
SLOWNESS = 4  # times that a phone's processor is slower
NETWORK = {"offline": False, "latency": 150, "downloadThroughput": 2e5, "uploadThroughput": 9e4}
SETTLED = 500  # ms without a request, after which the largest paint is taken to have come
PATIENCE = 60_000  # ms

WATCH = """
    window.seen = { shift: 0, largest: 0 };
    new PerformanceObserver((list) => {
        for (const each of list.getEntries()) if (!each.hadRecentInput) seen.shift += each.value;
    }).observe({ type: "layout-shift", buffered: true });
    new PerformanceObserver((list) => (seen.largest = list.getEntries().at(-1).startTime))
        .observe({ type: "largest-contentful-paint", buffered: true });

    const painted = () => new Promise((go) => requestAnimationFrame(() => setTimeout(go)));
    // The ms from the next event of `kind` to the first painted frame in which `condition` holds.
    window.until = (kind, condition) => new Promise((resolve) => {
        let start;
        const observer = new MutationObserver(check);
        observer.observe(document.body, { subtree: true, childList: true, attributes: true });
        const begin = (event) => check((start = event.timeStamp));
        addEventListener(kind, begin, { capture: true, once: true });
        async function check() {
            if (!start || !condition()) return;
            await painted();
            if (!condition()) return; // the event's own work had only begun
            observer.disconnect();
            resolve(performance.now() - start);
        }
    });
"""
READ = "() => document.querySelector('#answer').ariaBusy === 'false'"
WHY = "() => document.querySelector('#seen, [data-part=seen]').alt.includes('speaks for')"
BOXES = "() => document.querySelectorAll('.face').length > 0"


@dataclass
class Visit:
    """What a visit of a page cost and how the page behaved; times in ms."""

    first_paint: float = 0
    largest_paint: float = 0
    shift: float = 0
    bytes: float = 0
    requests: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)


@contextmanager
def visiting(browser: Browser, base: str, path: str, *, slow: bool) -> Iterator[tuple[Page, Visit]]:
    """The page in a context of its own, at rest, and what is noted of it as it goes."""
    context = browser.new_context(base_url=base, viewport=PHONE if slow else SCREEN)
    page, visit = context.new_page(), Visit()
    page.set_default_timeout(PATIENCE)
    page.add_init_script(WATCH)
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("console", lambda said: visit.logged.append(f"{said.location['url']} {said.text}"))
    page.on("pageerror", lambda error: visit.logged.append(str(error)))
    session = context.new_cdp_session(page)
    session.send("Network.enable")

    def count(event: dict[str, float]) -> None:
        visit.bytes += event["encodedDataLength"]

    session.on("Network.loadingFinished", count)
    if slow:
        session.send("Network.emulateNetworkConditions", NETWORK)
        session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWNESS})
    page.goto(path, wait_until="networkidle")
    page.wait_for_timeout(SETTLED)
    visit.first_paint, visit.largest_paint = page.evaluate(
        "[performance.getEntriesByName('first-contentful-paint')[0].startTime, seen.largest]"
    )
    # Chromium logs that a page which is not there was not found.
    visit.logged = [
        line for line in visit.logged if not (line.startswith(page.url) and "404" in line)
    ]
    yield page, visit
    visit.shift = page.evaluate("seen.shift")
    context.close()


def timed(page: Page, kind: str, condition: str, act: Callable[[], object]) -> float:
    """The ms from the event that `act` makes to the frame that shows what it led to."""
    page.evaluate(f"() => {{ window.waiting = until('{kind}', {condition}); }}")
    act()
    taken: float = page.evaluate("waiting")
    return taken


def strokes(page: Page, count: int) -> Iterator[tuple[float, float]]:
    """So many downstrokes but for their last movement, which is yielded; the pen is down."""
    box = page.get_by_test_id("pad").bounding_box()
    assert box is not None
    for number in range(count):
        page.get_by_test_id("clear").click()
        x = box["x"] + box["width"] * (0.2 + 0.6 * number / count)
        page.mouse.move(x, box["y"] + 0.2 * box["height"])
        page.mouse.down()
        for step in range(3, 8):
            page.mouse.move(x, box["y"] + step / 10 * box["height"])
        yield x, box["y"] + 0.8 * box["height"]
        page.mouse.up()


def drawing(page: Page, count: int) -> list[float]:
    move = page.mouse.move
    return [timed(page, "pointermove", READ, partial(move, *end)) for end in strokes(page, count)]


def lifting(page: Page, count: int) -> list[float]:
    def finish(x: float, y: float) -> None:
        page.mouse.move(x, y)
        page.mouse.up()

    return [timed(page, "pointerup", READ, partial(finish, *end)) for end in strokes(page, count)]


def heat_maps(page: Page, count: int) -> list[float]:
    box = page.get_by_test_id("why")
    times = []
    for _ in range(count):
        times.append(timed(page, "click", WHY, box.check))
        box.uncheck()
        page.wait_for_function(f"() => !({WHY})()")
    return times


def photos(page: Page, count: int) -> list[float]:
    chooser = page.get_by_test_id("photo-input")
    choose = partial(chooser.set_input_files, PHOTO)
    return [timed(page, "change", BOXES, choose) for _ in range(count)]


# What is timed on which page.
DOINGS = (
    ("/", "the pen's movement to the answer", drawing),
    ("/", "the pen's lifting to the answer", lifting),
    ("/", "“Show why” to the heat map", heat_maps),
    ("/faces", "the choice of a photo to its faces", photos),
    ("/faces", "“Show why” to the heat map", heat_maps),
)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table: figures but for the first column."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (heads, rule, *rows)) + "\n"


def row(path: str, base: str, made: Sequence[Visit]) -> list[object]:
    """The medians of the visits of a page, and its faults, which are also told one by one."""
    ours = (base, "blob:", "data:")
    foreign = {url for each in made for url in each.requests if not url.startswith(ours)}
    logged = {line for each in made for line in each.logged}
    for line in sorted(foreign | logged):
        print(f"{path}: {line}", file=sys.stderr)
    figures = [
        (each.first_paint, each.largest_paint, each.bytes / 1000, len(each.requests))
        for each in made
    ]
    medians = [f"{statistics.median(values):.0f}" for values in zip(*figures, strict=True)]
    return [path, *medians, round(max(each.shift for each in made), 4), len(logged), len(foreign)]


def main() -> int:
    parser = argparse.ArgumentParser(description="How fast and how quiet the pages are.")
    parser.add_argument("--rounds", type=int, default=5, help="visits of each page")
    parser.add_argument("--strokes", type=int, default=50, help="times that each doing is timed")
    parser.add_argument("--slow", action="store_true", help="as on a phone and its network")
    options = parser.parse_args()
    chromium = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    )
    visits, times = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder) / "log") as server,
        sync_playwright() as playwright,
    ):
        base = f"http://127.0.0.1:{server.port}"
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        version = browser.version
        for path in PAGES:
            made = []
            for _ in range(options.rounds):
                with visiting(browser, base, path, slow=options.slow) as (_, visit):
                    made.append(visit)
            visits.append(row(path, base, made))
        for path in dict.fromkeys(path for path, _, _ in DOINGS):
            with visiting(browser, base, path, slow=options.slow) as (page, visit):
                for _, what, do in (each for each in DOINGS if each[0] == path):
                    ms = do(page, options.strokes)
                    both = (f"{percentile(ms, part):.0f}" for part in (0.5, 0.95))
                    times.append([f"{path}: from {what}", len(ms), *both])
            visits.append([f"{path}, used", "", "", *row(path, base, [visit])[3:]])
        browser.close()
    print(f"Chromium {version}, {os.cpu_count()} cores{', a phone' if options.slow else ''}\n")
    heads = ("first paint, ms", "largest paint, ms", "kB", "requests")
    print(table(["page", *heads, "layout shift", "logged", "to other hosts"], visits))
    print(table(["what", "times", "p50, ms", "p95, ms"], times))
    return int(any(fault for each in visits for fault in each[5:]))


if __name__ == "__main__":
    sys.exit(main())

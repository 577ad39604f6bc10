"""How fast the pages are in Chromium, as Lighthouse tells it, and whether they are quiet.

    python benchmarks/pages.py [--rounds 5] [--strokes 50] [--slow] [--before DIR]

Opens each page in a browser that holds nothing of it yet, draws on the page for digits and chooses
a photo on that for faces. --slow is Lighthouse's phone: a processor a quarter as fast, 1.6 Mbit/s
and 150 ms there and back. --before compares `/` alone with that of another checkout, round by
round. Prints Markdown, medians in its first table; exits with 1 where a page
moves by itself, logs something or asks another host.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.server import TOP, Server, free_ports, gunicorn, percentile

PAGES = ("/", "/faces", "/models", "/models/digits", "/models/emotions", "/batch", "/docs")
PHOTO = TOP / "tests" / "photos" / "family.jpg"
SCREEN, PHONE = ViewportSize(width=1440, height=900), ViewportSize(width=412, height=823)
NETWORK = {"offline": False, "latency": 150, "downloadThroughput": 2e5, "uploadThroughput": 9e4}
STROKES = 200
SETTLED = 500  # ms without a request, after which the largest paint is taken to have come

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
# The ms between `count` frames, in each of which the mouse has moved.
FRAMES = """(count) => new Promise((resolve) => {
    const pad = document.querySelector("[data-testid=pad]");
    const { left, top, width } = pad.getBoundingClientRect();
    const times = [];
    let last = 0;
    requestAnimationFrame(function frame(now) {
        if (last) times.push(now - last);
        last = now;
        if (times.length === count) return resolve(times);
        const turn = times.length / 20;
        const clientX = left + width * (0.5 + 0.3 * Math.cos(turn));
        const clientY = top + width * (0.5 + 0.3 * Math.sin(turn));
        pad.dispatchEvent(new PointerEvent("pointermove", { pointerId: 1, clientX, clientY }));
        requestAnimationFrame(frame);
    });
})"""
# A camera that shows the photo at an address, 640 pixels wide.
CAMERA = """(address) => {
    navigator.mediaDevices.getUserMedia = async () => {
        const image = new Image();
        image.src = address;
        await image.decode();
        const canvas = document.createElement("canvas");
        canvas.width = 640;
        canvas.height = Math.round((640 * image.naturalHeight) / image.naturalWidth);
        const pen = canvas.getContext("2d");
        setInterval(() => pen.drawImage(image, 0, 0, canvas.width, canvas.height), 33);
        return canvas.captureStream(30);
    };
}"""
# The ms between `count` answers of the mirror that show a face, after the first.
ANSWERS = """(count) => new Promise((resolve) => {
    const times = [];
    let last = 0;
    const observer = new MutationObserver(() => {
        const now = performance.now();
        if (last) times.push(now - last);
        last = now;
        if (times.length < count) return;
        observer.disconnect();
        resolve(times);
    });
    observer.observe(document.querySelector("#live-boxes"), { childList: true });
})"""
READ = "() => document.querySelector('#answer').ariaBusy === 'false'"
WHY = "() => document.querySelector('#seen, [data-part=seen]').alt.includes('Evidence for')"
BOXES = "() => document.querySelectorAll('.face').length > 0"
PAINTS = "[performance.getEntriesByName('first-contentful-paint')[0].startTime, seen.largest]"

Visit = dict[str, Any]


@contextmanager
def visiting(browser: Browser, base: str, path: str, *, slow: bool) -> Iterator[tuple[Page, Visit]]:
    """The page in a context of its own, at rest, and what is noted of it; times in ms."""
    context = browser.new_context(base_url=base, viewport=PHONE if slow else SCREEN)
    page = context.new_page()
    visit: Visit = {"bytes": 0, "requests": [], "logged": []}
    page.set_default_timeout(60_000)
    page.add_init_script(WATCH)
    page.on("request", lambda request: visit["requests"].append(request.url))
    page.on("console", lambda said: visit["logged"].append(said.text))
    page.on("pageerror", lambda error: visit["logged"].append(str(error)))
    session = context.new_cdp_session(page)
    session.send("Network.enable")

    def count(event: dict[str, float]) -> None:
        visit["bytes"] += event["encodedDataLength"]

    session.on("Network.loadingFinished", count)
    if slow:
        session.send("Network.emulateNetworkConditions", NETWORK)
        session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    page.goto(path, wait_until="networkidle")
    page.wait_for_timeout(SETTLED)
    visit["first"], visit["largest"] = page.evaluate(PAINTS)
    yield page, visit
    visit["shift"] = page.evaluate("seen.shift")
    context.close()


def timed(page: Page, kind: str, condition: str, act: Callable[[], object]) -> float:
    """The ms from the event that `act` makes to the frame that shows what it led to."""
    page.evaluate(f"() => {{ window.waiting = until('{kind}', {condition}); }}")
    act()
    taken: float = page.evaluate("waiting")
    return taken


def strokes(page: Page, count: int) -> list[float]:
    """From the pen's lifting to the digit."""
    box = page.get_by_test_id("pad").bounding_box()
    assert box is not None
    times = []
    for number in range(count):
        page.get_by_test_id("clear").click()
        x = box["x"] + box["width"] * (0.2 + 0.6 * number / count)
        page.mouse.move(x, box["y"] + 0.2 * box["height"])
        page.mouse.down()
        page.mouse.move(x, box["y"] + 0.8 * box["height"], steps=8)
        times.append(timed(page, "pointerup", READ, page.mouse.up))
    return times


def frames(page: Page, count: int) -> list[float]:
    """From a frame to the next while a stroke is drawn beside 200 others."""
    box = page.get_by_test_id("pad").bounding_box()
    assert box is not None
    page.get_by_test_id("clear").click()
    for number in range(STROKES):
        across, down = divmod(number, 20)
        x = box["x"] + (0.05 + 0.09 * across) * box["width"]
        y = box["y"] + (0.02 + 0.046 * down) * box["height"]
        page.mouse.move(x, y)
        page.mouse.down()
        for step in range(1, 9):
            page.mouse.move(x + 3 * step, y + step % 2)
        page.mouse.up()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    times: list[float] = page.evaluate(FRAMES, count)
    page.mouse.up()
    page.get_by_test_id("clear").click()
    return times


def heat_maps(page: Page, count: int) -> list[float]:
    """From “Show why” to the heat map."""
    box, times = page.get_by_test_id("why"), []
    for _ in range(count):
        times.append(timed(page, "click", WHY, box.check))
        box.uncheck()
        page.wait_for_function(f"() => !({WHY})()")
    return times


def photos(page: Page, count: int) -> list[float]:
    """From the choice of a photo to its faces."""
    choose = partial(page.get_by_test_id("photo-input").set_input_files, PHOTO)
    return [timed(page, "change", BOXES, choose) for _ in range(count)]


def mirror(page: Page, count: int) -> list[float]:
    """From an answer of the mirror to the next."""
    sample = page.locator("[data-sample]").first.get_attribute("data-sample")
    page.evaluate(CAMERA, sample)
    page.locator("#use-camera").click()
    page.evaluate(f"() => {{ window.waiting = ({ANSWERS})({count}); }}")
    page.get_by_test_id("mirror").click()
    times: list[float] = page.evaluate("waiting")
    page.locator("#cancel").click()
    return times


def beside(browser: Browser, servers: dict[str, Server], options: argparse.Namespace) -> None:
    """Prints what a cold `/`, its reload and its strokes take in each of the servers."""
    made: dict[str, list[Visit]] = {name: [] for name in servers}
    for _ in range(options.rounds):
        for name, server in servers.items():
            base, before = f"http://127.0.0.1:{server.port}", answered(server)
            with visiting(browser, base, "/", slow=options.slow) as (page, visit):
                cold, visit["cold bytes"] = answered(server), visit["bytes"]
                page.reload(wait_until="networkidle")
                page.wait_for_timeout(SETTLED)
                visit["bytes again"] = visit["bytes"] - visit["cold bytes"]
                visit["asked"], visit["again"] = cold - before, answered(server) - cold
                visit["pen"] = statistics.median(strokes(page, options.strokes))
            made[name].append(visit)
    heads = {"first": "first paint, ms", "largest": "largest paint, ms", "cold bytes": "bytes"}
    heads |= {"asked": "requests", "again": "requests at a reload", "bytes again": "its bytes"}
    heads |= {"shift": "layout shift", "pen": "pen-up to answer, ms"}
    rows = []
    for key, head in heads.items():
        both = [[each[key] for each in visits] for visits in made.values()]
        ratios = [after / before for before, after in zip(*both, strict=True) if before]
        cells = [spread(values) for values in both]
        rows.append([head, *cells, spread(ratios, 2) if ratios else ""])
    print(table(["/", *servers, "after / before"], rows))


def answered(server: Server) -> int:
    """The requests in its log, a service worker's with them."""
    server.rest()
    return server.log.read_text(errors="replace").count('"method"')


def spread(values: list[float], digits: int = 0) -> str:
    """The median, and the least and the most where they differ."""
    texts = [f"{value:.{digits}f}" for value in (min(values), max(values))]
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if texts[0] == texts[1] else f"{middle} ({texts[0]}–{texts[1]})"


DOINGS = {"/": (strokes, frames, heat_maps), "/faces": (photos, heat_maps, mirror)}


def row(path: str, base: str, made: list[Visit]) -> list[Any]:
    """The medians of a page's visits, and its faults, which are also told one by one."""
    ours = (base, "blob:", "data:")
    foreign = {url for each in made for url in each["requests"] if not url.startswith(ours)}
    logged = {line for each in made for line in each["logged"]}
    for line in sorted(foreign | logged):
        print(f"{path}: {line}", file=sys.stderr)
    columns = [[each[name] for each in made] for name in ("first", "largest", "bytes")]
    first, largest, size = map(statistics.median, columns)
    medians = [f"{first:.0f}", f"{largest:.0f}", f"{size / 1000:.0f}", len(made[0]["requests"])]
    return [
        path,
        *medians,
        round(max(each["shift"] for each in made), 4),
        len(logged),
        len(foreign),
    ]


def table(heads: list[str], rows: list[list[Any]]) -> str:
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(map(str, each))} |" for each in [heads, rule, *rows]) + "\n"


def compare(options: argparse.Namespace) -> int:
    """Serves both checkouts at once and compares them."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    ports = free_ports(2)
    places = dict(zip(("before", "after"), (options.before.resolve(), TOP), strict=True))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {}
        for port, (name, place) in zip(ports, places.items(), strict=True):
            log = Path(folder) / name
            server = Server(gunicorn(place, port), port, log, folder=place)
            servers[name] = stack.enter_context(server)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        print(f"Chromium {browser.version}, {os.cpu_count()} cores\n")
        beside(browser, servers, options)
        browser.close()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="visits of each page")
    parser.add_argument("--strokes", type=int, default=50, help="times that each doing is timed")
    parser.add_argument("--slow", action="store_true", help="as on a phone and its network")
    parser.add_argument("--before", type=Path, metavar="DIR", help="a checkout to compare with")
    options = parser.parse_args()
    if options.before:
        return compare(options)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    visits, times = [], []
    (port,) = free_ports(1)
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(gunicorn(TOP, port), port, Path(folder) / "log"),
        sync_playwright() as playwright,
    ):
        base = f"http://127.0.0.1:{port}"
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for path in PAGES:
            made = []
            for _ in range(options.rounds):
                with visiting(browser, base, path, slow=options.slow) as (_, visit):
                    made.append(visit)
            visits.append(row(path, base, made))
        for path, doings in DOINGS.items():
            with visiting(browser, base, path, slow=options.slow) as (page, visit):
                for do in doings:
                    ms = do(page, options.strokes)
                    what = str(do.__doc__).rstrip(".")
                    both = (f"{percentile(ms, part):.0f}" for part in (0.5, 0.95))
                    times.append([f"{path}: {what}", len(ms), *both])
            visits.append([f"{path}, used", "", "", *row(path, base, [visit])[3:]])
        print(f"Chromium {browser.version}, {os.cpu_count()} cores\n")
        browser.close()
    heads = ["page", "first paint, ms", "largest paint, ms", "kB", "requests"]
    print(table([*heads, "layout shift", "logged", "to other hosts"], visits))
    print(table(["what", "times", "p50, ms", "p95, ms"], times))
    return int(any(fault for each in visits for fault in each[5:]))


if __name__ == "__main__":
    sys.exit(main())

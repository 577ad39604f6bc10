"""How much a model learns from corrections: pen strokes that it misread, reported and accepted.

    python benchmarks/corrections.py --data MNIST --strokes pen_digits.jsonl.gz

Half of the writers of each donor report: their strokes, each drawn once, are sent to /api/predict,
and 100 answers of each donor to /api/reports, the wrong ones first; each writer has an address of
its own. All reports are accepted, and `glimpse update` learns from them. The strokes of the other
half are sent to /api/predict before and after. Prints a Markdown table. MNIST is the folder of its
files; of the strokes, each line says `donor` and `file`, which stands for the writer.

With --poison N, one more reporter sends N strokes with random labels, straight into the database,
so that no limit of the API stops it.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import io
import json
import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from flask.testing import FlaskClient
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import model_store
from app import create_app
from reports import SAID, Database, Sent, open_database
from training import cli
from training.datasets import strokes


class Page:
    """What a page does: it asks for answers, and reports those that are wrong."""

    def __init__(self, client: FlaskClient, model: str, pens: np.random.Generator) -> None:
        self.client, self.model, self.pens = client, model, pens

    def answer(self, figure: strokes.Figure) -> tuple[dict[str, Any], str]:
        """The best answer to a figure, drawn with some pen, and the request's ID."""
        buffer = io.BytesIO()
        strokes.draw(figure.strokes, self.pens).save(buffer, "PNG")
        sent = self.client.post(
            f"/api/predict?seen=true&model={self.model}",
            data=buffer.getvalue(),
            content_type="image/png",
        )
        results = sent.get_json().get("results", [])
        empty = {"label": "", "verdict": "", "seen": ""}
        return (results[0] if len(results) == 1 else empty), sent.headers["X-Request-ID"]

    def is_right(self, figure: strokes.Figure) -> bool:
        """Whether its digit is the answer, and not refused."""
        result, _ = self.answer(figure)
        return bool(result["label"] == figure.label and result["verdict"] != "none")

    def report(self, label: str, result: dict[str, Any], answer: str, address: str) -> bool:
        """Reports an answer from that address; whether the report is kept."""
        report = {
            "answer": answer,
            "model": self.model,
            "label": label,
            "seen": result["seen"],
            "consent": True,
        }
        sent = self.client.post(
            "/api/reports", json=report, environ_overrides={"REMOTE_ADDR": address}
        )
        return bool(sent.status_code == 201)


def written(file: Path) -> list[tuple[strokes.Figure, str]]:
    """All figures with their writers."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        writers = [str(json.loads(line)["file"]) for line in lines]
    return list(zip(strokes.read(file), writers, strict=True))


def report_all(
    page: Page, figures: list[tuple[strokes.Figure, str]], wanted: int, addresses: dict[str, str]
) -> tuple[int, int]:
    """Reports `wanted` answers to the figures of one donor, wrong ones first; how many were wrong,
    and how many are reported.
    """
    told = []
    for figure, writer in figures:
        result, answer = page.answer(figure)
        if result["seen"]:
            told.append((result["label"] == figure.label, figure.label, result, answer, writer))
    told.sort(key=lambda each: each[0])
    kept = [
        not is_right
        for is_right, label, result, answer, writer in told[:wanted]
        if page.report(label, result, answer, addresses[writer])
    ]
    return sum(kept), len(kept)


def poison(database: Database, page: Page, figures: list[strokes.Figure], count: int) -> None:
    """Reports so many figures with random labels, from one address."""
    random = np.random.default_rng(7)
    for at in range(count):
        result, answer = page.answer(figures[int(random.integers(len(figures)))])
        if not result["seen"]:
            continue
        picture = base64.b64decode(result["seen"].partition(",")[2])
        said = str(random.integers(10))
        database.add(
            Sent(
                answer=f"{answer}.{at}", kind="report", model=page.model, version="", task="digit",
                predicted=result["label"], score=0.5, verdict="sure", entropy=1.0, said=said,
                picture=picture,
            ),
            "192.0.2.1", most=count, day=count,
        )  # fmt: skip


def right(page: Page, figures: list[strokes.Figure]) -> NDArray[np.bool_]:
    page.pens = np.random.default_rng(11)  # the same pens before and after
    return np.array([page.is_right(figure) for figure in figures])


def compare(
    figures: list[strokes.Figure], before: NDArray[np.bool_], after: NDArray[np.bool_]
) -> None:
    """Prints how many figures of each donor are wrong before and after."""
    donors = np.array([figure.donor for figure in figures])
    print("| strokes never reported | wrong before | after | change |\n| --- | --- | --- | --- |")
    for donor in [*np.unique(donors), "all"]:
        own = (donors == donor) | (donor == "all")
        wrong = [int((~each[own]).sum()) for each in (before, after)]
        change = f"{wrong[1] / wrong[0] - 1:+.0%}" if wrong[0] else ""
        print(f"| {own.sum()} of {donor} | {wrong[0]} | {wrong[1]} | {change} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, action="append")
    parser.add_argument("--strokes", type=Path, required=True)
    parser.add_argument("--donors", nargs="+", default=["syn", "apb", "app"])
    parser.add_argument("--model", type=Path, default=model_store.ROOT / "digits-baseline")
    parser.add_argument("--each", type=int, default=100, help="reports of each donor")
    parser.add_argument("--poison", type=int, default=0, metavar="N")
    parser.add_argument("--recipe", help="its [update] counts")
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)
    random = np.random.default_rng(5)
    figures = [each for each in written(chosen.strokes) if each[0].donor in chosen.donors]
    reporting: set[str] = set()
    for donor in chosen.donors:
        own = np.unique([writer for figure, writer in figures if figure.donor == donor])
        reporting |= set(random.permutation(own)[: len(own) // 2].tolist())
    addresses = {
        writer: f"10.0.{at // 200}.{at % 200 + 1}" for at, writer in enumerate(sorted(reporting))
    }
    held_back = [figure for figure, writer in figures if writer not in reporting]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        name = model_store.read_card(chosen.model).name
        shutil.copytree(chosen.model, folder / "store" / name)
        url = f"sqlite:///{folder / 'reports.sqlite'}"
        app = create_app(
            {"MODEL_STORE": str(folder / "store"), "REPORTS": url, "DEFAULT_MODEL": name}
        )
        page = Page(app.test_client(), name, np.random.default_rng(3))
        before = right(page, held_back)
        page.pens = np.random.default_rng(3)
        told: dict[str, tuple[int, int]] = {}
        for donor in chosen.donors:
            own_figures = [
                each for each in figures if each[0].donor == donor and each[1] in reporting
            ]
            own_figures = [own_figures[at] for at in random.permutation(len(own_figures))]
            told[donor] = report_all(page, own_figures, chosen.each, addresses)
        database = open_database(url)
        if chosen.poison:
            theirs = [figure for figure, writer in figures if writer in reporting]
            poison(database, page, theirs, chosen.poison)
        while new := database.page(limit=500).reports:
            database.decide([each.id for each in new], "accepted", SAID)
        started = time.process_time()
        arguments = ["update", name, "--reports", url, "--store", str(folder / "store")]
        arguments += ["--out", str(folder / "out")]
        arguments += [word for each in chosen.data for word in ("--data", str(each))]
        if chosen.recipe:
            arguments += ["--recipe", chosen.recipe]
        status = cli.main(arguments)
        took = time.process_time() - started
        print((folder / "out" / "report.txt").read_text(encoding="utf-8"))
        time.sleep(1.5)  # after which the server looks for a new version
        after = right(page, held_back)
    print(f"reported (wrong, all): {told}; exit status {status}; {took:.0f} s of processor time\n")
    compare(held_back, before, after)
    return 0


if __name__ == "__main__":
    sys.exit(main())

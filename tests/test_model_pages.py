"""The models' pages: what they say is what the models' folders hold."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from samples import ByInk, card, script

from app import charts, create_app
from app.texts import points
from model_store import ROOT, read_card, save
from training import cli, datasets, report
from training.datasets import Data
from training.datasets.parts import Part

BROWSER = {"Accept": "text/html,*/*;q=0.8"}
SVG = "{http://www.w3.org/2000/svg}"
ODD = "odd & <b>"

SIZE = 10
FIGURES = {
    **{
        str(digit): {"precision": 0.5, "recall": 0.25, "f1-score": 0.125, "support": 4.0}
        for digit in range(SIZE)
    },
    "confusion_matrix": [[4 if at == to else 0 for to in range(SIZE)] for at in range(SIZE)],
    "average_precision": [0.5] * SIZE,
    "precision_recall": [[[0.0, 1.0], [1.0, 0.5]]] * SIZE,
}
HISTORY = [
    {f"{part}_{what}": 0.5 for part in ("train", "validation") for what in ("loss", "accuracy")}
    for _ in range(3)
]


class Texts(HTMLParser):
    """The rows of each table by its `data-testid`, and all that a strict policy would refuse."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.refused, self.cell, self.rows = {}, [], None, None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        names = dict(attributes)
        self.refused += [name for name in names if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in names):
            self.refused.append(tag)
        if tag == "table":
            self.rows = self.tables.setdefault(names.get("data-testid"), [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")
            self.cell = self.rows[-1]

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell[-1] += data.strip()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A store with the shipped models for digits, one without a report, and one that is broken."""
    root = tmp_path_factory.mktemp("shelf")
    for name in ("digits", "digits-baseline"):
        (root / name).symlink_to(ROOT / name)
    save(script(ByInk()), card("bare", metrics={}), root / "bare")
    save(script(ByInk()), card("broken"), root / "broken")
    (root / "broken" / "model.pt").write_bytes(b"none")
    return root


@pytest.fixture(scope="module")
def client(shelf):
    return create_app({"MODEL_STORE": str(shelf)}).test_client()


@pytest.fixture
def odd(tmp_path):
    """Serves a model whose card and files are as given; returns the text of its page."""

    def serve(files, **changes):
        folder = tmp_path / ODD
        save(script(ByInk()), card(ODD, **changes), folder)
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name).write_bytes(text.encode(errors="surrogateescape"))
        client = create_app({"MODEL_STORE": str(tmp_path)}).test_client()
        assert client.get("/models").status_code == 200
        assert client.get("/models/compare").status_code == 200
        response = client.get("/models/odd%20&%20<b>")
        assert response.status_code == 200
        assert ODD not in response.text and "odd &amp; &lt;b&gt;" in response.text
        return response.text

    return serve


def figures_of(name):
    return json.loads((ROOT / name / "report.json").read_text())


def pictures(page, kind=r'[^"]*'):
    """The page's charts of a kind; a chart may hold another picture."""
    inner = r"<svg (?:(?!</svg>).)*</svg>"
    found = re.findall(rf'<svg class="chart {kind}"(?:{inner}|(?!</?svg).)*</svg>', page, re.S)
    return [ElementTree.fromstring(text) for text in found]


def test_the_list_names_every_model_and_why_one_is_out_of_use(client):
    page = client.get("/models").text
    for name in ("digits", "digits-baseline", "bare", "broken"):
        assert f'href="/models/{name}"' in page
    assert charts.percent(read_card(ROOT / "digits").metrics["test_accuracy"]) in page
    assert "SHA-256 differs" in page
    assert client.get("/models/").status_code == 200


def test_an_unknown_model_is_the_404_page(client):
    response = client.get("/models/cats", headers=BROWSER)
    assert response.status_code == 404
    assert response.mimetype == "text/html"
    assert "There is no model of that name" in response.text
    assert client.get("/models/compare?a=cats&b=digits").status_code == 404


@pytest.mark.parametrize("name", ["..", "..%2Fdigits", "%2e%2e/%2e%2e"])
def test_no_name_leaves_the_store(client, name):
    assert client.get(f"/models/{name}").status_code == 404


def test_a_model_that_cannot_be_used_says_why(client):
    response = client.get("/models/broken", headers=BROWSER)
    assert response.status_code == 503
    assert "This model cannot be used" in response.text
    assert "SHA-256 differs" in response.text


@pytest.mark.parametrize(
    "path", ["/models", "/models/digits", "/models/bare", "/models/broken", "/models/compare"]
)
def test_the_pages_hold_nothing_that_the_content_policy_refuses(client, path):
    assert Texts(client.get(path).text).refused == []


def test_the_page_says_what_the_card_says(client):
    page, told = client.get("/models/digits").text, read_card(ROOT / "digits")
    assert told.description in page
    assert all(limit in page for limit in told.limits)
    size, torch = f"{told.size / 1e6:.1f} MB", f"torch {told.libraries['torch']}"
    for value in (told.version, told.date, f"{told.parameters:,}", size, torch):
        assert value in page
    low, high = told.metrics["test_accuracy_interval"]
    assert f"{100 * low:.2f} to {100 * high:.2f}" in " ".join(page.split())
    again = f"train {told.recipe['name']} --data DIR1 --data DIR2 --name digits --publish"
    assert f"python -m training {again} --store STORE" in page
    assert "python -m app predict DIR --csv --store STORE<" in client.get("/batch").text
    shipped = create_app().test_client().get("/models/digits").text
    assert f"python -m training {again}<" in shipped
    measured = "evaluate model_store/digits --data DIR1 --data DIR2"
    assert f"python -m training {measured}<" in shipped


def test_the_table_of_classes_is_the_report(client):
    figures = figures_of("digits")
    _, *rows, mean = Texts(client.get("/models/digits").text).tables["classes"]
    for row in [*rows, mean]:
        told = figures["macro avg" if row[0] == "Mean" else row[0]]
        shares = [f"{told[name]:.4f}" for name in ("precision", "recall", "f1-score")]
        assert row[1:] == [*shares, f"{int(told['support']):,}"]
    assert len(rows) == 10


def test_the_matrix_and_its_table_hold_the_counts_of_the_report(client):
    page, counts = client.get("/models/digits").text, figures_of("digits")["confusion_matrix"]
    (drawn,) = pictures(page, "matrix")
    cells = iter(drawn.findall("g"))
    for row in counts:
        for count in row:
            cell = next(cells)
            text = cell.find("text")
            assert (int(text.text) if text is not None else 0) == count
            assert f": {count:,} of {sum(row):,}" in cell.find("title").text
    _, *rows = Texts(page).tables["matrix"]
    assert [[int(count) for count in row[1:]] for row in rows] == counts


def test_the_curves_hold_every_epoch(client):
    history = json.loads((ROOT / "digits" / "history.json").read_text())
    page = client.get("/models/digits").text
    (drawn,) = pictures(page, "curve-accuracy")
    training, validation = drawn.findall("polyline")
    assert len(training.get("points").split()) == len(history)
    heights = [float(point.split(",")[1]) for point in validation.get("points").split()]
    accuracies = [epoch["validation_accuracy"] for epoch in history]
    assert heights.index(min(heights)) == accuracies.index(max(accuracies))
    _, *rows = Texts(page).tables["epochs"]
    assert [row[2] for row in rows] == [f"{accuracy:.4f}" for accuracy in accuracies]


def test_each_class_has_its_precision_recall_curve(client):
    page, figures = client.get("/models/digits").text, figures_of("digits")
    for digit, curve in enumerate(figures["precision_recall"]):
        (drawn,) = pictures(page, f"curve-{digit}")
        assert len(drawn.find("svg/polyline").get("points").split()) == len(curve)
        assert f"AP {figures['average_precision'][digit]:.4f}" in page


def test_every_chart_has_a_title_and_a_description(client):
    page = client.get("/models/digits").text
    drawn = pictures(page)
    assert len(drawn) == 1 + 1 + 1 + 2 + 10
    ids = [element.get("id") for chart in drawn for element in chart.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    for chart in drawn:
        title, text = chart.find("title"), chart.find("desc")
        assert chart.get("role") == "img" and title.text and text.text
        assert chart.get("aria-labelledby") == title.get("id")
        assert chart.get("aria-describedby") == text.get("id")


def test_the_hardest_pictures_are_shown_with_what_was_said(client):
    page = client.get("/models/digits").text
    told = json.loads((ROOT / "digits" / "hardest.json").read_text())
    assert len(told["pictures"]) == 24
    assert told["credit"] in page
    assert all(hard["picture"] in page for hard in told["pictures"])
    # The hardest are nearly all wrong; a right one among them was a close call.
    right = [hard for hard in told["pictures"] if hard["label"] == hard["prediction"]]
    assert len(right) <= 4
    assert all(hard["score"] < 0.6 for hard in right)


def test_no_picture_of_a_face_is_in_the_store():
    for folder in ROOT.iterdir():
        if (folder / "card.json").exists() and read_card(folder).task == "face":
            assert not (folder / "hardest.json").exists()


def test_a_model_with_nothing_but_a_card_has_a_page(client):
    page = client.get("/models/bare").text
    assert "/api/predict?model=bare" in page
    assert pictures(page) == []
    assert "Train it again" not in page


ODD_FILES = {
    "no JSON": {"report.json": "{", "history.json": "nan", "hardest.json": ""},
    "no end": {"report.json": '{"a": ' + "[" * 100_000, "hardest.json": "["},
    "no UTF-8": {"report.json": '{"\udcff": 1}'},
    "other kinds": {"report.json": [1], "history.json": {"a": 1}, "hardest.json": "5"},
    "no numbers": {
        "report.json": {**FIGURES, "confusion_matrix": [["a"]], "precision_recall": [[["x", 1]]]},
        "history.json": [{**HISTORY[0], "train_loss": "NaN"}],
        "hardest.json": {"pictures": [{"label": 1}]},
    },
    "other sizes": {
        "report.json": {**FIGURES, "confusion_matrix": [[1, 2]], "precision_recall": [[]]},
        "hardest.json": {"pictures": [{"label": "1", "picture": "https://else/a.png"}]},
    },
    "out of range": {
        "report.json": '{"0": {"precision": 7}, "confusion_matrix": [[1e999]]}',
        "history.json": '[{"train_loss": 1e999, "validation_loss": -1e999}]',
    },
    "whole": {"report.json": FIGURES, "history.json": HISTORY},
    "one epoch, all right": {"history.json": [dict.fromkeys(HISTORY[0], 1)]},
    "no mistake, no picture": {"report.json": {**FIGURES, "confusion_matrix": [[0] * SIZE] * SIZE}},
}


@pytest.mark.parametrize("name", ODD_FILES)
def test_odd_files_leave_their_part_out(odd, name):
    page = odd(ODD_FILES[name])
    assert ("What it confuses" in page) == (name in ("whole", "no mistake, no picture"))
    assert ("How it learnt" in page) == (name in ("whole", "one epoch, all right"))
    assert "https://else" not in page


ODD_CARDS = {
    "no figures": {"metrics": {"test_accuracy": "high", "test_recall": 1, "train_seconds": "x"}},
    "not a share": {"metrics": {"test_accuracy": 99.1, "test_accuracy_interval": [1]}},
    "other interval": {"metrics": {"test_accuracy": 0.5, "test_accuracy_interval": [0.6, "b"]}},
    "large": {"metrics": {"test_accuracy": 1, "train_seconds": 10**400, "epochs": 10**30}},
    "odd recipe": {"recipe": {"name": "a; rm -rf /", "data": [], "network": 1, "fine_tune": 2}},
    "odd labels": {"labels": ["<script>alert(1)</script>", *" " * 8, "ß" * 300]},
    "odd rest": {"data": {"name": 5, "test": -1, "split": []}, "libraries": {"a": ""}},
    "odd limits": {"limits": ["<i>"], "date": "", "version": ""},
}


@pytest.mark.parametrize("name", ODD_CARDS)
def test_an_odd_card_has_a_page(odd, name):
    files = {"report.json": FIGURES, "history.json": HISTORY} if name == "odd labels" else {}
    page = odd(files, **ODD_CARDS[name])
    assert "<script>alert" not in page and "<i>" not in page
    assert "Train it again" not in page


def test_no_page_reads_a_models_files_again(tmp_path):
    names = ("digits", "digits-baseline")
    for name in names:
        shutil.copytree(ROOT / name, tmp_path / name)
    client = create_app({"MODEL_STORE": str(tmp_path)}).test_client()
    paths = ("/models", "/models/digits", "/models/compare")
    pages = [client.get(path).text for path in paths]
    assert "What it confuses" in pages[1] and "The hardest test pictures" in pages[1]
    for name in names:
        shutil.rmtree(tmp_path / name)
    assert [client.get(path).text for path in paths] == pages


def test_two_models_are_compared_by_figures_and_recalls(client):
    page = client.get("/models/compare?a=digits&b=digits-baseline").text
    tables = Texts(page).tables
    lines = {row[0]: row[1:] for row in tables["lines"]}
    cards = [read_card(ROOT / name) for name in ("digits", "digits-baseline")]
    accuracies = [each.metrics["test_accuracy"] for each in cards]
    first, second = map(charts.percent, accuracies)
    assert lines["Test accuracy"][:2] == [f"{first}better", second]
    assert lines["Test accuracy"][2] == f"{points(accuracies[1] - accuracies[0])} points"
    assert lines["Parameters"][:2] == [f"{each.parameters:,}" for each in cards]
    _, *rows = tables["recalls"]
    for digit, row in enumerate(rows):
        first, second = (each.metrics["test_recall"][digit] for each in cards)
        shown = [charts.percent(first), charts.percent(second)]
        if first != second:
            shown[first < second] += "better"
        assert row[:3] == [str(digit), *shown]
        assert float(row[3].replace("−", "-")) == pytest.approx(100 * (second - first), abs=0.006)
    assert "on the same pictures" in page
    assert len(pictures(page)) == 2


def test_a_comparison_says_where_labels_or_tests_differ(tmp_path):
    save(script(ByInk()), card("digits", data={"test": 5}), tmp_path / "digits")
    save(script(ByInk()), card("other", data={"test": 7}), tmp_path / "other")
    letters = [chr(ord("a") + index) for index in range(10)]
    save(script(ByInk()), card("letters", labels=letters), tmp_path / "letters")
    client = create_app({"MODEL_STORE": str(tmp_path)}).test_client()
    assert "different pictures" in client.get("/models/compare?a=digits&b=other").text
    assert "different labels" in client.get("/models/compare?a=digits&b=letters").text
    assert "the same model" in client.get("/models/compare?a=digits&b=digits").text
    page = client.get("/models/compare?a=digits").text  # the other is the one of the same labels
    assert "<option selected>other" in page
    assert "Compare with other" in client.get("/models/digits").text
    assert "Compare with letters" not in client.get("/models/digits").text


def test_a_comparison_needs_two_models(tmp_path):
    save(script(ByInk()), card(), tmp_path / "digits")
    client = create_app({"MODEL_STORE": str(tmp_path)}).test_client()
    page = client.get("/models/compare").text
    assert "needs two models" in page
    assert "/models/compare" not in client.get("/models").text


def test_an_empty_store_says_how_to_fill_it(tmp_path):
    client = create_app({"MODEL_STORE": str(tmp_path)}).test_client()
    assert "python -m training train digits --publish" in client.get("/models").text


def test_a_difference_is_in_points():
    assert [points(x) for x in (0.006, -0.006, 0.00001)] == ["+0.60", "−0.60", "0"]


def test_an_axis_shows_the_least_value_well():
    assert charts.floor(0.9953) == 0.99
    assert charts.floor(0.956) == 0.95
    assert charts.floor(0.4) == charts.floor(0) == 0


@pytest.mark.parametrize("classes", [1, 2, 25])
def test_a_matrix_of_any_size_is_drawn_within_its_picture(classes):
    counts = [[1] * classes for _ in range(classes)]
    drawn = ElementTree.fromstring(charts.matrix(counts, ["a label"] * classes, []))
    _, _, width, height = map(float, drawn.get("viewBox").split())
    for cell in drawn.iter("rect"):
        assert float(cell.get("x")) + float(cell.get("width")) <= width
        assert float(cell.get("y")) + float(cell.get("height")) <= height


def test_a_curve_in_a_report_is_the_measured_one_in_few_points():
    chooser = np.random.default_rng(0)
    truth = chooser.integers(0, 2, 5000)
    score = np.clip(truth * 0.2 + chooser.normal(0.4, 0.15, 5000), 0, 1)
    chances = np.stack([1 - score, score, np.zeros(5000)], 1).astype(np.float32)
    *curves, none = report.precision_recall(truth, chances)
    assert none is None
    for label, curve in enumerate(curves):
        recall, precision = np.array(curve).T
        assert 20 < len(curve) <= report.POINTS
        assert (np.diff(recall) >= 0).all() and recall[0] == 0 and recall[-1] == 1
        area = np.sum(np.diff(recall) * (precision[1:] + precision[:-1]) / 2)
        assert area == pytest.approx(report.average_precision(truth, chances)[label], abs=0.005)


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A model of a data set, its test pictures at hand; returns its folder."""

    def make(data, accuracy):
        pictures = torch.arange(0, 250, 2, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 28, 28)
        labels = (pictures[:, 0, 0, 0] / 25.5).round().long().clamp_max(8)  # a nine is mistaken
        part = Part(pictures, labels)
        given = Data([str(digit) for digit in range(10)], part, part, part, {})
        monkeypatch.setattr(datasets, "load", lambda *_: given)
        recipe, metrics = {"data": {"name": data}}, {"test_accuracy": accuracy}
        save(script(ByInk()), card(recipe=recipe, metrics=metrics), tmp_path / "digits")
        return tmp_path / "digits"

    return make


RIGHT = 109 / 125  # the nines and some of the eights are mistaken


def test_evaluate_writes_the_report_again_and_the_hardest_pictures(measured, capsys):
    folder = measured("mnist", RIGHT)
    assert cli.main(["evaluate", str(folder), "--write", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == RIGHT
    told = json.loads((folder / "report.json").read_text())
    assert told["accuracy"] == RIGHT
    assert np.sum(told["confusion_matrix"]) == 125
    hardest = json.loads((folder / "hardest.json").read_text())
    assert "CC BY-SA" in hardest["credit"]
    assert len(hardest["pictures"]) == 24
    assert hardest["pictures"][0]["label"] == "8"
    assert hardest["pictures"][0]["prediction"] != "8"


def test_pictures_of_other_data_are_never_written(measured):
    folder = measured("folders", RIGHT)
    (folder / "hardest.json").write_text("an older run's")
    assert cli.main(["evaluate", str(folder), "--write"]) == 0
    assert (folder / "report.json").exists()
    assert not (folder / "hardest.json").exists()


def test_a_report_of_another_test_is_not_written(measured, capsys):
    folder = measured("mnist", 0.5)
    assert cli.main(["evaluate", str(folder), "--write"]) == 2
    assert "is of another test" in capsys.readouterr().err
    assert cli.main(["evaluate", str(folder), "--write", "--split", "validation"]) == 2
    assert not (folder / "report.json").exists()


@pytest.mark.parametrize("path", ["/faces/", "/models/", "/models/digits/", "/docs/"])
def test_a_slash_at_the_end_leads_to_the_same_page(client, path):
    assert client.get(path).status_code == 200

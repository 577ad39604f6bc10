"""Pen strokes as a data set, further sources, and networks that reject."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from training import datasets
from training.datasets import doodles, strokes
from training.datasets.parts import Data, Part, joined, relabelled
from training.errors import TrainingError
from training.recipe import DataRecipe

SHAPES = {
    "7": [[[0, 0], [50, 0], [50, 1], [20, 80]]],
    "1": [[[0, 0], [1, 40], [0, 80]]],
    "4": [[[20, 0], [0, 45], [50, 45]], [[40, 20], [40, 90]]],
    "A": [[[0, 90], [30, 0], [60, 90]], [[15, 50], [45, 50]]],
    "o": [[[0, 0], [9, 9]]],
}


@pytest.fixture(scope="module")
def pens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the strokes of three donors, eight of each shape."""
    folder = tmp_path_factory.mktemp("pens")
    lines = [
        json.dumps({"label": label, "strokes": shape, "donor": donor, "file": "a.dat"})
        for donor in ("one", "two", "six")
        for label, shape in SHAPES.items()
        for _ in range(8)
    ]
    with gzip.open(folder / "pens.jsonl.gz", "wt") as file:
        file.write("\n".join(lines))
    return folder


PENS = DataRecipe(name="strokes", split="subject", folds=3, drawings=2, doodles=30, reject="none")


@pytest.fixture(scope="module")
def data(pens: Path) -> Data:
    return datasets.load(PENS, pens, "digit")


def test_strokes_are_drawn_and_prepared_as_in_serving(data: Data):
    assert data.labels == list("0123456789")
    assert data.rejects
    assert data.outputs == 11
    parts = (data.training, data.validation, data.test)
    # Three digits and a letter, twice each; an o looks like a zero.
    assert sum(map(len, parts)) == 3 * 4 * 8 * 2 + 30
    for part in parts:
        assert part.shape == (1, 28, 28)
        assert set(part.labels.tolist()) == {1, 4, 7, 10}
        longest = (part.pictures > 60).any(dim=3).sum(dim=2).max(dim=1).values
        assert (longest <= 22).all()
    assert len(set(map(bytes, data.training.digests))) == len(data.training), "drawn otherwise"
    assert data.description["credit"] == strokes.CREDIT


def test_no_donor_is_in_two_parts(pens: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[list[str]] = []
    by_fold = datasets.divide

    def noted(given, recipe):
        assert given.subjects == [*(donor for donor in given.subjects)]
        seen.append(sorted(set(given.subjects)))
        return by_fold(given, recipe)

    monkeypatch.setattr(datasets, "divide", noted)
    found = datasets.load(replace(PENS, doodles=0, drawings=1), pens, "digit")
    assert seen == [["one", "six", "two"]]
    assert [len(part) for part in (found.training, found.validation, found.test)] == [32] * 3


def test_the_same_seed_draws_the_same(pens: Path, data: Data):
    again = datasets.load(PENS, pens, "digit")
    assert again.fingerprint == data.fingerprint
    other = datasets.load(replace(PENS, split_seed=1), pens, "digit")
    assert other.fingerprint != data.fingerprint


UNIPEN = """.VERSION 1.0
.COORD T X Y
.INCLUDE hands/pen.dat
.SEGMENT CHARACTER 0 ? "7"
.SEGMENT CHARACTER 1-2 OK "4"
.SEGMENT CHARACTER 2:0-2:1 ? "1"
.SEGMENT WORD 0-2 ? "74"
.SEGMENT CHARACTER 9 ? "5"
"""
PEN = """.PEN_DOWN
0 0 80
1 50 80
2 20 0
.PEN_UP
3 7 7
.DT 100
.PEN_DOWN
4 20 90
5 0 45
6 50 45
.PEN_UP
.PEN_DOWN
7 40 70
8 40 0
.PEN_UP
"""


def test_unipens_own_files_are_read(tmp_path: Path):
    place = tmp_path / "CDROM" / "train_r01_v07"
    for name, text in (("data/1a/abc/abc.dat", UNIPEN), ("include/hands/pen.dat", PEN)):
        (place / name).parent.mkdir(parents=True)
        (place / name).write_text(text)
    found = strokes.read(tmp_path)
    assert [(each.label, each.donor, len(each.strokes)) for each in found] == [
        ("7", "abc", 1),
        ("4", "abc", 2),
    ]
    np.testing.assert_array_equal(found[0].strokes[0], [[0, -80], [50, -80], [20, 0]])


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", '{"label": "7"}\n', "line 1: no label and strokes"),
        ("a.jsonl", '{"label": "7", "strokes": [[[1, "x"]]]}\n', "correct or remove it"),
        ("a.jsonl", '{"label": "7", "strokes": []}\n', "no points"),
        ("a.jsonl.gz", "no gzip", "damaged"),
        ("a.txt", "", "wanted is a folder with .jsonl.gz"),
    ],
)
def test_what_is_wrong_with_strokes_is_said(tmp_path: Path, name: str, content: str, told: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(TrainingError, match=told):
        datasets.load(PENS, tmp_path, "digit")


def test_every_doodle_can_be_drawn():
    random = np.random.default_rng(0)
    for doodle in doodles.DOODLES:
        for _ in range(8):
            picture = strokes.draw([doodles.shaky(each, random) for each in doodle(random)], random)
            assert np.ptp(np.asarray(picture)) > 100, doodle.__name__


def part(labels: list[int], *, first: int = 0, shares: torch.Tensor | None = None) -> Part:
    pictures = torch.arange(first, first + len(labels)).byte().view(-1, 1, 1, 1)
    return Part(pictures, torch.tensor(labels), shares)


def whole(labels: list[str], name: str, *parts: Part) -> Data:
    return Data(labels, *parts, {"name": name, "training": len(parts[0]), "validation": 1})


def test_a_further_sources_labels_are_the_datas():
    first = whole(["a", "b"], "first", part([0, 1]), part([0]), part([1]))
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    other = whole(
        ["b", "x", "a"], "other", part([0, 2], first=10, shares=shares), part([1]), part([2, 1, 0])
    )
    data = joined(first, relabelled(other, first.labels), "other")
    assert data.training.labels.tolist() == [0, 1, 1, 0]
    assert data.training.pictures.flatten().tolist() == [0, 1, 10, 11]
    assert data.training.shares is not None
    assert data.training.shares.tolist() == [[1, 0], [0, 1], [0.25, 0.5], [0, 0]]
    assert data.validation.labels.tolist() == [0]
    assert data.test.labels.tolist() == [1]
    assert data.others["other"].labels.tolist() == [0, 1]
    assert data.description["also"][0]["other_classes_left_out"] == 2
    assert data.description["training"] == 4


def test_a_source_of_other_classes_alone_is_refused():
    first = whole(["a"], "first", part([0]), part([0]), part([0]))
    with pytest.raises(TrainingError, match="name its classes so"):
        relabelled(first, ["b"])


def test_more_places_than_sources_are_refused(pens: Path):
    with pytest.raises(TrainingError, match=r"given 2 times.*1 source"):
        datasets.load(PENS, [pens, pens], "digit")


def test_a_sources_place_must_be_given():
    with pytest.raises(TrainingError, match="cannot be downloaded"):
        datasets.load(PENS, None, "digit")

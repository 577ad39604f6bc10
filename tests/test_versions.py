"""Versions of a model: kept, named, chosen, and taken by a server that runs."""

from __future__ import annotations

import pytest
import torch
from samples import card, script

import model_store
from model_store import StoreError, save


class Constant(torch.nn.Module):
    """Answers with one digit, whose score tells two versions apart."""

    def __init__(self, digit: int, score: float = 0.55):
        super().__init__()
        scores = torch.full((10,), (1 - score) / 9)
        scores[digit] = score
        self.register_buffer("scores", scores)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.scores.expand(pictures.size(0), 10).contiguous()


def version(digit, day=1):
    return f"2026.02.{day:02}-{digit:07}"


def made(place, digit, day=1, **changes):
    """A checkpoint in `place` that answers `digit`; its version."""
    values = {"version": version(digit, day), "date": f"2026-02-{day:02}", **changes}
    save(script(Constant(digit)), card(**values), place)
    return values["version"]


def corrupt(folder):
    content = bytearray((folder / "model.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.pt").write_bytes(content)


@pytest.fixture
def digits(tmp_path):
    """A model that shipped flat, with the two versions 2 and 3, of which neither is current."""
    folder = tmp_path / "store" / "digits"
    made(folder, 1, 1)
    for digit in (3, 2):
        made(tmp_path / "run", digit, digit)
        model_store.add_version(tmp_path / "run", folder, use=False)
    return folder


# The store.


def test_versions_are_told_oldest_first(digits):
    assert model_store.versions(digits) == [version(1, 1), version(2, 2), version(3, 3)]
    assert model_store.folders(digits.parent) == [digits]


def test_a_flat_version_serves_until_another_is_chosen(digits):
    assert model_store.current_folder(digits) == digits
    model_store.use(digits, version(3, 3))
    assert model_store.current_folder(digits) == digits / "versions" / version(3, 3)
    assert model_store.current_version(digits) == version(3, 3)
    model_store.use(digits, version(1, 1))
    assert model_store.current_folder(digits) == digits


def test_without_a_flat_one_the_newest_serves(digits):
    for name in ("model.pt", "card.json"):
        (digits / name).unlink()
    assert model_store.folders(digits.parent) == [digits]
    assert model_store.current_version(digits) == version(3, 3)


def test_a_version_is_loaded_and_named(digits):
    folder = model_store.version_folder(digits, version(2, 2))
    module, found = model_store.load(folder)
    assert found.version == version(2, 2)
    assert module(torch.zeros(1, 1, 28, 28, dtype=torch.uint8)).argmax() == 2
    corrupt(folder)
    with pytest.raises(StoreError, match=f"^digits@{version(2, 2)}: .*SHA-256"):
        model_store.load(folder)


@pytest.mark.parametrize(
    "name", ["..", "../digits", ".", "", "/etc", "a/b", "a\\b", ".hidden", "2026.02.09-0000009"]
)
def test_a_name_that_is_no_version_s_finds_nothing(digits, name):
    with pytest.raises(StoreError, match=r"there is no version .* its versions are: 2026"):
        model_store.version_folder(digits, name)
    with pytest.raises(StoreError, match="there is no version"):
        model_store.use(digits, name)
    (digits / "current").write_text(name)
    with pytest.raises(StoreError, match="glimpse models use digits@VERSION"):
        model_store.current_folder(digits)


@pytest.mark.parametrize("name", ["../../outside", "a/b", ".hidden", "", "x" * 101])
def test_a_version_that_cannot_name_a_folder_is_not_added(digits, tmp_path, name):
    made(tmp_path / "odd", 4, version=name)
    before = sorted(digits.rglob("*"))
    with pytest.raises(StoreError, match="cannot name a folder"):
        model_store.add_version(tmp_path / "odd", digits)
    assert sorted(digits.rglob("*")) == before


def test_names_are_split_at_the_version():
    assert model_store.split_name("digits") == ("digits", None)
    assert model_store.split_name("digits@2026.02.01-1") == ("digits", "2026.02.01-1")
    assert model_store.split_name("digits@") == ("digits", "")


def test_a_version_that_is_not_whole_is_not_chosen(digits):
    model_store.use(digits, version(2, 2))
    corrupt(digits / "versions" / version(3, 3))
    with pytest.raises(StoreError, match="SHA-256"):
        model_store.use(digits, version(3, 3))
    assert model_store.current_version(digits) == version(2, 2)


def test_what_is_added_is_used_and_brings_its_report(digits, tmp_path):
    made(tmp_path / "new", 5, 5)
    for name in ("report.json", "curves.png", "state.pt", "current", "notes.md"):
        (tmp_path / "new" / name).write_text("{}")
    place = model_store.add_version(tmp_path / "new", digits)
    assert place == digits / "versions" / version(5, 5) == model_store.current_folder(digits)
    assert {file.name for file in place.iterdir()} == {
        "card.json", "model.pt", "report.json", "curves.png",
    }  # fmt: skip
    assert {path.name for path in (digits / "versions").iterdir()} == set(
        model_store.versions(digits)[1:]
    )


def test_the_same_version_again_replaces_it(digits, tmp_path):
    made(tmp_path / "new", 5, 5)
    (tmp_path / "new" / "report.txt").write_text("first")
    place = model_store.add_version(tmp_path / "new", digits)
    named = (digits / "current").stat()
    (tmp_path / "new" / "report.txt").write_text("second")
    model_store.add_version(tmp_path / "new", digits, use=False)
    assert (place / "report.txt").read_text() == "second"
    assert (digits / "current").stat().st_ino != named.st_ino  # servers look again
    assert model_store.versions(digits)[-1] == version(5, 5)


def test_what_does_not_fit_is_not_added(digits, tmp_path):
    made(tmp_path / "new", 5, 5, name="letters")
    with pytest.raises(StoreError, match="it is the model letters, not digits"):
        model_store.add_version(tmp_path / "new", digits)
    made(tmp_path / "new", 5, 5)
    corrupt(tmp_path / "new")
    with pytest.raises(StoreError, match="SHA-256"):
        model_store.add_version(tmp_path / "new", digits)
    assert len(model_store.versions(digits)) == 3


def test_a_full_disk_leaves_the_versions_as_they_were(digits, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    made(tmp_path / "new", 5, 5)
    before = sorted(digits.rglob("*"))
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match="No space"):
        model_store.add_version(tmp_path / "new", digits)
    assert sorted(digits.rglob("*")) == before


def test_pruning_keeps_the_newest_and_what_serves(digits, tmp_path):
    for digit in (4, 5, 6):
        made(tmp_path / "new", digit, digit)
        model_store.add_version(tmp_path / "new", digits)
    model_store.use(digits, version(2, 2))
    assert model_store.prune(digits, 9) == []
    assert model_store.prune(digits, 3) == [version(3, 3), version(4, 4)]
    assert model_store.prune(digits, 1) == [version(5, 5), version(6, 6)]
    assert model_store.versions(digits) == [version(1, 1), version(2, 2)]
    assert model_store.prune(digits, 0) == []

"""Versions of a model: kept, named, chosen, and taken by a server that runs."""

from __future__ import annotations

import base64
import io
import shutil
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import card, encode, script, seven

import model_store
from app import create_app, models
from app.__main__ import main
from model_store import StoreError, save
from training.api import checkpoint_folder
from training.errors import TrainingError


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
    made(tmp_path / "first", 5, 5)
    with pytest.raises(OSError, match="No space"):  # of a model that is not there yet
        model_store.add_version(tmp_path / "first", digits.parent / "other" / "digits")
    assert not (digits.parent / "other" / "digits").exists()


def test_a_version_that_cannot_be_replaced_stays(digits, tmp_path, monkeypatch):
    made(tmp_path / "new", 3, 3)
    (tmp_path / "new" / "report.txt").write_text("New")
    before, rename = sorted(digits.rglob("*")), Path.rename

    def refuse(source, target):
        if source.joinpath("report.txt").exists():
            raise OSError(13, "Permission denied")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Permission denied"):
        model_store.add_version(tmp_path / "new", digits)
    assert sorted(digits.rglob("*")) == before


def test_a_full_disk_leaves_what_is_current(digits, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    model_store.use(digits, version(2, 2))
    before = sorted(digits.rglob("*"))
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        model_store.use(digits, version(3, 3))
    assert model_store.current_version(digits) == version(2, 2)
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


# A server that runs.


PICTURE = {"data": encode(seven()), "content_type": "image/png"}


@pytest.fixture
def served(digits, monkeypatch):
    """A client of an app that serves `digits` and looks at its store at each request."""
    monkeypatch.setattr(models, "LOOK_EVERY", 0)
    return create_app({"MODEL_STORE": str(digits.parent)}).test_client()


def answer(client, model="digits"):
    """The version and the label of an answer."""
    told = client.post("/api/predict", query_string={"model": model}, **PICTURE).get_json()
    assert told["model"] == "digits"
    return told["version"], told["results"][0]["label"]


def add(digits, tmp_path, digit, day, **changes):
    shutil.rmtree(tmp_path / "new", ignore_errors=True)
    made(tmp_path / "new", digit, day, **changes)
    return model_store.add_version(tmp_path / "new", digits)


def left_out(client):
    """What is named as left out, which all places tell alike."""
    told = client.get("/readyz").get_json()["unavailable"]
    listed = client.get("/api/models").get_json()["unavailable"]
    assert told == {each["name"]: each["reason"] for each in listed}
    return told


def test_a_server_takes_the_version_that_is_chosen(served, digits):
    assert answer(served) == (version(1, 1), "1")
    model_store.use(digits, version(3, 3))
    assert answer(served) == (version(3, 3), "3")
    assert served.get("/api/models/digits").get_json()["version"] == version(3, 3)
    model_store.use(digits, version(1, 1))
    assert answer(served) == (version(1, 1), "1")


def test_it_looks_once_a_second(digits, monkeypatch):
    clock = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    client = create_app({"MODEL_STORE": str(digits.parent)}).test_client()
    model_store.use(digits, version(3, 3))
    clock += 0.9
    assert answer(client) == (version(1, 1), "1")
    clock += 0.2
    assert answer(client) == (version(3, 3), "3")


def test_a_version_that_fails_stays_out_until_it_is_chosen_again(served, digits, tmp_path):
    place = add(digits, tmp_path, 4, 4)
    good = (place / "model.pt").read_bytes()
    corrupt(place)
    assert answer(served) == (version(1, 1), "1")
    name = f"digits@{version(4, 4)}"
    assert list(left_out(served)) == [name]
    assert "SHA-256" in left_out(served)[name]
    assert served.get("/readyz").status_code == 200
    assert name in served.get("/models").text
    assert served.get(f"/models/{name}").status_code == 503
    figure = f'glimpse_model_refused{{model="digits",version="{version(4, 4)}"}}'
    assert f"{figure} 1.0" in served.get("/metrics").text
    refusal = served.post(f"/api/predict?model={name}", **PICTURE)
    assert refusal.status_code == 503
    assert "SHA-256" in refusal.get_json()["detail"]
    (place / "model.pt").write_bytes(good)
    assert answer(served) == (version(1, 1), "1")
    model_store.use(digits, version(4, 4))
    assert answer(served) == (version(4, 4), "4")
    assert left_out(served) == {}
    assert f"{figure} 0.0" in served.get("/metrics").text


def test_a_server_starts_with_another_version_where_the_chosen_one_fails(digits, tmp_path):
    corrupt(add(digits, tmp_path, 4, 4))
    client = create_app({"MODEL_STORE": str(digits.parent)}).test_client()
    assert answer(client) == (version(3, 3), "3")
    assert list(left_out(client)) == [f"digits@{version(4, 4)}"]


def test_a_current_version_that_is_gone_is_named(served, digits):
    model_store.use(digits, version(3, 3))
    assert answer(served) == (version(3, 3), "3")
    shutil.rmtree(digits / "versions" / version(3, 3))
    (digits / "current").write_text(version(3, 3))
    assert answer(served) == (version(3, 3), "3")
    assert "choose another" in left_out(served)["digits@current"]
    (digits / "current").unlink()
    assert answer(served) == (version(1, 1), "1")
    assert left_out(served) == {}


def test_a_network_that_answers_otherwise_than_when_it_was_made_stays_out(served, digits, tmp_path):
    made(tmp_path / "new", 4, 4)
    pictures = np.zeros((20, 1, 28, 28), np.uint8)
    rows = np.full((8, 10), 0.05, np.float32)
    rows[:, 4] = 0.55 + 0.009
    model_store.write_probe(tmp_path / "new", pictures, lambda batch: rows[: len(batch)])
    model_store.add_version(tmp_path / "new", digits)
    assert answer(served) == (version(4, 4), "4")
    made(tmp_path / "new", 5, 5)
    model_store.add_version(tmp_path / "new", digits)
    assert answer(served) == (version(4, 4), "4")
    assert "probe.json as when it was made" in left_out(served)[f"digits@{version(5, 5)}"]
    (tmp_path / "new" / "probe.json").write_text('{"shape": [1, 1, 28, 28], "pictures": "AAAA"}')
    model_store.add_version(tmp_path / "new", digits)
    assert answer(served) == (version(4, 4), "4")
    assert "probe.json is not valid" in left_out(served)[f"digits@{version(5, 5)}"]


def test_models_come_and_go(served, digits):
    letters = digits.parent / "letters"
    assert served.get("/models/letters").status_code == 404
    letters.mkdir()
    (letters / "notes.md").write_text("soon")
    assert left_out(served) == {}
    made(letters, 7, 7, name="letters")
    good = (letters / "model.pt").read_bytes()
    corrupt(letters)  # half copied
    assert "SHA-256" in left_out(served)["letters"]
    (letters / "model.pt").write_bytes(good)
    assert served.get("/models/letters").status_code == 200
    assert served.get("/readyz").get_json()["models"] == ["digits", "letters"]
    shutil.rmtree(letters)
    assert served.get("/models/letters").status_code == 404
    assert answer(served) == (version(1, 1), "1")


def test_a_store_that_is_away_changes_nothing(served, digits):
    away = digits.parent.rename(digits.parent.with_name("away"))
    assert answer(served) == (version(1, 1), "1")
    digits.parent.mkdir()  # where it is mounted
    assert answer(served) == (version(1, 1), "1")
    digits.parent.rmdir()
    away.rename(digits.parent)
    model_store.use(digits, version(3, 3))
    assert answer(served) == (version(3, 3), "3")


def test_any_version_answers_to_its_name(served, digits):
    name = f"digits@{version(2, 2)}"
    assert answer(served, name) == (version(2, 2), "2")
    assert answer(served, f"digits@{version(1, 1)}") == (version(1, 1), "1")
    image = base64.b64encode(PICTURE["data"]).decode()
    told = served.post("/api/predict", json={"image": image, "model": name}).get_json()
    assert told["version"] == version(2, 2)
    form = {"file": (io.BytesIO(PICTURE["data"]), "seven.png"), "model": name}
    assert served.post("/api/predict", data=form).get_json()["version"] == version(2, 2)
    assert served.get(f"/api/models/{name}").get_json()["version"] == version(2, 2)
    assert version(2, 2) in served.get(f"/models/{name}").text
    assert answer(served) == (version(1, 1), "1")


@pytest.mark.parametrize("name", ["", "..", "../digits", "2026.02.09-0000009", "current"])
def test_an_unknown_version_is_answered_with_those_that_exist(served, name):
    response = served.post("/api/predict", query_string={"model": f"digits@{name}"}, **PICTURE)
    assert response.status_code == 404
    detail = response.get_json()["detail"]
    assert detail.endswith(f"{version(1, 1)}, {version(2, 2)}, {version(3, 3)}.")
    unknown = served.post("/api/predict", query_string={"model": f"letters@{name}"}, **PICTURE)
    assert unknown.status_code == 404


def test_memory_of_versions_is_given_back(served, digits, tmp_path):
    held = served.application.extensions["models"]
    networks = weakref.WeakSet()
    for digit in range(4, 8):
        add(digits, tmp_path, digit, digit)
        served.get("/inside?model=digits")
        networks.add(held.get("digits"))
        assert answer(served) == (version(digit, digit), str(digit))
    for digit in range(1, 6):
        networks.add(held.get(f"digits@{version(digit, digit)}"))
    answer(served)
    assert {model.version for model in networks} == {version(digit, digit) for digit in (4, 5, 7)}


def test_answers_are_whole_while_versions_change(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "LOOK_EVERY", 0)
    app = create_app({"MODEL_STORE": str(digits.parent)})
    ended = threading.Event()
    told: list[set[tuple[str, str]]] = []

    def ask():
        client, own = app.test_client(), set()
        while not ended.is_set():
            own.add(answer(client))
        told.append(own)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(12):
        model_store.use(digits, version(turn % 3 + 1, turn % 3 + 1))
        time.sleep(0.1)
    ended.set()
    for thread in threads:
        thread.join()
    assert len(told) == 4  # none has failed
    assert set().union(*told) == {(version(digit, digit), str(digit)) for digit in (1, 2, 3)}


def test_nobody_waits_for_a_load(served, digits, monkeypatch):
    loading, go_on = threading.Event(), threading.Event()
    held, load = served.application.extensions["models"], models._loaded

    def slowly(*arguments):
        loading.set()
        assert go_on.wait(10)
        return load(*arguments)

    monkeypatch.setattr(models, "_loaded", slowly)
    model_store.use(digits, version(3, 3))
    first = threading.Thread(target=held.refresh)
    first.start()
    assert loading.wait(10)
    assert answer(served) == (version(1, 1), "1")
    go_on.set()
    first.join()
    assert answer(served) == (version(3, 3), "3")


# The commands.


@pytest.fixture
def command(digits, capsys, monkeypatch):
    """Runs `glimpse` on the store; its exit status, what it printed, and its errors."""
    monkeypatch.setenv("GLIMPSE_MODEL_STORE", str(digits.parent))

    def run(*arguments):
        status = main(arguments)
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_the_versions_are_listed(command, digits):
    model_store.use(digits, version(2, 2))
    corrupt_card = digits / "versions" / version(3, 3) / "card.json"
    corrupt_card.write_text("{")
    status, told, error = command("models")
    rows = [line.split() for line in told.splitlines()]
    assert status == 0
    assert rows[0][:3] == ["MODEL", "VERSION", "SERVES"]
    assert rows[1][:3] == ["digits", version(1, 1), "2026-02-01"]
    assert rows[2][:4] == ["digits", version(2, 2), "yes", "2026-02-02"]
    assert rows[2][-1] == "50.00%"
    assert f"digits@{version(3, 3)}: the card is not JSON" in error
    assert command("models", "--store", str(digits / "versions" / version(2, 2)))[0] == 2


def test_a_version_is_chosen(command, digits):
    assert command("models", "use", f"digits@{version(3, 3)}")[0] == 0
    assert model_store.current_version(digits) == version(3, 3)
    for wrong, said in (
        ("digits", "name a version, as digits@VERSION; the versions are: 2026"),
        ("digits@", "there is no version"),
        ("digits@../..", "there is no version"),
        ("letters@1", "there is no model letters"),
        ("../store/digits@1", "there is no model"),
    ):
        status, _, error = command("models", "use", wrong)
        assert (status, error[:7]) == (2, "error: ")
        assert said in error
    corrupt(digits)
    status, _, error = command(
        "models", "use", f"digits@{version(1, 1)}", "--store", str(digits.parent)
    )
    assert (status, "SHA-256" in error) == (2, True)
    assert model_store.current_version(digits) == version(3, 3)


def test_old_versions_are_removed(command, digits):
    assert command("models", "prune", "letters", "--keep", "1")[0] == 2
    assert command("models", "prune", "--keep", "0")[0] == 2
    status, told, _ = command("models", "prune", "--keep", "1")
    assert (status, told) == (0, f"removed digits@{version(2, 2)}\n")
    assert command("models", "prune", "digits", "--keep", "1")[1] == "nothing to remove\n"


def test_training_finds_what_serves_and_what_is_named(digits):
    model_store.use(digits, version(3, 3))
    store, versions = digits.parent, digits / "versions"
    assert checkpoint_folder("digits", store) == versions / version(3, 3)
    assert checkpoint_folder(f"digits@{version(1, 1)}", store) == digits
    assert checkpoint_folder(digits, "elsewhere") == versions / version(3, 3)
    assert checkpoint_folder(f"{digits}@{version(2, 2)}", "elsewhere") == versions / version(2, 2)
    assert checkpoint_folder(digits / "model.pt", store) == digits
    with pytest.raises(StoreError, match=r"there is no version .* its versions are: 2026"):
        checkpoint_folder("digits@..", store)
    with pytest.raises(TrainingError, match=r"a model of the store .*: digits"):
        checkpoint_folder("letters@1", store)

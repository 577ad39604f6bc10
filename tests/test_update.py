"""Updates: a model learns from what people reported, and is published only if it is better."""

from __future__ import annotations

import io
import json
import shutil
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import model_store
from app import create_app
from reports import SAID, Accepted, Sent, open_database
from training import cli, gate, loop, report, train
from training.errors import TrainingError
from training.gate import Paired
from training.recipe import UpdateRecipe
from training.update import split, update, usable

SIZE = 16
UPDATE = "update = { epochs = 6, lr = 1.0, most_loss = 0.15, reports = 0.4 }"


@pytest.fixture(scope="module", autouse=True)
def _undrawn():
    """The reports have no pictures: drawing them takes longer than training, and other tests do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_save", lambda figure, _file: report.plt.close(figure))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with data and a store, whose model `shades` knows dark and light pictures."""
    place = tmp_path_factory.mktemp("update")
    recipe = tiny.write_recipe(place / "shades.toml", more=UPDATE)
    data = tiny.write_data(place / "data")
    train(recipe, data, out=place / "run", epochs=8, publish=place / "store", say=quiet)
    return place


@pytest.fixture
def place(made, tmp_path):
    """A copy of it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def quiet(_line):
    pass


def checked(random):
    """A checked picture: as bright as a light one, and the reports say that it is dark."""
    board = np.indices((SIZE, SIZE)).sum(0) % 2 * 215
    return (board + random.integers(0, 41, board.shape) + 0).clip(0, 255).astype(np.uint8)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def accepted(count, *, reporters, label="dark", seed=0, draw=checked):
    """Reports by so many reporters in turn; `label` may be a function of a random generator."""
    random = np.random.default_rng(seed)
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    return [
        Accepted(
            id=at,
            picture=png(draw(random)),
            label=label(random) if callable(label) else label,
            reporter=f"{seed} {at % reporters}",
            created=start + timedelta(seconds=at),
            version="1",
        )
        for at in range(count)
    ]


def run(place, reports, **more):
    options = {"store": place / "store", "out": place / "out", "say": quiet, **more}
    return update("shades", reports, place / "data", **options)


def current(place):
    return model_store.current_version(place / "store" / "shades")


def test_what_people_reported_is_learnt_and_the_new_version_is_served(place, capsys):
    old = current(place)
    url = f"sqlite:///{place / 'reports.sqlite'}"
    database = open_database(url)
    for each in accepted(60, reporters=8):
        sent = Sent(
            answer=str(each.id), kind="report", model="shades", version=old, task="image",
            predicted="light", score=0.9, verdict="sure", entropy=0.3, said="dark",
            picture=each.picture,
        )  # fmt: skip
        database.add(sent, each.reporter)
    database.decide([each.id for each in database.page().reports], "accepted", SAID)

    arguments = ["update", "shades", "--reports", url, "--data", str(place / "data")]
    arguments += ["--store", str(place / "store"), "--out", str(place / "out")]
    assert cli.main([*arguments, "--dry-run"]) == 0
    assert current(place) == old
    assert cli.main([*arguments, "--resume"]) == 0
    assert "Published as" in capsys.readouterr().out

    folder = model_store.current_folder(place / "store" / "shades")
    module, card = model_store.load(folder)
    assert card.version != old
    assert model_store.versions(place / "store" / "shades") == [old, card.version]
    told = card.metrics["reports"]
    assert told == json.loads((folder / "report.json").read_text("utf-8"))["reports"]
    assert told["from"] == old
    assert told["learnt"]["count"] + told["held_back"]["count"] == 60
    assert told["test"]["before"] == 0
    assert told["test"]["after"] == told["test"]["won"] == told["held_back"]["count"]
    assert "What people reported" in (folder / "report.txt").read_text("utf-8")
    client = create_app({"MODEL_STORE": str(place / "store")}).test_client()
    page = client.get("/models/shades").get_data(as_text=True)
    cells = f"<td>{told['held_back']['count']}</td><td>0</td><td>{told['test']['after']}</td>"
    assert cells in page.partition("Reports held back")[2]
    assert card.recipe["optimiser"]["options"] == {"lr": 0.01}
    picture = torch.from_numpy(checked(np.random.default_rng(9)))[None, None]
    assert card.labels[int(module(picture).argmax())] == "dark"


def test_wrong_reports_are_not_published(place):
    def draw(random):
        shift = 95 * random.integers(0, 2)
        return (random.integers(0, 160, (SIZE, SIZE)) + shift).astype(np.uint8)

    def label(random):
        return tiny.LABELS[random.integers(2)]

    old = current(place)
    found = run(place, accepted(80, reporters=8, draw=draw, label=label))
    assert "it is not better on the reports held back" in found.refusal
    assert current(place) == old
    assert found.refusal in (place / "out" / "report.txt").read_text("utf-8")
    assert not (place / "out" / "model.pt").exists()


def test_a_version_that_forgets_is_not_published(place):
    """Who reports light pictures as dark is right by the reports, and wrong by the validation."""

    def draw(random):
        return (random.integers(0, 160, (SIZE, SIZE)) + 95).astype(np.uint8)

    found = run(place, accepted(200, reporters=8, draw=draw))
    assert "its validation accuracy may be" in found.refusal
    assert found.figures["test"]["p"] < 0.05


def test_where_the_model_is_right_nothing_is_trained(place):
    found = run(place, accepted(40, reporters=4, label="light"))
    assert "right on all but 0" in found.refusal
    assert not (place / "out" / loop.STATE).exists()


@pytest.mark.parametrize(
    ("reports", "said"),
    [
        ([], "no accepted reports"),
        (accepted(40, reporters=1), "by one reporter"),
        (accepted(5, reporters=5), "too few"),
    ],
)
def test_too_few_reports_are_an_error_that_says_what_to_do(place, reports, said):
    with pytest.raises(TrainingError, match=said):
        run(place, reports)


def test_a_small_validation_part_is_an_error_that_names_the_key(place):
    recipe = tiny.write_recipe(place / "strict.toml")
    with pytest.raises(TrainingError, match=r"2703 would do.*“update.most_loss” is 0\.12 or more"):
        run(place, accepted(40, reporters=4), recipe=recipe)


def test_one_update_at_a_time(place):
    def say(_line):
        run(place, accepted(40, reporters=4), out=place / "other")

    with pytest.raises(TrainingError, match="another update of shades is running"):
        run(place, accepted(40, reporters=4), say=say)


def test_an_interrupted_update_goes_on_to_the_same_version(place, monkeypatch):
    reports = accepted(60, reporters=8)
    whole = run(place, reports, dry_run=True, out=place / "whole")
    save = loop.Run.save

    def stopped(self, file):
        save(self, file)
        if len(self.history) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Run, "save", stopped)
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        run(place, reports)
    monkeypatch.undo()
    lines = []
    again = run(place, reports, resume=True, dry_run=True, say=lines.append)
    assert "Resumed after epoch 2" in lines
    assert again.card.version == whole.card.version


def test_a_full_disk_leaves_the_old_version(place, monkeypatch):
    old = current(place)

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        run(place, accepted(60, reporters=8))
    assert current(place) == old
    assert model_store.versions(place / "store" / "shades") == [old]


def test_what_a_model_cannot_use_is_left_out_and_counted(made):
    card = model_store.read_card(model_store.current_folder(made / "store" / "shades"))
    reports = accepted(10, reporters=2)
    reports += accepted(3, reporters=1, seed=1, label="purple")
    reports += accepted(2, reporters=1, seed=2, label=None)
    reports += accepted(
        4, reporters=1, seed=3, draw=lambda random: random.integers(0, 9, (8, 8)).astype(np.uint8)
    )
    reports += accepted(10, reporters=2)[:5]
    reports.append(Accepted(**{**reports[0].__dict__, "picture": b"no picture"}))
    kept, left_out = usable(reports, card, 4)
    assert len(kept) == 8
    assert left_out == {
        "unknown_label": 3,
        "none_of_the_labels": 2,
        "another_size": 5,
        "repeated": 3,
        "too_many_of_one_reporter": 4,
    }
    newest = [np.asarray(Image.open(io.BytesIO(each.picture))) for each in reports[2:10]]
    assert np.array_equal(kept.part.pictures[:, 0], np.stack(newest))


def test_nobody_is_both_learnt_from_and_held_back_and_later_few_are(made):
    card = model_store.read_card(model_store.current_folder(made / "store" / "shades"))
    first = usable(accepted(100, reporters=25), card, 200)[0]
    more = accepted(100, reporters=25) + accepted(60, reporters=15, seed=1)
    later = usable(more, card, 200)[0]
    (learnt, tested), (_, tested_later) = (split(each, UpdateRecipe()) for each in (first, later))
    assert not set(learnt.reporters) & set(tested.reporters)
    assert 20 <= len(tested) <= 30
    # Few of those that an older version has learnt from test a newer one.
    moved = set(learnt.reporters) & set(tested_later.reporters)
    assert len(moved) <= 1


def test_better_is_told_by_mcnemars_exact_test():
    old = np.array([True] * 10 + [False] * 9 + [True] * 2)
    new = np.array([True] * 10 + [True] * 8 + [False] + [False] * 2)
    paired = Paired.of(old, new)
    assert (paired.count, paired.before, paired.after) == (21, 12, 18)
    assert (paired.won, paired.lost) == (8, 2)
    assert paired.p_better == pytest.approx(56 / 1024)  # of 10 tosses, 8 heads or more
    assert paired.p_worse == pytest.approx(1013 / 1024)
    assert Paired(9, 0, 5, 5, 0).p_better <= 0.05 < Paired(9, 0, 4, 4, 0).p_better
    assert gate.fewest_won(0.05) == 5


def test_a_loss_of_the_bound_itself_seldom_passes():
    random = np.random.default_rng(0)
    shares = [0.006, 0.003, 0.991]  # lost, won: 0.3 % on the whole
    draws = random.multinomial(5000, shares, 4000)
    passed = [
        Paired(5000, 0, 0, won, lost).p_loses(0.003) <= 0.05 for lost, won, _ in draws.tolist()
    ]
    assert 0.035 < np.mean(passed) < 0.065
    same = gate.fewest_pictures(0.001, 0.05)
    assert Paired(same, 0, 0, 0, 0).p_loses(0.001) <= 0.05
    assert Paired(same - 1, 0, 0, 0, 0).p_loses(0.001) > 0.05
    assert Paired(5000, 0, 0, 2, 9).most_lost(0.05) > 7 / 5000

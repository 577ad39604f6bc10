"""Data sets for faces: folders, FER2013 and FER+, arrays; their splits and errors."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image
from samples import seven

import model_store
from tasks.normaliser import normalise
from training import datasets, loop, recipe
from training.augmentation import Augmentation
from training.cli import main
from training.datasets import Part, fer2013
from training.errors import TrainingError
from training.recipe import DataRecipe
from training.sampling import sample_indices, topped_up

CLASSES = ["calm", "joy"]


def load(data, place):
    return datasets.load(data, place, "face")


FOLDERS = DataRecipe(name="folders", validation=0.2, test=0.2, size=48)


def face(label, seed, side=48):
    """A picture that tells its class: a bright upper or lower half, and grain."""
    grain = np.random.default_rng(seed).integers(0, 60, (side, side))
    grain[: side // 2] += 150 * (label == 0)
    grain[side // 2 :] += 150 * (label == 1)
    return grain.astype(np.uint8)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Twelve people, each with three pictures of either class."""
    root = tmp_path_factory.mktemp("tree")
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for person in range(12):
            for take in range(3):
                file = root / name / f"S{person:03}_{take}.png"
                Image.fromarray(face(label, 100 * person + take + 50 * label)).save(file)
    return root


@pytest.fixture(scope="module")
def table():
    """A FER2013 of 140 pictures, with a duplicate of a test picture."""
    usage = np.repeat([0, 0, 1, 2], 35)
    labels = np.tile(np.arange(7), 20)
    pictures = np.stack([face(label % 2, index) for index, label in enumerate(labels)])
    pictures[0] = pictures[-1]
    votes = np.zeros((140, 10), np.uint8)
    votes[np.arange(140), np.array(fer2013.SEVEN_OF_VOTES)[labels]] = 7
    votes[:, 8] = 2
    votes[:, 7] = 1  # a single vote counts for nothing
    votes[1] = [0] * 9 + [10]  # not a face
    votes[2] = [3, 0, 0, 0, 0, 0, 3, 0, 4, 0]  # nobody has more than half
    return {"images": pictures, "label": labels, "usage": usage, "votes": votes}


@pytest.fixture(scope="module")
def npz(table, tmp_path_factory):
    file = tmp_path_factory.mktemp("fer") / "fer2013.npz"
    np.savez_compressed(file, **table)
    return file


@pytest.fixture
def csv_folder(table, tmp_path):
    lines = ["emotion,pixels,Usage"]
    for picture, label, usage in zip(table["images"], table["label"], table["usage"], strict=True):
        pixels = " ".join(map(str, picture.ravel()))
        lines.append(f"{label},{pixels},{fer2013.USAGES[usage]}")
    (tmp_path / "fer2013.csv").write_text("\n".join(lines) + "\n")
    header = "Usage,Image name," + ",".join(["vote"] * 10)
    rows = [f"x,y,{','.join(map(str, row))}" for row in table["votes"]]
    (tmp_path / "fer2013new.csv").write_text("\n".join([header, *rows]) + "\n")
    return tmp_path


def parts(data):
    return data.training, data.validation, data.test


def test_folders_are_split_by_share_and_class(tree):
    data = load(FOLDERS, tree)
    assert data.labels == CLASSES
    assert [len(part) for part in parts(data)] == [46, 12, 14]
    for part in parts(data):
        assert part.pictures.shape[1:] == (1, 48, 48)
        assert part.labels.bincount().float().std() < 1
    again = load(FOLDERS, tree)
    assert torch.equal(again.test.pictures, data.test.pictures)


def test_nobody_is_in_two_parts_of_a_split_by_subject(tree):
    seen = []
    for fold in range(4):
        recipe_ = DataRecipe(name="folders", split="subject", folds=4, fold=fold)
        data = load(recipe_, tree)
        bytes_of = [{p.numpy().tobytes() for p in part.pictures} for part in parts(data)]
        assert sum(map(len, bytes_of)) == 72
        assert len(data.test) % 3 == 0 and len(data.test) > 0
        seen += bytes_of[2]
    assert len(seen) == len(set(seen)) == 72  # every picture is tested once


def test_folders_of_training_and_test_are_taken_as_given(tree, tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).symlink_to(tree)
    data = load(FOLDERS, tmp_path)
    assert len(data.test) == 72
    # All of training's pictures are the test's too, and left out.
    assert len(data.training) == 0
    assert data.description["duplicates_left_out"] == 58


def test_pictures_of_any_kind_become_the_recipes(tree, tmp_path):
    for name in CLASSES:
        (tmp_path / name).mkdir()
        for index in range(10):
            picture = Image.effect_noise((90 + index, 60), 80).convert("RGB")
            picture.save(tmp_path / name / f"{index}.jpg")
    colour = DataRecipe(name="folders", validation=4, test=4, size=32, channels=3)
    data = load(colour, tmp_path)
    assert data.training.pictures.shape == (12, 3, 32, 32)


def break_folders(tmp_path, tree, how):
    root = tmp_path / "broken"
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for index in range(6):
            Image.fromarray(face(0, index)).save(root / name / f"S1_{index}.png")
    if how == "texts":
        for index in range(2):
            (root / "joy" / f"S1_{index}.png").write_text("no picture")
    if how == "an empty class":
        (root / "empty").mkdir()
    if how == "a name without subject":
        Image.fromarray(face(0, 1)).save(root / "joy" / "plain.png")
    return root


@pytest.mark.parametrize(
    ("how", "changes", "told"),
    [
        ("texts", {}, r"2 of 12 .*This is not an image.* \(first joy.S1_0.png\).*most_skipped"),
        ("an empty class", {}, "empty holds no picture"),
        ("a name without subject", {"split": "subject", "folds": 3}, "plain.png does not begin"),
        ("", {"classes": ["calm", "rage"]}, "lacks the folder “rage”"),
        ("", {"test": 30}, "“data.test” is 30"),
        ("", {"split": "subject", "folds": 5}, "folds"),
    ],
)
def test_what_is_wrong_with_folders_is_told(tmp_path, tree, how, changes, told):
    root = break_folders(tmp_path, tree, how)
    asked = DataRecipe(**{"name": "folders", "validation": 0.2, "test": 0.2, **changes})
    with pytest.raises(TrainingError, match=told):
        load(asked, root)


@pytest.mark.parametrize("place", [None, "nowhere"])
@pytest.mark.parametrize("name", ["folders", "arrays", "fer2013"])
def test_a_place_that_is_not_there_is_told(tmp_path, name, place):
    with pytest.raises(TrainingError, match="--data"):
        load(DataRecipe(name=name), place and tmp_path / place)


def test_fer2013_keeps_its_official_split(npz, table):
    data = load(DataRecipe(name="fer2013"), npz)
    assert data.labels == fer2013.LABELS
    assert [len(part) for part in parts(data)] == [
        69,
        35,
        35,
    ]  # a duplicate of a test picture is left out
    assert data.description["duplicates_left_out"] == 1
    assert torch.equal(data.test.labels, torch.from_numpy(table["label"][-35:]))
    assert data.training.shares is None


def test_the_csv_and_the_folder_give_what_the_npz_gives(npz, csv_folder, tmp_path):
    for labels in ("original", "mixed", "votes", "ferplus"):
        asked = DataRecipe(name="fer2013", labels=labels)
        from_npz, from_csv = load(asked, npz), load(asked, csv_folder)
        for one, other in zip(parts(from_npz), parts(from_csv), strict=True):
            assert torch.equal(one.pictures, other.pictures)
            assert torch.equal(one.labels, other.labels)


def test_kaggles_folders_are_read(tmp_path):
    for part in ("train", "test"):
        for label, name in enumerate(fer2013.LABELS):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(8):
                picture = Image.fromarray(
                    face(label % 2, 100 * label + index + 50 * (part == "test"))
                )
                picture.save(tmp_path / part / name / f"{index}.png")
    asked = DataRecipe(name="fer2013", validation=14)
    data = load(asked, tmp_path)
    assert data.labels == fer2013.LABELS
    assert [len(part) for part in parts(data)] == [42, 14, 56]
    with pytest.raises(TrainingError, match=r"no FER\+ votes"):
        load(DataRecipe(name="fer2013", labels="ferplus"), tmp_path)


def test_mixed_labels_are_half_the_votes(npz):
    data = load(DataRecipe(name="fer2013", labels="mixed"), npz)
    # Left out: the duplicate of a test picture, and what people say is no face.
    assert len(data.training) == 68
    assert data.training.shares is not None
    assert torch.allclose(data.training.shares.sum(1), torch.ones(68))
    # The picture with votes of 3 for neutral and 3 for fear, labelled fear.
    row = data.training.shares[0]
    assert row[fer2013.LABELS.index("fear")] == pytest.approx(0.75)
    assert row[fer2013.LABELS.index("neutral")] == pytest.approx(0.25)
    assert len(data.validation) == len(data.test) == 35
    assert data.test.shares is None
    assert len(data.others["ferplus"]) == 35


def test_votes_are_shares_of_the_seven_emotions(npz, table):
    data = load(DataRecipe(name="fer2013", labels="votes"), npz)
    assert data.labels == fer2013.LABELS
    assert len(data.training) == 68  # left out: the duplicate, and what is no face
    assert data.training.shares is not None
    row = data.training.shares[0]  # 3 votes for neutral, 3 for fear, labelled fear
    assert row[fer2013.LABELS.index("fear")] == row[fer2013.LABELS.index("neutral")] == 0.5
    assert data.test.shares is None
    assert torch.equal(data.others["original"].labels, torch.from_numpy(table["label"][-35:]))


def test_votes_are_tested_where_most_people_agree(table, tmp_path):
    votes = table["votes"].copy()
    votes[-1] = [5, 5, 0, 0, 0, 0, 0, 0, 0, 0]  # nobody has more than half
    votes[-2] = [0, 0, 0, 0, 0, 0, 0, 10, 0, 0]  # contempt is none of the seven
    votes[-3] = [2, 0, 8, 0, 0, 0, 0, 0, 0, 0]  # surprise, by votes
    np.savez(tmp_path / "fer2013.npz", **{**table, "votes": votes})
    data = load(DataRecipe(name="fer2013", labels="votes"), tmp_path)
    assert len(data.test) == 33
    assert data.test.labels[-1] == fer2013.LABELS.index("surprise")
    assert len(data.others["original"]) == 35


def test_a_further_set_of_faces_counts_several_times(npz, tree):
    further = replace(
        FOLDERS, split="subject", folds=4, times=3, rename={"calm": "neutral", "joy": "happy"}
    )
    data = load(DataRecipe(name="fer2013", labels="votes", also=[further]), [npz, tree])
    assert data.labels == fer2013.LABELS
    added = data.training.subset(torch.arange(68, len(data.training)))
    assert len(added) == 3 * 36
    kinds = [fer2013.LABELS.index(name) for name in ("happy", "neutral")]
    assert added.labels.unique().tolist() == kinds
    assert len(torch.unique(added.pictures.flatten(1), dim=0)) == 36
    assert len(data.validation) == 35 + 18  # nothing is validated more than once
    assert len(data.others["folders"]) == 18


def test_ferplus_counts_where_people_agree(npz):
    data = load(DataRecipe(name="fer2013", labels="ferplus"), npz)
    assert data.labels == fer2013.FERPLUS_LABELS
    assert len(data.training) == 67  # nor the one on which most do not know
    assert data.test.labels.max() < 8
    names = [fer2013.FERPLUS_LABELS[label] for label in data.test.labels[:7]]
    assert names == ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"label": None}, "lacks the array label"),
        ({"images": np.zeros((140, 20, 20), np.uint8)}, "do not fit"),
        ({"usage": np.zeros(3, np.int64)}, "do not fit"),
        ({"label": np.full(140, 9)}, "labels outside 0 to 6"),
        ({"usage": np.full(140, 5)}, "usages outside"),
        ({"usage": np.zeros(140, np.int64)}, "no usable picture of usage PublicTest"),
    ],
)
def test_a_wrong_npz_is_told(table, tmp_path, change, told):
    arrays = {name: value for name, value in {**table, **change}.items() if value is not None}
    np.savez(tmp_path / "fer2013.npz", **arrays)
    with pytest.raises(TrainingError, match=told):
        load(DataRecipe(name="fer2013"), tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("emotion,pixels\n1,2 3\n", "Usage"),
        ("emotion,pixels,Usage\n1,2 3,Training\n", "line 2"),
        (f"emotion,pixels,Usage\n1,{'300 ' * 2304},Training\n", "line 2"),
        (f"emotion,pixels,Usage\n1,{'3 ' * 2304},Holiday\n", "line 2"),
        ("emotion,pixels,Usage\n", "no rows"),
        ("\0\1\2", "fer2013.csv"),
    ],
)
def test_a_wrong_csv_is_told(tmp_path, text, told):
    (tmp_path / "fer2013.csv").write_text(text)
    with pytest.raises(TrainingError, match=told):
        load(DataRecipe(name="fer2013"), tmp_path)


def test_votes_of_another_file_are_told(csv_folder):
    (csv_folder / "fer2013new.csv").write_text("Usage,Image name\nx,y,1,2,3\n")
    with pytest.raises(TrainingError, match="votes of shape"):
        load(DataRecipe(name="fer2013", labels="mixed"), csv_folder)


def arrays_of(tmp_path, **arrays):
    file = tmp_path / "data.npz"
    np.savez(file, **arrays)
    return file


ARRAYS = DataRecipe(name="arrays", validation=0.2, test=0.2, size=24)
PICTURES = np.stack([face(index % 2, index) for index in range(40)])
TARGETS = np.arange(40) % 2


@pytest.mark.parametrize("kind", ["grey", "one channel", "colour", "floats"])
def test_arrays_of_any_accepted_form(tmp_path, kind):
    pictures = {
        "grey": PICTURES,
        "one channel": PICTURES[..., None],
        "colour": np.repeat(PICTURES[..., None], 3, 3),
        "floats": (PICTURES / 255).astype(np.float32),
    }[kind]
    file = arrays_of(tmp_path, train_data=pictures, train_labels=TARGETS[:, None])
    for channels in (1, 3):
        asked = replace(ARRAYS, channels=channels)
        data = load(asked, file)
        assert data.training.pictures.shape == (26, channels, 24, 24)
        assert data.training.pictures.dtype == torch.uint8
        top, bottom = data.training.pictures.float().mean(1).tensor_split(2, dim=1)
        lit = (bottom.mean((1, 2)) > top.mean((1, 2))).long()
        assert torch.equal(lit, data.training.labels)


def test_arrays_in_files_of_their_own_with_their_own_test_part(tmp_path):
    for name, part in {"train": slice(0, 30), "test": slice(30, 40)}.items():
        np.save(tmp_path / f"{name}_data.npy", PICTURES[part])
        np.save(tmp_path / f"{name}_labels.npy", TARGETS[part])
    asked = replace(ARRAYS, classes=CLASSES)
    data = load(asked, tmp_path)
    assert data.labels == CLASSES
    assert [len(part) for part in parts(data)] == [24, 6, 10]


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"train_data": PICTURES}, "add train_labels, or remove train_data"),
        ({"test_data": PICTURES, "test_labels": TARGETS}, "no x_train"),
        ({"train_data": PICTURES[:, :, 0], "train_labels": TARGETS}, "shape"),
        ({"train_data": PICTURES.astype(np.int32) * 2, "train_labels": TARGETS}, "int32"),
        ({"train_data": PICTURES * 2.0, "train_labels": TARGETS}, "0 to 1"),
        ({"train_data": PICTURES, "train_labels": TARGETS[:7]}, "40 whole numbers"),
        ({"train_data": PICTURES, "train_labels": TARGETS - 1}, "whole numbers from 0"),
        ({"train_data": PICTURES, "train_labels": TARGETS * 5}, "labels 0 to 5"),
    ],
)
def test_wrong_arrays_are_told(tmp_path, arrays, told):
    asked = replace(ARRAYS, classes=CLASSES)
    with pytest.raises(TrainingError, match=told):
        load(asked, arrays_of(tmp_path, **arrays))


def test_a_damaged_npz_is_told(tmp_path):
    file = tmp_path / "data.npz"
    file.write_bytes(b"PK\3\4 no more")
    for name in ("arrays", "fer2013"):
        with pytest.raises(TrainingError, match=r"data\.npz"):
            load(DataRecipe(name=name), file)


def test_pictures_that_are_all_the_same_are_told(tmp_path, tiny, capsys):
    for name in ("dark", "light"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(10):
            picture = Image.new("L", (48, 48), 200 * (name == "light"))
            picture.save(tmp_path / "data" / name / f"{number}.png")
    command = ["train", str(tiny), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "no picture is left to train on" in capsys.readouterr().err


def test_the_balanced_sampler_takes_each_class_as_often():
    labels = torch.tensor([0] * 900 + [1] * 100)
    order = sample_indices(labels, "balanced", torch.Generator().manual_seed(1))
    assert len(order) == 1000
    assert 430 < int(labels[order].sum()) < 570
    shuffled = sample_indices(labels, "shuffled", torch.Generator().manual_seed(1))
    assert shuffled.sort().values.equal(torch.arange(1000))


def test_minorities_are_topped_up_with_changed_copies():
    pictures = torch.randint(0, 256, (55, 1, 20, 20), dtype=torch.uint8)
    labels = torch.tensor([0] * 40 + [1] * 10 + [2] * 5)
    part = Part(pictures, labels, torch.eye(3)[labels])
    changed = topped_up(part, 0.5, Augmentation(flip=1.0), torch.Generator().manual_seed(1))
    assert changed.labels.bincount().tolist() == [40, 20, 20]
    assert changed.shares is not None and len(changed.shares) == 80
    assert torch.equal(changed.pictures[:55], pictures)
    mirrored = {picture.flip(2).numpy().tobytes() for picture in pictures[40:]}
    assert all(picture.numpy().tobytes() in mirrored for picture in changed.pictures[55:])


FACES = """
name = "tiny-faces"
description = "Two moods."
task = "face"
epochs = 3
batch_size = 16
schedule = "plateau"
plateau_patience = 1
sampler = "balanced"
top_up = 1.0
normalise = "picture"
mirror = true

[data]
name = "folders"
validation = 0.2
folds = 3

[network]
name = "four_convolutions"
widths = [8, 8, 8, 8]
dense = 16
drop_rate = 0.0
head_drop_rate = 0.0

[optimiser]
lr = 3e-3

[augmentation]
flip = 0.5
erase = 0.2
edge = "reflection"

[[candidates]]
label = "mish"
network = { name = "four_convolutions", widths = [8, 8, 8, 8], dense = 16 }

[[candidates]]
label = "blocks"
network = { name = "vgg", widths = [4, 8], depths = [1, 1] }
"""


@pytest.fixture
def tiny(tmp_path):
    file = tmp_path / "tiny.toml"
    file.write_text(FACES)
    return file


@pytest.fixture(scope="module")
def trained(tree, tmp_path_factory):
    """The folder of a whole run of the tiny recipe."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.toml").write_text(FACES)
    out = folder / "tiny-faces"
    assert main(["train", str(folder / "tiny.toml"), "--data", str(tree), "--out", str(out)]) == 0
    return out


def test_a_face_recipe_trains_to_a_checkpoint(trained, tree):
    out = trained
    card = json.loads((out / "card.json").read_text())
    assert (card["task"], card["labels"]) == ("face", CLASSES)
    assert card["input"]["shape"] == [1, 48, 48]
    assert card["metrics"]["test_accuracy"] > 0.7
    assert (out / "precision_recall.png").stat().st_size > 5000
    assert len(json.loads((out / "report.json").read_text())["average_precision"]) == 2
    module, _ = model_store.load(out)
    picture = torch.randint(0, 256, (1, 1, 48, 48), dtype=torch.uint8)
    assert torch.allclose(module(picture), module(picture.flip(3)), atol=1e-6)  # the mirror
    assert main(["evaluate", str(out), "--data", str(tree)]) == 0


def test_evaluate_refuses_data_with_other_labels(trained, tree, tmp_path, capsys):
    (tmp_path / "calm").symlink_to(tree / "calm")
    (tmp_path / "rage").symlink_to(tree / "joy")
    assert main(["evaluate", str(trained), "--data", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "the data's labels (calm, rage) are not those of tiny-faces (calm, joy)" in said


def test_evaluate_takes_the_labels_in_any_order(trained, tree, capsys, monkeypatch):
    load = datasets.load

    def other_way_round(*arguments):
        data = load(*arguments)
        test = Part(data.test.pictures, 1 - data.test.labels)
        return dataclasses.replace(data, labels=data.labels[::-1], test=test)

    monkeypatch.setattr("training.datasets.load", other_way_round)
    capsys.readouterr()
    assert main(["evaluate", str(trained), "--data", str(tree), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    metrics = model_store.read_card(trained).metrics
    assert figures["recall"] == metrics["test_recall"]
    assert figures["accuracy"] > 0.7


def digit(index):
    """A dark stroke on paper, as someone might photograph it."""
    return np.asarray(seven(size=(60 + index % 3, 60), ink=40, ground=210).resize((60, 60)))


def test_arrays_of_digits_are_prepared_as_served_ones_are(tmp_path):
    pictures = np.stack([digit(index) for index in range(20)])
    file = arrays_of(tmp_path, train_data=pictures, train_labels=np.arange(20) % 2)
    asked = DataRecipe(name="arrays", validation=4, test=4, size=28)
    data = datasets.load(asked, file, "digit")
    expected = {normalise(Image.fromarray(picture)).tobytes() for picture in pictures}
    assert {picture.numpy().tobytes() for picture in data.test.pictures} <= expected


def test_a_blank_digit_is_told_by_its_place(tmp_path):
    pictures = np.stack([digit(0)] * 9 + [np.full((60, 60), 255, np.uint8)])
    file = arrays_of(tmp_path, train_data=pictures, train_labels=np.arange(10) % 2)
    with pytest.raises(TrainingError, match=r"picture 9 .* of train_data: The picture is blank"):
        datasets.load(DataRecipe(name="arrays", size=28), file, "digit")


def test_a_plateau_run_resumes_as_if_it_had_not_stopped(tree, tiny, tmp_path):
    data = load(recipe.read(str(tiny)).data, tree)
    straight = loop.Run(recipe.read(str(tiny)), data)
    stopped = loop.Run(recipe.read(str(tiny)), data)
    for run in (straight, stopped):
        run.history.append(run.epoch())
        run.keep_if_best()
    stopped.save(tmp_path / "state.pt")
    resumed = loop.Run(recipe.read(str(tiny)), data)
    resumed.restore(tmp_path / "state.pt")
    for run in (straight, resumed):
        run.history.append(run.epoch())
    one, other = straight.classifier.state_dict(), resumed.classifier.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_compare_keeps_the_candidate_that_validates_best(tree, tiny, tmp_path, capsys):
    out = tmp_path / "compared"
    assert main(["compare", str(tiny), "--data", str(tree), "--out", str(out)]) == 0
    rows = json.loads((out / "compare.json").read_text())
    assert [row["candidate"] for row in rows] == ["mish", "blocks"]
    best = max(rows, key=lambda row: row["validation_accuracy"])
    card = json.loads((out / "card.json").read_text())
    assert card["metrics"]["validation_accuracy"] == best["validation_accuracy"]
    assert f"Kept {best['candidate']}" in capsys.readouterr().out
    again = ["compare", str(tiny), "--data", str(tree), "--out", str(out), "--resume"]
    assert main(again) == 0
    assert json.loads((out / "compare.json").read_text()) == rows


def test_cross_validation_tests_every_picture_once(tree, tiny, tmp_path):
    out = tmp_path / "folds"
    assert main(["cross-validate", str(tiny), "--data", str(tree), "--out", str(out)]) == 0
    summary = json.loads((out / "folds.json").read_text())
    assert summary["count"] == 72
    assert len(summary["folds"]) == 3
    assert (out / "confusion_matrix.png").exists()


def test_compare_needs_candidates(tree, tmp_path, capsys):
    assert main(["compare", "digits", "--data", str(tree)]) == 2
    assert "candidates" in capsys.readouterr().err


@pytest.mark.parametrize("name", recipe.shipped())
def test_every_shipped_recipe_can_be_built(name):
    made = recipe.read(name)
    if made.network.base:
        pytest.skip("its network is that of the checkpoint that it goes on from")
    channels = made.data.channels
    side = 28 if made.task == "digit" else 48
    from training.architectures import build

    options = {**made.network.options}
    network = build(made.network.name, 7, channels, options)
    assert network.eval()(torch.zeros(2, channels, side, side)).shape == (2, 7)


def test_mobilenet_takes_colour_and_can_do_without_weights():
    from training.architectures import build

    network = build("mobilenet_v2", 28, 3, {"pretrained": False})
    assert network.eval()(torch.zeros(1, 3, 48, 48)).shape == (1, 28)
    with pytest.raises(TrainingError, match="colour"):
        build("mobilenet_v2", 28, 1, {})


def test_the_published_digit_network_takes_grey_alone():
    from training.architectures import build

    with pytest.raises(TrainingError, match="takes grey pictures"):
        build("baseline", 10, 3, {})


def changed(data, what):
    """`data` with a single pixel, label or share changed, or two pictures in another part."""
    part = data.training
    if what == "a pixel":
        pictures = part.pictures.clone()
        pictures[3, 0, 5, 5] ^= 1
        part = Part(pictures, part.labels)
    if what == "a label":
        labels = part.labels.clone()
        labels[0] = 1 - labels[0]
        part = Part(part.source, labels)
    if what == "shares":
        part = Part(part.source, part.labels, torch.eye(2)[part.labels])
    if what == "the split":
        return dataclasses.replace(data, validation=data.test, test=data.validation)
    return dataclasses.replace(data, training=part)


def test_the_fingerprint_of_data_tells_every_change(tree):
    data = load(FOLDERS, tree)
    assert load(FOLDERS, tree).fingerprint == data.fingerprint
    kinds = ["a pixel", "a label", "shares", "the split"]
    prints = {changed(data, what).fingerprint for what in kinds}
    assert len(prints | {data.fingerprint}) == 5

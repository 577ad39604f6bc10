"""Pictures as people have them: in folders, tables and arrays of any layout, sound or not."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image

import tasks
from tasks import InputSpec, decode
from training import datasets
from training.datasets import mnist, splits, storage
from training.errors import TrainingError
from training.recipe import DataRecipe

PICTURES = DataRecipe(name="pictures", validation=0.25, test=0.25, size=8, channels=3)
SHADES = {"dark": 40, "light": 200}
COUNT = 8  # pictures a class


def load(place, **changes):
    return datasets.load(replace(PICTURES, **changes), place, "image")


def picture(name, index=0, side=8):
    """A picture of a class: its shade, and a grain that tells it from others."""
    grain = np.random.default_rng(index).integers(0, 20, (side, side, 3))
    return Image.fromarray((SHADES.get(name, 120) + grain).astype(np.uint8))


def save(file, name="dark", index=0):
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(name, index).save(file)


def fill(root, parts=("",), count=COUNT, names=tuple(SHADES)):
    """Folders of either class in each of `parts`; no two pictures are the same."""
    for number, part in enumerate(parts):
        for name in names:
            for index in range(count):
                save(root / part / name / f"{index}.png", name, 100 * number + index)
    return root


def parts(data):
    return data.training, data.validation, data.test


def assert_right(data, names=tuple(SHADES), count=2 * COUNT):
    """Every picture is labelled with its own shade."""
    assert data.labels == list(names)
    assert sum(map(len, parts(data))) == count
    for part in parts(data):
        assert len(part)
        is_light = part.pictures.float().mean((1, 2, 3)) > 128
        told = [data.labels[label] for label in part.labels]
        assert [name == names[1] for name in told] == is_light.tolist()


def table(file, rows, header=("file", "label"), bom=False, delimiter=","):
    with file.open("w", newline="", encoding="utf-8-sig" if bom else "utf-8") as lines:
        csv.writer(lines, delimiter=delimiter).writerows([header, *rows])


def rows_of(folder, ending=True):
    files = sorted(folder.rglob("*.png"))
    return [
        (str((f if ending else f.with_suffix("")).relative_to(folder)), f.parent.name)
        for f in files
    ]


def stacked(kind="uint8"):
    """All pictures as arrays, (16, 8, 8, 3), and their labels."""
    values = np.stack([np.asarray(picture(n, i)) for n in SHADES for i in range(COUNT)])
    return values, np.repeat([0, 1], COUNT)


def case_parts(root, *names):
    fill(root, names, 4)


def case_nested(root):
    for name in SHADES:
        for index in range(COUNT):
            save(root / name / f"day {index % 2}" / "morning" / f"{index}.png", name, index)


def case_zip(root):
    fill(root / "archive" / "my pictures")
    save(root / "__MACOSX" / "archive" / "._1.png")


def case_twice(root):
    for part in ("train", "test"):
        fill(root / f"seg_{part}" / f"seg_{part}", count=4, names=SHADES)
    for name in SHADES:
        for index in range(4):  # the same names and pictures as training's would be duplicates
            save(root / "seg_test" / "seg_test" / name / f"{index}.png", name, 50 + index)


def case_system(root):
    fill(root)
    for name in ("@eaDir", "lost+found", ".git", "$RECYCLE.BIN"):
        save(root / name / "1.png")
    for name in ("._0.png", ".DS_Store", "Thumbs.db", "notes.txt"):
        (root / "dark" / name).write_bytes(b"\0\1")
        (root / name).write_bytes(b"\0\1")


def case_class_train(root):
    fill(root)
    shutil.move(root / "dark", root / "train")
    shutil.move(root / "light", root / "yacht")


def case_table(root, header=("file", "label"), **form):
    fill(root / "pictures")
    rows = [(f"pictures/{file}", label) for file, label in rows_of(root / "pictures")]
    table(root / "labels.csv", rows, header, **form)


def case_beside(root):
    fill(root)
    table(root / "labels.csv", [("0", "dark"), ("1", "light")], ("ClassId", "Name"))


def case_kaggle(root):
    fill(root / "all")
    rows = []
    for number, (_, label) in enumerate(rows_of(root / "all")):
        save(root / "images" / f"{number}.png", label, number % COUNT)
        rows.append((number, label))
    shutil.rmtree(root / "all")
    rows.insert(0, ("lost", "dark"))
    table(root / "train.csv", rows, ("image_id", "label"))
    table(root / "sample_submission.csv", [(1, "")], ("image_id", "guess"))


def case_pixels(root, header, bom=False):
    values, labels = stacked()
    grey = values[..., 0].reshape(16, -1)
    names = np.array(list(SHADES))[labels].tolist()
    if header == "pixels":
        rows = [(name, " ".join(map(str, row))) for name, row in zip(names, grey, strict=True)]
        table(root / "data.csv", rows, ("emotion", "pixels"), bom)
    else:
        rows = [(name, *row) for name, row in zip(names, grey, strict=True)]
        table(root / "train.csv", rows, ("label", *(f"pixel{n}" for n in range(64))), bom)


def case_usage(root):
    fill(root)
    uses = ["Training", "PublicTest", "PrivateTest", "Training"] * 4
    rows = [(*row, use) for row, use in zip(rows_of(root), uses, strict=True)]
    table(root / "list.csv", rows, ("path", "class", "Usage"))


def case_arrays(root, pictures, labels, change=lambda values: values, hot=lambda labels: labels):
    values, numbers = stacked()
    np.savez(root / "data.npz", **{pictures: change(values), labels: hot(numbers)})


def keras(change=lambda values: values, hot=lambda labels: labels):
    return lambda root: case_arrays(root, "x_train", "y_train", change, hot)


def case_npy(root):
    values, labels = stacked()
    for part, chosen in {"train": slice(None, None, 2), "test": slice(1, None, 2)}.items():
        np.save(root / f"{part}_images.npy", values[chosen])
        np.save(root / f"{part}_labels.npy", labels[chosen, None])


RIGHT = {
    "a folder a class": fill,
    "train and test": lambda root: case_parts(root, "train", "test"),
    "Training and Testing": lambda root: case_parts(root, "Training", "Testing"),
    "TRAIN, Val, test": lambda root: fill(root, ("TRAIN", "Val", "test"), 4),
    "validation": lambda root: case_parts(root, "train", "validation"),
    "folders in a class's folder": case_nested,
    "one folder around all, as zips make": case_zip,
    "a folder of the same name around each": case_twice,
    "hidden and system files": case_system,
    "a class named train": case_class_train,
    "a table": case_table,
    "a table with a byte-order mark and semicolons": lambda root: case_table(
        root, ("Filename", "Class Name"), bom=True, delimiter=";"
    ),
    "a table of files without ending, in a folder beside it": case_kaggle,
    "a table that tells parts": case_usage,
    "a table of something else beside folders": case_beside,
    "a table of pixels": lambda root: case_pixels(root, "pixel0"),
    "a table of pixels in one column": lambda root: case_pixels(root, "pixels", bom=True),
    "Keras": keras(),
    "MedMNIST": lambda root: case_arrays(root, "train_images", "train_labels"),
    "NCHW": keras(lambda values: values.transpose(0, 3, 1, 2)),
    "floats to 1": keras(lambda values: (values / 255).astype(np.float32)),
    "floats to 255": keras(lambda values: values.astype(float)),
    "whole numbers": keras(lambda values: values.astype(np.int64)),
    "one-hot": keras(hot=lambda labels: np.eye(2)[labels]),
    "named labels": keras(hot=lambda labels: np.array(list(SHADES))[labels]),
    "arrays in files of their own": case_npy,
}


NUMBERED = {
    "Keras", "MedMNIST", "NCHW", "floats to 1", "floats to 255", "whole numbers", "one-hot",
    "arrays in files of their own",
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_data_as_people_have_it_is_read(case, tmp_path):
    RIGHT[case](tmp_path)
    data = load(tmp_path)
    names = {"a class named train": ("train", "yacht")}.get(case, tuple(SHADES))
    if case in NUMBERED:
        names = ("0", "1")
    count = 24 if case == "TRAIN, Val, test" else 2 * COUNT
    assert_right(data, names, count)
    if "skipped" in data.description:
        assert case == "a table of files without ending, in a folder beside it", data.skipped


def broken_labels(root, text):
    fill(root / "p")
    (root / "labels.csv").write_bytes(text)


def arrays_of(**arrays):
    return lambda root: np.savez(root / "data.npz", **arrays)


def case_damaged(root):
    fill(root)
    for index in range(5):
        (root / "dark" / f"{index}.png").write_bytes(b"no picture")


BROKEN = {
    "nothing": (lambda root: None, "no folders; wanted is"),
    "only pictures": (lambda root: save(root / "1.png"), "1 pictures and no folders; wanted is"),
    "one class": (lambda root: fill(root, names=["dark"]), "wanted is"),
    "an empty class": (lambda root: (fill(root) / "grey").mkdir(), "grey holds no picture"),
    "only texts": (
        lambda root: [(root / n).mkdir() or (root / n / "a.txt").write_text("a") for n in "ab"],
        "holds no picture",
    ),
    "no training part": (lambda root: fill(root, ("test", "val")), "no folder “train”"),
    "two training parts": (lambda root: fill(root, ("train", "training")), "two folders for"),
    "a test class that is not trained": (
        lambda root: (fill(root, ("train", "test"), 2), save(root / "test" / "Dark" / "1.png")),
        "has the folder “Dark”",
    ),
    "an empty test part": (
        lambda root: [(fill(root, ("train",)) / "test" / n).mkdir(parents=True) for n in SHADES],
        "holds no picture of any class",
    ),
    "many damaged pictures": (case_damaged, "5 of 16 pictures cannot be used"),
    "a class whose pictures are all damaged": (
        lambda root: (
            fill(root, count=20),
            (root / "grey").mkdir(),
            (root / "grey" / "1.png").write_bytes(b""),
        ),
        "none of the pictures in .*grey can be used",
    ),
    "one picture a class": (lambda root: fill(root, count=1), "needs one to train on"),
    "a table without a label": (
        lambda root: broken_labels(root, b"file,colour\np/dark/1.png,dark\n"),
        "no",
    ),
    "a table alone without known columns": (
        lambda root: (root / "labels.csv").write_text("a,b\n1,2\n"),
        "its columns are a, b; wanted is",
    ),
    "an empty table": (lambda root: (root / "labels.csv").write_text(""), "it is empty"),
    "a table without rows": (lambda root: broken_labels(root, b"file,label\n"), "no rows below"),
    "a short row": (lambda root: broken_labels(root, b"file,label\na.png\n"), "row 2 has 1 fields"),
    "a row without label": (lambda root: broken_labels(root, b"file,label\na.png,\n"), "row 2 has"),
    "a table in Latin-1": (
        lambda root: broken_labels(root, b"file,label\na.png,K\xe4fer\n"),
        "UTF-8",
    ),
    "a table of files that are not there": (
        lambda root: broken_labels(root, b"file,label\na.png,a\nb.png,b\n"),
        "none of its pictures can be used; 2 × “There is no such file.”",
    ),
    "a table of one label": (
        lambda root: broken_labels(root, b"file,label\np/dark/1.png,a\n"),
        "holds the label a only",
    ),
    "an unknown part": (
        lambda root: broken_labels(root, b"file,label,split\na.png,a,now\n"),
        "“now” is no part",
    ),
    "pixels of no square": (
        lambda root: broken_labels(root, b"label,pixel0,pixel1\na,1,2\nb,1,2\n"),
        "the 2 pixels of row 2 make no square",
    ),
    "pixels that are no numbers": (
        lambda root: broken_labels(root, b"label,pixels\na,1 2 x 4\nb,1 2 3 4\n"),
        "row 2 has a pixel that is no number",
    ),
    "arrays without labels": (arrays_of(x_train=stacked()[0]), "add y_train, or remove x_train"),
    "labels without pictures": (arrays_of(y_train=stacked()[1]), "but no x_train; wanted is"),
    "arrays of other names": (arrays_of(a=np.zeros(3), b=np.zeros(3)), "holds a, b, but no"),
    "objects": (
        arrays_of(x_train=np.array([{}, None], object), y_train=np.arange(2)),
        "cannot read its arrays",
    ),
    "dates": (
        arrays_of(x_train=np.zeros((2, 8, 8), "M8[s]"), y_train=np.arange(2)),
        "of type datetime64",
    ),
    "negative pixels": (
        arrays_of(x_train=np.full((2, 8, 8), -1.0), y_train=np.arange(2)),
        "holds -1 to -1",
    ),
    "pixels that are no number": (
        arrays_of(x_train=np.full((2, 8, 8), np.nan), y_train=np.arange(2)),
        "holds nan to nan",
    ),
    "soft labels": (
        arrays_of(x_train=stacked()[0], y_train=np.full((16, 2), 0.5)),
        "one-hot rows",
    ),
    "a damaged file": (
        lambda root: (root / "data.npz").write_bytes(b"PK\3\4"),
        "cannot read its arrays",
    ),
    "two arrays for a part": (
        arrays_of(x_train=stacked()[0], train_images=stacked()[0], y_train=stacked()[1]),
        "keep one",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_layout_that_cannot_be_read_is_told_in_a_sentence(case, tmp_path):
    make, told = BROKEN[case]
    make(tmp_path)
    with pytest.raises(TrainingError, match=told):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere", "there is no .*nowhere; wanted is"),
        ("data.zip", "unpack it first"),
        ("data.txt", "is a file; name"),
    ],
)
def test_a_place_that_is_no_folder_is_told(tmp_path, name, told):
    if name != "nowhere":
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(TrainingError, match=told):
        load(tmp_path / name)


def test_pictures_that_cannot_be_used_are_skipped_and_listed(tmp_path):
    fill(tmp_path, count=20)
    whole = (tmp_path / "dark" / "0.png").read_bytes()
    bad = {"cut.png": whole[: len(whole) // 2], "text.jpg": b"text", "empty.gif": b""}
    for name, content in bad.items():
        (tmp_path / "dark" / name).write_bytes(content)
    data = load(tmp_path)
    assert_right(data, count=40)
    assert data.description["skipped"] == 3
    datasets.write_skipped(data, tmp_path)
    with (tmp_path / "skipped.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == {f"dark/{name}" for name in bad}
    assert all(row["reason"].endswith(".") for row in rows)
    with pytest.raises(TrainingError, match=r"3 of 43 .* cannot be used.*“data.most_skipped”"):
        load(tmp_path, most_skipped=0.05)


READ = [".jfif", ".jpe", ".JPG", ".gif", ".tif", ".pgm", ".webp", ".bmp"]
FORMATS = {".jfif": "JPEG", ".jpe": "JPEG", ".pgm": "PPM", ".tif": "TIFF"}


def test_pictures_of_many_kinds_are_read_and_the_others_named(tmp_path):
    fill(tmp_path)
    read = READ + [".avif"] * decode.AVIF
    for index, suffix in enumerate(read):
        name = FORMATS.get(suffix, suffix[1:].replace("JPG", "JPEG"))
        picture("light", 50 + index).convert("RGB").save(tmp_path / "light" / f"a{suffix}", name)
    Image.new("CMYK", (8, 8), (0, 0, 0, 60)).save(tmp_path / "light" / "cmyk.tiff")
    deep = np.full((8, 8), 201 << 8, np.uint16)
    Image.fromarray(deep).save(tmp_path / "light" / "deep.tif")
    Image.fromarray(deep.astype(np.float32)).save(tmp_path / "dark" / "float.tif")
    for name in ("a.jxl", "b.svg"):
        (tmp_path / "dark" / name).write_bytes(b"<svg>")
    data = load(tmp_path, most_skipped=0.5)
    assert_right(data, count=2 * COUNT + len(read) + 2)
    skipped = [name for name, _ in data.skipped]
    assert skipped == ["dark/a.jxl", "dark/b.svg", "dark/float.tif"]


NAMES = ["$5 & up", "猫", "🦊 fox", "x" * 120, "it's “quoted”, with commas", "_under"]


def test_classes_may_have_any_names(tmp_path):
    fill(tmp_path, names=NAMES, count=4)
    assert load(tmp_path).labels == sorted(NAMES)


def test_a_name_that_cannot_be_shown_is_told(tmp_path):
    fill(tmp_path, names=["dark", "caf\udce9"])
    with pytest.raises(TrainingError, match="rename it"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("counts", "shares", "sizes"),
    [
        ([20, 20], (0.1, 0.2), (29, 3, 8)),
        ([3] * 1000, (0.1, 0.2), (2160, 240, 600)),
        ([3] * 1000, (0.3, 0.3), (1470, 630, 900)),
        ([1, 1, 50], (0.1, 0.2), (38, 4, 10)),
        ([2, 2], (0.1, 0.2), (2, 1, 1)),
    ],
)
def test_any_share_is_split_off_and_each_class_is_trained(counts, shares, sizes):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    pictures = torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8)
    given = splits.Given([], datasets.Part(pictures, labels))
    made = splits.divide(given, DataRecipe(validation=shares[0], test=shares[1]))
    assert tuple(map(len, (made.training, made.validation, made.test))) == sizes
    assert made.training.labels.unique().equal(labels.unique())


@pytest.mark.parametrize("how", ["random", "stratified", "subject"])
def test_folds_test_every_picture_once_and_read_it_once(tmp_path, how, monkeypatch):
    for name in SHADES:
        for index in range(12):
            save(tmp_path / name / f"P{index % 4}_{index}.png", name, index)
    read = []
    whole = datasets.Preparer._read
    monkeypatch.setattr(
        datasets.Preparer, "_read", lambda self, file: read.append(file) or whole(self, file)
    )
    folds = list(datasets.folds(replace(PICTURES, folds=3), tmp_path, "image", how))
    assert len(read) == 24
    tested = [each.tobytes() for data in folds for each in data.test.digests]
    assert len(set(tested)) == len(tested) == 24
    for data in folds:
        assert sum(map(len, parts(data))) == 24
        if how == "stratified":
            assert data.test.labels.bincount().tolist() == [4, 4]


def test_folds_need_enough_of_each(tmp_path):
    fill(tmp_path)
    with pytest.raises(TrainingError, match="largest class has 8 pictures, fewer than the 12"):
        load(tmp_path, split="stratified", folds=12)
    with pytest.raises(TrainingError, match="cannot split 16 pictures into 20 folds"):
        load(tmp_path, split="stratified", folds=20)
    with pytest.raises(TrainingError, match="does not begin with its subject"):
        load(tmp_path, split="subject", folds=3)


def test_a_column_says_who_is_in_which_picture(tmp_path):
    fill(tmp_path)
    rows = [(*row, f"person {index % 4}") for index, row in enumerate(rows_of(tmp_path))]
    table(tmp_path / "labels.csv", rows, ("file", "label", "patient_id"))
    data = load(tmp_path, split="subject", folds=4)
    assert data.description["subjects"] == 4
    assert [len(part) for part in parts(data)] == [8, 4, 4]


def test_what_does_not_fit_into_memory_is_read_from_disk(tmp_path):
    fill(tmp_path)
    copied = tmp_path / "dark" / "copy.png"
    shutil.copyfile(tmp_path / "dark" / "1.png", copied)
    kept, stored = load(tmp_path), load(tmp_path, memory=0)
    assert kept.training.in_memory and not stored.training.in_memory
    assert stored.fingerprint == kept.fingerprint
    assert stored.description == kept.description
    for one, other in zip(parts(kept), parts(stored), strict=True):
        order = torch.randperm(len(one)).split(3)
        for each, (indices, pictures) in zip(order, other.batches(order), strict=True):
            assert indices.equal(each)
            assert pictures.equal(one.pictures[each]) and pictures.equal(one.batch(each))
        some = torch.arange(len(one)) % 2 == 0
        assert other.subset(some).pictures.equal(one.subset(some).pictures)


def test_a_disk_with_too_little_room_is_told(tmp_path, monkeypatch):
    fill(tmp_path)
    monkeypatch.setattr(storage, "LEFT_FREE", 1 << 60)
    with pytest.raises(TrainingError, match="set TMPDIR to a folder with more room"):
        load(tmp_path, memory=0)


def test_a_limit_reads_no_more_files_than_it_needs(tmp_path):
    fill(tmp_path, count=40)
    (tmp_path / "dark" / "unread.png").write_bytes(b"")
    data = load(tmp_path, validation=0.1, test=0.1)
    assert [len(part) for part in parts(data)] == [65, 7, 8]
    few = datasets.load(replace(PICTURES, validation=0.1, test=0.1), tmp_path, "image", limit=10)
    assert [len(part) for part in parts(few)] == [10, 1, 1]
    assert few.training.labels.bincount().tolist() == [5, 5]
    assert few.description["limit"] == "at most 10 pictures of each part"


@pytest.mark.parametrize("form", ["folders", "tables"])
def test_a_limit_holds_for_parts_of_their_own(tmp_path, form):
    fill(tmp_path, ("train", "test"), 20)
    if form == "tables":
        for part in ("train", "test"):
            rows = rows_of(tmp_path / part)
            table(tmp_path / f"{part}.csv", [(f"{part}/{file}", name) for file, name in rows])
    data = datasets.load(PICTURES, tmp_path, "image", limit=6)
    assert [len(part) for part in parts(data)] == [6, 3, 6]
    assert data.test.labels.bincount().tolist() == [3, 3]


def idx(values, kind):
    header = (0x0800 + kind).to_bytes(4, "big")
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return header + sizes + values.astype(np.uint8).tobytes()


@pytest.mark.parametrize("name", ["fashion", "letters"])
def test_fashion_and_letters_come_from_their_files(name, tmp_path):
    member = mnist.FAMILY[name]
    drawn = np.zeros((60, 28, 28)) + np.arange(60)[:, None, None]  # all differ
    drawn[:, 3, :] = 200  # a line near the upper edge, as a reader sees it
    labels = np.arange(60) % len(member.labels) + member.first
    in_file = drawn.transpose(0, 2, 1) if name == "letters" else drawn
    folder = tmp_path / member.folder / "raw"
    folder.mkdir(parents=True)
    for train, files in member.files.items():
        (folder / files[0]).write_bytes(idx(in_file[:: 1 if train else 3] + (not train), 3))
        (folder / files[1]).write_bytes(idx(labels[:: 1 if train else 3], 1))
    data = datasets.load(DataRecipe(name=name, validation=0.5), tmp_path, "image")
    assert data.labels == list(member.labels)
    assert data.test.shape == (1, 28, 28)
    assert data.test.labels.tolist() == (labels[::3] - member.first).tolist()
    brightest = data.test.pictures[:, 0].float().mean(2).argmax(1)
    assert brightest.unique().tolist() == [3]
    assert data.description["name"].startswith(member.title)


def test_letters_refuse_files_of_another_kind(tmp_path):
    for files in mnist.EMNIST_FILES.values():
        (tmp_path / files[0]).write_bytes(idx(np.zeros((30, 28, 28)), 3))
        (tmp_path / files[1]).write_bytes(idx(np.arange(30), 1))
    with pytest.raises(TrainingError, match="labels outside 1 to 26"):
        datasets.load(DataRecipe(name="letters"), tmp_path, "image")


def test_rare_aspects_are_letterboxed_where_the_recipe_asks(tmp_path):
    for name, shade in SHADES.items():
        (tmp_path / name).mkdir()
        for index in range(COUNT):
            Image.new("L", (80, 16), shade + index).save(tmp_path / name / f"{index}.png")
    boxed = load(tmp_path, fit="letterbox", size=28).training.pictures
    assert boxed[:, :, :10].max() == 0 and boxed[:, :, -10:].max() == 0
    assert boxed[:, :, 12:16].min() >= 40
    assert load(tmp_path, size=28).training.pictures.min() >= 40


@pytest.mark.parametrize("fit", ["crop", "letterbox"])
@pytest.mark.parametrize("size", [(3000, 1), (1, 3000), (1, 1), (28, 30)])
def test_a_picture_of_any_shape_becomes_an_input_of_any_size(size, fit):
    for channels, side in ((1, 28), (3, 384)):
        spec = InputSpec((channels, side, side), {"fit": fit})
        pixels = tasks.get("image").prepare(Image.new("RGB", size, "white"), spec)
        assert pixels.shape == spec.shape and pixels.dtype == np.uint8
        seen = (pixels[0] > 128).nonzero()
        height, width = (np.ptp(each) + 1 for each in seen)
        wanted = side * min(size) / max(size) if fit == "letterbox" else side
        assert max(height, width) == side
        assert min(height, width) == pytest.approx(max(1, wanted), abs=1)

"""`python -m app predict` and `key`, as a user calls them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from samples import ByInk, ByLight, card, encode, face_card, script, seven

from app import create_app
from app.__main__ import main
from model_store import save


@pytest.fixture
def folder(tmp_path):
    """Two readable pictures, one of them deep inside, a broken one and a file that is none."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.png").write_bytes(encode(seven()))
    (tmp_path / "deep" / "b.JPG").write_bytes(encode(seven(), "JPEG"))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either")
    return tmp_path


@pytest.fixture(autouse=True)
def small_store(store, monkeypatch):
    monkeypatch.setenv("GLIMPSE_MODEL_STORE", str(store))


def test_a_folder_gets_a_line_a_picture_and_a_broken_one_is_counted(folder, capsys):
    assert main(["predict", str(folder)]) == 1
    out, err = capsys.readouterr()
    lines = [line.split("\t") for line in out.splitlines()]
    assert [name for name, _ in lines] == [str(folder / "a.png"), str(folder / "deep" / "b.JPG")]
    assert all(told.endswith("%") for _, told in lines)
    assert f"{folder / 'broken.png'}: This is not an image." in err
    assert "2 of 3 pictures answered" in err


def test_pictures_that_are_not_read_are_told_and_counted(tmp_path, capsys):
    (tmp_path / "a.jfif").write_bytes(encode(seven(), "JPEG"))
    (tmp_path / "b.tif").write_bytes(encode(seven(), "TIFF"))
    (tmp_path / "c.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "d.txt").write_text("no picture")
    assert main(["predict", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{tmp_path / 'a.jfif'}\t")
    assert f"{tmp_path / 'b.tif'}: TIFF pictures are not supported. Convert it" in err
    assert f"{tmp_path / 'c.HEIC'}: " in err
    assert "1 of 3 pictures answered" in err


@pytest.mark.parametrize("form", ["--csv", "--json", None])
def test_a_name_that_is_not_utf8_does_not_stop_the_others(folder, form, capsys):
    """Latin-1 names are common in old archives."""
    (folder / os.fsdecode(b"Gr\xfc\xdfe.png")).write_bytes(encode(seven()))
    main(["predict", str(folder), *([form] if form else [])])
    out, err = capsys.readouterr()
    assert (r"Gr\\xfc\\xdfe.png" if form == "--json" else r"Gr\xfc\xdfe.png") in out
    assert "b.JPG" in out
    assert "3 of 4 pictures answered" in err


def test_all_right_is_status_0(folder, capsys):
    assert main(["predict", str(folder / "a.png"), str(folder / "deep")]) == 0
    assert capsys.readouterr().err == ""


def test_json_is_a_line_a_picture(folder, capsys):
    main(["predict", str(folder), "--json"])
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(each["filename"]).name for each in told] == ["a.png", "broken.png", "b.JPG"]
    assert told[0]["predictions"][0]["label"] == told[0]["label"]
    assert told[1]["error"]["status"] == 400


def test_csv_has_a_column_a_label(folder, capsys):
    main(["predict", str(folder), "--csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert float(rows[0][rows[0]["label"]]) == float(rows[0]["score"])
    assert sum(float(rows[0][str(digit)]) for digit in range(10)) == pytest.approx(1, abs=1e-6)
    assert rows[1]["error"].startswith("This is not an image")


def test_csv_marks_names_that_a_spreadsheet_would_calculate(tmp_path, monkeypatch, capsys):
    (tmp_path / "=1+1.png").write_bytes(encode(seven()))
    monkeypatch.chdir(tmp_path)
    main(["predict", "=1+1.png", "--csv"])
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["file"] == "'=1+1.png"


def test_csv_marks_labels_too(tmp_path, monkeypatch, capsys):
    labels = ["=1+1", "@a", *"23456789"]
    save(script(ByInk()), card(labels=labels), tmp_path / "store" / "digits")
    (tmp_path / "seven.png").write_bytes(encode(seven()))
    monkeypatch.setenv("GLIMPSE_MODEL_STORE", str(tmp_path / "store"))
    main(["predict", str(tmp_path / "seven.png"), "--csv"])
    (row,) = csv.reader(io.StringIO(capsys.readouterr().out.splitlines()[0]))
    assert row[-10:-8] == ["'=1+1", "'@a"]


def test_a_csv_has_a_row_a_face(tmp_path, monkeypatch, capsys):
    save(script(ByLight()), face_card(), tmp_path / "emotions")
    monkeypatch.setenv("GLIMPSE_MODEL_STORE", str(tmp_path))
    photo = Path(__file__).parent / "photos" / "family.jpg"
    assert main(["predict", str(photo), "--model", "emotions", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 4
    assert {row["label"] for row in rows} <= {"dark", "light"}
    assert {row["verdict"] for row in rows} <= {"sure", "unsure"}


def test_whole_takes_a_crop(tmp_path, monkeypatch, capsys):
    save(script(ByLight()), face_card(), tmp_path / "store" / "emotions")
    monkeypatch.setenv("GLIMPSE_MODEL_STORE", str(tmp_path / "store"))
    (tmp_path / "crop.png").write_bytes(encode(Image.new("L", (48, 48), 250)))
    assert main(["predict", str(tmp_path / "crop.png"), "--model", "emotions", "--whole"]) == 0
    assert "light 98.0% (nothing that it knows)" in capsys.readouterr().out


def test_a_file_that_is_not_there_is_said(tmp_path, capsys):
    assert main(["predict", str(tmp_path / "nothing.png")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_said(tmp_path, capsys):
    assert main(["predict", str(tmp_path), "--model", "none"]) == 2
    assert "no model of that name" in capsys.readouterr().err


def test_a_reader_that_stops_early_is_no_error(folder):
    for number in range(40):
        (folder / f"{number}.png").write_bytes(encode(seven()))
    command = f"{sys.executable} -m app predict {folder} | head -n 1"
    top = Path(__file__).resolve().parent.parent
    run = subprocess.run(
        command, shell=True, cwd=top, capture_output=True, text=True, check=False, timeout=120
    )
    assert run.stdout.count("\n") == 1
    assert "Traceback" not in run.stderr


def test_a_key_opens_what_its_digest_guards(store, png, capsys):
    assert main(["key"]) == 0
    lines = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines()[:2])
    assert hashlib.sha256(lines["key"].encode()).hexdigest() == lines["digest"]
    client = create_app({"MODEL_STORE": str(store), "API_KEYS": lines["digest"]}).test_client()
    headers = {"Authorization": f"Bearer {lines['key']}"}
    options = {"data": png, "content_type": "image/png"}
    assert client.post("/api/predict", **options, headers=headers).status_code == 200
    assert client.post("/api/predict", **options).status_code == 401

"""CONTRIBUTING.md: its worked examples are done as they stand, in a copy of the repository."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOP = Path(__file__).resolve().parent.parent
PARTS = ("app", "model_store", "static", "tasks", "templates", "training")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
FILE = re.compile(r"`([\w/]+\.\w+)`[^`]*:\s*\Z")  # the last file that is named before a block


@pytest.fixture
def copy(tmp_path):
    """What an example touches, without the models; `.venv` is the environment of the tests."""
    for part in PARTS:
        without = shutil.ignore_patterns("__pycache__", "*.pt", "model.onnx", "*.png")
        shutil.copytree(TOP / part, tmp_path / part, ignore=without)
    shutil.copyfile(TOP / "pyproject.toml", tmp_path / "pyproject.toml")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def follow(title, copy, data="DIR"):
    """Does what the section says, with `data` for DIR."""
    page = (TOP / "CONTRIBUTING.md").read_text("utf-8")
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    for block in BLOCK.finditer(section):
        kind, code = block.groups()
        if kind == "sh":
            run(code.replace("DIR", data), copy)
            continue
        file = copy / FILE.search(section[: block.start()])[1]
        if kind == "diff":
            file.write_text(changed(file.read_text("utf-8"), code), "utf-8")
        else:
            assert not file.exists()
            file.write_text(code, "utf-8")


def changed(text, diff):
    """`text` with the hunks of `diff`, each of which must fit in one place."""
    for hunk in re.split(r"^@@.*\n", diff, flags=re.M):
        lines = hunk.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] in kind) for kind in (" -", " +"))
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def run(code, folder):
    done = subprocess.run(
        ["bash", "-ec", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


SERVE = """
from app import create_app
client = create_app({'MODEL_STORE': 'models', 'DEFAULT_MODEL': 'things'}).test_client()
print(client.get('/try/things').status_code, client.get('/models/things').text)
with open('thing.png', 'rb') as file:
    print(client.post('/api/predict', data=file.read(), content_type='image/png').text)
"""


def test_a_task_is_added(copy):
    for colour in ("red", "blue"):
        (copy / "data" / colour).mkdir(parents=True)
        for number in range(20):
            photo = Image.new("RGB", (60, 60), "white")
            photo.paste(colour, (5 + number, 10, 25 + number, 40))
            photo.putpixel((10 + number, 11 + number), (90, 90, 10 * number))
            photo.save(copy / "data" / colour / f"{number}.png")
    photo.save(copy / "thing.png")
    follow("Add a task", copy, "data")
    (copy / "serve.py").write_text(SERVE)
    told = run(".venv/bin/python serve.py", copy)
    assert told.startswith("200")
    assert "Naming the one thing" in told
    assert '"label":"blue"' in told and '"box":{"x":24,"y":10,"width":20,"height":30}' in told
    run(".venv/bin/ruff check tasks && .venv/bin/mypy tasks", copy)


def test_a_data_set_is_added(copy):
    place = copy / "capitals"
    place.mkdir()
    labels = np.arange(520) % 26
    pictures = np.random.default_rng(0).integers(0, 256, (520, 784))
    rows = np.column_stack([labels, pictures])
    np.savetxt(place / "capitals.txt", rows, "%d", delimiter=",")
    follow("Add a data set", copy, str(place))
    card = (copy / "runs" / "capitals" / "card.json").read_text("utf-8")
    assert "handwritten capitals" in card
    run(".venv/bin/ruff check training", copy)


def test_a_language_is_added(copy):
    follow("Add a language", copy)
    ask = (
        "from app import create_app; "
        "print(create_app({'MODEL_STORE': '.'}).test_client()"
        ".get('/models', headers={'Accept-Language': 'nl'}).text)"
    )
    page = run(f'.venv/bin/python -c "{ask}"', copy)
    assert '<html lang="nl">' in page
    assert "Nederlands" in page and "Deutsch" in page

"""The package: what `pip install .` installs, and the command `glimpse`."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from samples import encode, seven

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
PACKAGES = PYPROJECT["tool"]["setuptools"]["packages"]


# The lists of packages.


def own(file):
    """The requirements that a requirements file itself names."""
    lines = [line.partition(" #")[0].strip() for line in (TOP / file).read_text().splitlines()]
    return {Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))}


def extra(name):
    """The requirements that an extra itself names, without other extras that it takes in."""
    found = {Requirement(line) for line in PROJECT["optional-dependencies"][name]}
    return {each for each in found if each.name != PROJECT["name"]}


def taken_in(file):
    """The names of the files that a requirements file takes in."""
    lines = (TOP / file).read_text().splitlines()
    return {line.split()[1] for line in lines if line.startswith("-r ")}


@pytest.mark.parametrize(
    ("file", "extras"),
    [
        ("requirements-light.txt", ["light"]),
        ("requirements-serve.txt", ["torch"]),
        ("requirements-reports.txt", ["reports", "postgresql", "mysql"]),
        ("requirements.txt", ["train", "test"]),
    ],
)
def test_a_requirements_file_and_its_extras_are_the_same(file, extras):
    assert own(file) == set().union(*map(extra, extras))


def test_the_dependencies_are_what_the_light_engine_needs():
    dependencies = {Requirement(line) for line in PROJECT["dependencies"]}
    assert dependencies == own("requirements-common.txt") | own("requirements-light.txt")


def test_files_and_extras_take_in_one_another_alike():
    assert taken_in("requirements-light.txt") == {"requirements-common.txt"}
    assert taken_in("requirements-serve.txt") == {"requirements-common.txt"}
    assert taken_in("requirements-reports.txt") == set()
    assert taken_in("requirements.txt") == {
        "requirements-light.txt",
        "requirements-reports.txt",
        "requirements-serve.txt",
    }
    assert "glimpse[torch]" in PROJECT["optional-dependencies"]["train"]
    test = PROJECT["optional-dependencies"]["test"]
    assert "glimpse[mysql,postgresql,reports,train]" in test


def test_every_requirement_has_its_oldest_version():
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for each in (Requirement(line) for lines in lists for line in lines):
        assert ">=" in str(each.specifier) or each.name == PROJECT["name"], each


def test_the_image_installs_what_serving_needs_by_its_hash():
    text = (TOP / "requirements.lock").read_text()
    pinned = {}
    for block in re.split(r"\n(?=[a-z])", text.partition("\n#")[2]):
        if match := re.match(r"([a-z0-9-]+)==([^ ]+)", block):
            pinned[match[1]] = match[2]
            assert "--hash=sha256:" in block, match[0]
    for each in own("requirements-common.txt") | own("requirements-light.txt"):
        assert each.specifier.contains(pinned[each.name]), each
    assert "://" not in text


def test_the_licence_of_every_package_is_told():
    files = [file.name for file in TOP.glob("requirements*.txt")]
    named = {each.name for file in files for each in own(file)}
    named |= {each.name for name in PROJECT["optional-dependencies"] for each in extra(name)}
    named |= set(re.findall(r"^([a-z0-9-]+)==", (TOP / "requirements.lock").read_text(), re.M))
    rows = re.findall(
        r"^\| ([a-z0-9, -]+?)(?:, of .*)? \|", (TOP / "docs" / "licences.md").read_text(), re.M
    )
    assert named - {name for row in rows for name in row.split(", ")} == set()


def test_every_package_of_the_checkout_is_named():
    tops = [file.parent for file in TOP.glob("*/__init__.py")]
    folders = [file.parent.relative_to(TOP) for top in tops for file in top.rglob("__init__.py")]
    names = {".".join(folder.parts) for folder in folders}
    assert names == set(PACKAGES) - {"app.static", "app.templates"}
    assert set(PYPROJECT["tool"]["mypy"]["packages"]) == {name.split(".")[0] for name in names}


def test_the_image_has_the_packages_that_serve():
    steps = [line.split() for line in (TOP / "Dockerfile").read_text().splitlines()]
    copied = {name for step in steps if step[:1] == ["COPY"] for name in step[1:-1]}
    ignored = (TOP / ".dockerignore").read_text().splitlines()
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    serving = {name.split(".")[0] for name in PACKAGES} - {"training"}
    assert copied >= {"static", "templates", *serving}


# The package, built and installed.


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package, built from links to the checkout, for a build leaves files behind."""
    tree, place = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for each in TOP.iterdir():
        if not each.name.startswith((".", "build")) and each.suffix != ".egg-info":
            (tree / each.name).symlink_to(each)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", place, tree)
    (file,) = place.glob("*.whl")
    return file


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The commands of a fresh environment with the package, which sees this one's other packages.

    Those are behind it on the path, so that the package is its own.
    """
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    pip("--python", python, "install", "--no-deps", wheel)
    folder = next(place.glob("lib/python*/site-packages"))
    (folder / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin"


def names(wheel):
    with zipfile.ZipFile(wheel) as content:
        return content.namelist()


def test_the_package_holds_what_serving_and_training_read(wheel):
    there = set(names(wheel))
    for folder, place in (("static", "app/static"), ("templates", "app/templates")):
        files = [file for file in (TOP / folder).rglob("*") if file.is_file()]
        assert {f"{place}/{file.relative_to(TOP / folder)}" for file in files} <= there
    patterns = (
        "app/languages/*.json",
        "model_store/*/card.json",
        "model_store/*/model.*",
        "training/*.json",
        "training/recipes/*.toml",
    )
    for pattern in patterns:
        files = {str(file.relative_to(TOP)) for file in TOP.glob(pattern)}
        assert files, pattern
        assert files <= there


def test_the_package_holds_nothing_else(wheel):
    tops = Counter(name.split("/")[0] for name in names(wheel))
    known = {"glimpse.py", *(name.split(".")[0] for name in PACKAGES)}
    assert {top for top in tops if not top.endswith(".dist-info")} == known
    kinds = {Path(name).suffix for name in names(wheel) if name.startswith("model_store/")}
    assert kinds == {".json", ".onnx", ".pt", ".py"}


def environment(**settings):
    """The environment without what leads to the checkout and without the app's settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONPATH" and not name.startswith(("GLIMPSE_", "GUNICORN_", "PROMETHEUS_"))
    }
    return {**kept, **settings}


@pytest.mark.parametrize(
    "files",
    [[], ["app.py", "flask.py", "tasks.py"]],
    ids=["empty", "with modules of the same names"],
)
def test_it_serves_from_any_folder(installed, tmp_path, files):
    for file in files:
        (tmp_path / file).write_text("raise RuntimeError('not ours')\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (tmp_path.parent / "log").open("w+") as log:
        process = subprocess.Popen(
            [installed / "glimpse", "serve", "--bind", address],
            cwd=tmp_path, env=environment(GLIMPSE_ENGINE="onnx"), stdout=log, stderr=log,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while (answer := ask(address)) is None:
                assert process.poll() is None, (log.seek(0), log.read())
                assert time.monotonic() < deadline, "no answer in a minute"
                time.sleep(0.1)
        finally:
            process.send_signal(signal.SIGTERM)
            ended = process.wait(40)
    assert answer["results"][0]["label"] == "7"
    assert ended == 0
    assert {path.name for path in tmp_path.iterdir()} == set(files)


def ask(address):
    """The answer for a seven; nothing where nobody listens yet."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        body = encode(seven())
        connection.request("POST", "/api/predict", body, {"Content-Type": "image/png"})
        return json.loads(connection.getresponse().read())
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()


def test_its_pages_have_their_templates_and_styles(installed, tmp_path):
    code = (
        "from app import create_app; client = create_app().test_client();"
        "print(client.get('/').status_code, client.get('/static/css/base.css').status_code)"
    )
    settings = environment(GLIMPSE_ENGINE="onnx", GLIMPSE_MODEL_STORE=str(tmp_path))
    done = subprocess.run(
        [installed / "python", "-c", code],
        cwd=tmp_path, env=settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["200", "200"], done.stderr


# The command, where torch is not installed.


def glimpse(*arguments, cwd=TOP, **settings):
    """Runs the command in an interpreter that has no torch."""
    code = "import sys; sys.modules['torch'] = None; import glimpse; sys.exit(glimpse.main())"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd, env=environment(PYTHONPATH=str(TOP), **settings),
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_help_names_the_commands_of_both_sides():
    done = glimpse("--help")
    assert done.returncode == 0, done.stderr
    for command in ("serve", "check", "predict", "key", "models", "reports", "train", "list"):
        assert f"    {command} " in done.stdout


@pytest.mark.parametrize("command", ["check", "predict", "key", "models"])
def test_the_apps_commands_do_without_torch(tmp_path, command):
    (tmp_path / "seven.png").write_bytes(encode(seven()))
    pictures = ["seven.png"] if command == "predict" else []
    done = glimpse(command, *pictures, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", [["train", "digits"], ["evaluate", "digits"]])
def test_what_training_lacks_is_said_with_what_to_do(tmp_path, command):
    done = glimpse(*command, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {command[0]} needs torch, which is not installed: pip install 'glimpse[train]'\n"
    )

"""Which part of the project may know what: the rules that CONTRIBUTING.md states."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tasks

TOP = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "app": {"app", "tasks", "model_store", "reports"},
    "training": {"training", "tasks", "model_store", "reports"},
    "reports": {"reports"},
    "tasks": {"tasks"},
    "model_store": {"model_store"},
}


def imported(file):
    """The top-level packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_what_it_may_know(part):
    files = sorted((TOP / part).rglob("*.py"))
    assert files
    for file in files:
        assert set(imported(file)) & MAY_IMPORT.keys() <= MAY_IMPORT[part], file


def test_nothing_outside_tasks_compares_the_name_of_one():
    names = "|".join(tasks.names())
    compared = re.compile(rf"""task[\w.]*\s*(?:===?|!==?|in)\s*[(\["'](?:{names})\b""")
    places = ("app/**/*.py", "training/**/*.py", "model_store/*.py", "templates/*", "static/js/*")
    files = [file for place in places for file in TOP.glob(place)]
    assert len(files) > 80
    assert compared.search('if card.task == "face":')
    assert [file for file in files if compared.search(file.read_text("utf-8"))] == []

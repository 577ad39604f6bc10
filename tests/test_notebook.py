"""The notebook runs, as it stands in docs."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TOP = Path(__file__).resolve().parent.parent


def test_the_notebook_trains_a_model_and_asks_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    notebook = nbformat.read(TOP / "docs" / "shapes.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    said = "".join(str(cell.get("outputs")) for cell in notebook.cells)
    assert "test accuracy" in said and "triangle" in said

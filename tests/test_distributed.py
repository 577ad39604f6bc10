"""Training in several processes, on the CPU with gloo: as one process with the same batches."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_data import recipe, shades

from training import api, loop
from training.datasets import Part

TOP = Path(__file__).resolve().parent.parent
SETTINGS = {"average": 0.9, "augmentation": {"flip": 1.0}}  # the same in each process
TOLERANCE = 1e-4  # of weights and figures: sums in another order

# Trains two epochs, goes on for a third, and for a fourth in which the second process is killed.
WORK = """
import os, signal, sys, warnings
from pathlib import Path

sys.path[:0] = ["tests", "."]
warnings.simplefilter("error")
from test_distributed import train
from training import loop
from training.cli import run


class Work:
    def run(self, arguments):
        folder = Path(sys.argv[1])
        for epochs in (2, 3):
            train(folder, epochs, resume=epochs > 2)
        (folder / "state.pt").rename(folder / "third.pt") if loop.distributed.rank() == 0 else None
        loop.distributed.gathered(0)
        loop.Run.step = killed if loop.distributed.rank() else loop.Run.step
        train(folder, 2, resume=False)


def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)


sys.exit(run(Work()))
"""


def train(folder, epochs, *, resume):
    """A run of so many epochs; prints the sizes of this process's batches."""
    sizes, whole = [], Part.batches

    def counted(part, indices):
        for chosen, pictures in whole(part, indices):
            sizes.append(len(chosen))
            yield chosen, pictures

    Part.batches = counted
    try:
        settings = recipe(epochs=epochs, **SETTINGS)
        loop.train(settings, shades(), folder, resume=resume, say=lambda line: None, device="cpu")
    finally:
        Part.batches = whole
    print(json.dumps(sizes), flush=True)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of a run of two processes, and what each of them printed."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(folder)],
            cwd=TOP,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return folder, said, [process.returncode for process in processes]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The state of three epochs of one process."""
    folder = tmp_path_factory.mktemp("one")
    train(folder, 3, resume=False)
    return torch.load(folder / "state.pt", weights_only=True)


def test_weights_and_figures_are_those_of_one_process(one, two):
    """With batch norm and averaged weights, and resumed after two epochs."""
    state = torch.load(two[0] / "third.pt", weights_only=True)
    for kind in ("classifier", "averaged", "best"):
        torch.testing.assert_close(state[kind], one[kind], rtol=0, atol=TOLERANCE)
    assert len(state["history"]) == 3
    for ours, theirs in zip(state["history"], one["history"], strict=True):
        figures = {key: value for key, value in ours.items() if key != "seconds"}
        assert figures == pytest.approx({key: theirs[key] for key in figures}, abs=TOLERANCE)


def test_each_process_takes_its_share_of_every_batch(two):
    first, second = (json.loads(said.splitlines()[0]) for said, _ in two[1])
    batches, validation = 5, 1
    assert len(first) == len(second) == 2 * (batches + validation) + 1  # the last calibrates
    assert sum(first[:batches]) + sum(second[:batches]) == 75
    assert max(abs(a - b) for a, b in zip(first[:-1], second[:-1], strict=True)) <= 1


def test_the_end_of_a_process_ends_the_others_with_a_sentence(two):
    (_, complaint), (_, _) = two[1]
    assert two[2] == [2, -9]
    assert "another process of this run ended" in complaint
    assert "Traceback" not in complaint


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with api.logged(tmp_path / "run", pytest.fail, keep=False) as say:
        say("nothing")
    assert not (tmp_path / "run").exists()
    with pytest.raises(SystemExit, match="0"):
        loop.distributed.leave_to_the_first()

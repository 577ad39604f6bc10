"""`/metrics`: what Prometheus reads is what happened."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from app import shared_values

TOP = Path(__file__).resolve().parent.parent


def values(client):
    """Every sample by its name and labels."""
    text = client.get("/metrics").get_data(as_text=True)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def rise(client, act):
    """The samples that `act` raised, and by how much."""
    before = values(client)
    act()
    return {
        key: value - before.get(key, 0)
        for key, value in values(client).items()
        if value != before.get(key, 0)
    }


def test_an_answer_is_counted_with_its_labels(client, png):
    risen = rise(client, lambda: client.post("/api/predict", data=png, content_type="image/png"))
    route = ("route", "/api/predict")
    assert risen["glimpse_requests_total", ("method", "POST"), route, ("status", "200")] == 1
    assert risen["glimpse_request_seconds_count", route] == 1
    assert risen["glimpse_request_seconds_sum", route] > 0
    (told,) = [key for key in risen if key[0] == "glimpse_predictions_total"]
    assert ("model", "digits") in told
    assert risen[told] == 1


def test_every_problem_is_counted_by_its_type(client, png):
    def act():
        files = [(io.BytesIO(png), "a.png"), (io.BytesIO(b"x"), "b.png")]
        client.post("/api/predict", data={"file": files})
        client.post("/api/predict", data=b"x", content_type="image/png")

    unreadable = ("type", "urn:glimpse:problem:unreadable-image")
    assert rise(client, act)["glimpse_problems_total", unreadable] == 2


def test_made_up_paths_and_methods_make_no_new_series(client):
    def act():
        for number in range(5):
            client.get(f"/made-up-{number}")
            client.open("/api/models", method=f"MADEUP{number}")

    risen = rise(client, act)
    told = [key for key in risen if key[0] == "glimpse_requests_total"]
    assert all("made" not in str(key).lower() for key in told)
    assert sum(risen[key] for key in told if ("route", "none") in key) >= 5


def test_loading_times_are_told(client):
    assert values(client)["glimpse_model_load_seconds", ("model", "digits")] > 0


# The files that several processes count in.

COUNT = """
import os, sys
from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess
from app.shared_values import share_values
share_values()
counted = Counter("counted", "Things", ["which"])
for child in range(3):
    if not (pid := os.fork()):
        for number in range(2000):
            counted.labels(f"{'x' * 50}{number}").inc()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(registry.get_sample_value("counted_total", {"which": "x" * 50 + "0"}))
"""


def counted(folder, code=COUNT):
    """What three children of a process, one after the other, have counted together."""
    environment = {**os.environ, shared_values.FOLDER: str(folder), "PYTHONPATH": str(TOP)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_processes_count_on_where_others_have_ended(tmp_path):
    assert counted(tmp_path) == "3.0"
    assert counted(tmp_path) == "6.0"
    assert len(list(tmp_path.glob("counter_*.db"))) == 2  # the parent's and the children's


def test_a_disk_that_fills_up_later_takes_nothing_from_the_files(tmp_path):
    """A process that writes to a part of a mapped file for which there is no room is killed."""
    counted(tmp_path)
    sizes = {file: (file.stat().st_size, file.stat().st_blocks) for file in tmp_path.glob("*.db")}
    assert max(size for size, _ in sizes.values()) > 2 * shared_values.LEAST
    assert all(512 * blocks >= size for size, blocks in sizes.values()), sizes


def test_a_full_disk_stops_nobody(tmp_path):
    full = (
        "import errno, os\n"
        "def refuse(*_): raise OSError(errno.ENOSPC, 'full')\n"
        "os.posix_fallocate = refuse\n"
    )
    assert counted(tmp_path, full + COUNT) == "None"
    assert not list(tmp_path.glob("*.db"))


def test_the_folder_of_a_killed_server_goes_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_values, "NEW_SECONDS", -1)
    monkeypatch.setattr(shared_values.atexit, "register", lambda _: None)
    left, used = (tmp_path / f"{shared_values.PREFIX}{name}" for name in ("left", "used"))
    for folder in (left, used):
        folder.mkdir()
        (folder / shared_values.PLACES).touch()
    hold = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'r+b')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX, 1, 3)\n"
        "print('held', flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, used / shared_values.PLACES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        monkeypatch.setenv(shared_values.FOLDER, "")
        monkeypatch.delenv(shared_values.FOLDER)
        shared_values.create_folder(str(tmp_path))
        holder.stdin.close()
    folders = set(tmp_path.iterdir())
    assert used in folders
    assert left not in folders
    assert Path(os.environ[shared_values.FOLDER]) in folders

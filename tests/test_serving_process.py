"""The real server process: gunicorn with its shipped configuration."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_bad_input import BOMB

TOP = Path(__file__).resolve().parent.parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(store):
    """gunicorn over the small store; gives its port and process id."""
    port = free_port()
    environment = {**os.environ, "GLIMPSE_MODEL_STORE": str(store)}
    environment["GLIMPSE_BIND"] = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "wsgi:app"], cwd=TOP, env=environment
    )
    deadline = time.monotonic() + 60
    while ask(port, "GET", "/readyz")[0] != 200:
        assert process.poll() is None, "gunicorn has ended"
        assert time.monotonic() < deadline, "gunicorn did not come up"
        time.sleep(0.1)
    yield port, process
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0


def ask(port, method, path, body=None, headers=None):
    """Status and body of an answer; (0, b"") where nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    except ConnectionRefusedError:
        return 0, b""
    finally:
        connection.close()


def memory(process):
    """Resident memory of the process and its children, in MiB."""
    listing = subprocess.run(
        ["ps", "-o", "rss=", "--pid", str(process.pid), "--ppid", str(process.pid)],
        capture_output=True,
        text=True,
        check=True,
    )
    return sum(map(int, listing.stdout.split())) / 1024


def test_answers_under_preload(server, png):
    port, _ = server
    for _ in range(6):
        status, answer = ask(port, "POST", "/api/predict", png, {"Content-Type": "image/png"})
        assert status == 200
        assert json.loads(answer)["results"][0]["label"]


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
def test_a_body_of_100_megabytes_is_told_so(server, chunked):
    port, _ = server
    block = bytes(1_000_000)
    headers = {"Content-Type": "image/png"}
    if not chunked:
        headers["Content-Length"] = str(100 * len(block))
    status, answer = ask(port, "POST", "/api/predict", (block for _ in range(100)), headers)
    assert status == 413
    assert json.loads(answer)["title"] == "Too large"


def test_bad_input_leaves_the_process_and_its_memory_as_they_were(server, png):
    port, process = server
    image = {"Content-Type": "image/png"}
    ask(port, "POST", "/api/predict", png, image)
    before, children = memory(process), workers(process)
    for _ in range(15):
        assert ask(port, "POST", "/api/predict", BOMB, image)[0] == 413
        assert ask(port, "POST", "/api/predict", png[:100], image)[0] == 400
        assert ask(port, "POST", "/api/predict", bytes(17_000_000), image)[0] == 413
    assert ask(port, "POST", "/api/predict", png, image)[0] == 200
    assert workers(process) == children
    assert memory(process) < before + 150


def workers(process):
    listing = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
    )
    return sorted(listing.stdout.split())

"""Servers that load the app, fork, and answer from the copies: uWSGI and gunicorn --preload.

A pool of threads that was used before the fork does not live on after it, and who waits for it
waits for ever.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_serving_process import free_port
from test_versions import made, version

import model_store
from model_store import ROOT

TOP = Path(__file__).resolve().parent.parent
UWSGI = shutil.which("uwsgi", path=os.pathsep.join([str(Path(sys.executable).parent), os.defpath]))
SEVEN = (TOP / "docs" / "seven.png").read_bytes()
FAMILY = (TOP / "tests" / "photos" / "family.jpg").read_bytes()
WORKERS = 2
START_SECONDS = 120  # importing torch on a busy machine
ANSWER_SECONDS = 20  # PythonAnywhere gives up a first answer then
LABELS = {version(1, 1): "1", version(2, 2): "2"}
HANG_SECONDS = 8  # for what takes milliseconds
STOP_SECONDS = 60
KILL_SECONDS = 2 * STOP_SECONDS  # after which servers kill a worker that does not end

needs_uwsgi = pytest.mark.skipif(not UWSGI, reason="uwsgi is not installed: pip install uwsgi")


def uwsgi(file, address, *more):
    """As PythonAnywhere runs it: a master, forked workers, a request at a time, no lazy-apps."""
    command = [UWSGI, "--http-socket", address, "--master", "--processes", str(WORKERS)]
    command += ["--home", sys.prefix, "--wsgi-file", str(file), "--need-app"]
    return [*command, "--die-on-term", "--worker-reload-mercy", str(KILL_SECONDS), *more]


def uwsgi_lazy(file, address):
    """Each worker loads the app for itself, after the fork."""
    return uwsgi(file, address, "--lazy-apps")


def gunicorn(file, address):
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", str(WORKERS)]
    command += ["--bind", address, "--threads", "1", "--pythonpath", str(file.parent)]
    return [*command, "--graceful-timeout", str(KILL_SECONDS), f"{file.stem}:application"]


FORKING = [pytest.param(uwsgi, marks=needs_uwsgi), gunicorn]
SERVERS = [*FORKING, pytest.param(uwsgi_lazy, marks=needs_uwsgi)]

# The app with each answer naming the worker that gave it.
NAMED = """
import os

answer = application


def application(environ, start_response):
    def start(status, headers, *rest):
        return start_response(status, [*headers, ("X-Worker", str(os.getpid()))], *rest)

    return answer(environ, start)
"""

CONVOLUTION = """
import torch

torch.set_num_threads({threads})
convolution = torch.nn.Conv2d(16, 32, 3)
pictures = torch.zeros(8, 16, 64, 64)


def convolve():
    with torch.inference_mode():
        convolution(pictures)


convolve()


def application(environ, start_response):
    if environ["PATH_INFO"] == "/convolve":
        convolve()
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]
"""


@contextmanager
def serving(server, file, **environment):
    """`server` over the WSGI file, up; gives its port and process."""
    port, log = free_port(), file.with_suffix(".log")
    # Servers are not to be saved by a caller who asks for one thread.
    environment = {**os.environ, "OMP_NUM_THREADS": str(WORKERS), **environment}
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(file.parent)
    with log.open("wb") as sink:
        process = subprocess.Popen(
            server(file, f"127.0.0.1:{port}"),
            cwd=TOP,
            env=environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_up(port, deadline - time.monotonic()):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield port, process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def check_stops(process, log):
    """A worker that waits at its end for a thread that it has not would be killed, or abort."""
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(STOP_SECONDS) == 0
    except subprocess.TimeoutExpired:
        pytest.fail(f"a worker hangs at its end:\n{log.read_text()}")
    assert "terminate called" not in log.read_text()


def is_up(port, seconds):
    try:
        return ask(port, "GET", "/", seconds=max(seconds, 1))[0] == 200
    except (ConnectionError, http.client.HTTPException):
        return False


def ask(port, method, path, body=None, seconds=ANSWER_SECONDS):
    """Status, answer and the worker that gave it; raises `TimeoutError`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read(), response.getheader("X-Worker")
    finally:
        connection.close()


def check_every_worker(port, path, pictures):
    """Posts the pictures until each worker has answered; every answer must be a right one."""
    images = [base64.b64encode(picture).decode() for picture in pictures]
    body = json.dumps({"images": images}).encode()
    workers, deadline = set(), time.monotonic() + START_SECONDS
    with ThreadPoolExecutor(2 * WORKERS) as pool:
        while len(workers) < WORKERS:
            assert time.monotonic() < deadline, f"only {workers} answered"
            asked = [pool.submit(ask, port, "POST", path, body) for _ in range(2 * WORKERS)]
            for answer in asked:
                status, content, worker = answer.result()
                assert status == 200, content
                assert all("label" in result for result in json.loads(content)["results"]), content
                workers.add(worker)


@pytest.fixture
def digits(tmp_path):
    """A store of the shipped digit model alone: the detector of faces is not loaded, which would
    set torch's threads to one by the way.
    """
    shutil.copytree(ROOT / "digits", tmp_path / "store" / "digits")
    return tmp_path / "store"


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("server", SERVERS)
def test_every_forked_worker_reads_digits(server, engine, digits, tmp_path):
    file = tmp_path / "served.py"
    path = f"import sys\n\nsys.path.insert(0, {str(TOP)!r})\n"
    file.write_text(path + "from wsgi import application\n" + NAMED)
    with serving(server, file, GLIMPSE_ENGINE=engine, GLIMPSE_MODEL_STORE=str(digits)) as (
        port,
        process,
    ):
        check_every_worker(port, "/api/predict", [SEVEN] * 20)
        check_stops(process, file.with_suffix(".log"))


@needs_uwsgi
@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_pythonanywhere_s_file_serves_digits_and_faces(engine, tmp_path):
    shipped = (TOP / "deploy" / "pythonanywhere" / "wsgi.py").read_text()
    for old, new in (("/home/NAME/glimpse", str(TOP)), ('"auto"', f'"{engine}"')):
        assert shipped.count(old) == 1
        shipped = shipped.replace(old, new)
    file = tmp_path / "served.py"
    file.write_text(shipped + NAMED)
    with serving(uwsgi, file, GLIMPSE_MODEL_STORE=str(ROOT)) as (port, process):
        check_every_worker(port, "/api/predict", [SEVEN] * 20)
        check_every_worker(port, "/api/predict?model=emotions-balanced", [FAMILY])
        check_stops(process, file.with_suffix(".log"))


def check_every_worker_takes(port, name, others):
    """Asks until workers that are not among `others` all answer with the version `name`.

    A version's label must be its own, and a worker that has a version does not fall back. Returns
    the workers.
    """
    body = json.dumps({"image": base64.b64encode(SEVEN).decode()}).encode()
    workers, deadline = set(), time.monotonic() + START_SECONDS
    while len(workers) < WORKERS:
        assert time.monotonic() < deadline, f"only {workers} have taken {name}"
        status, content, worker = ask(port, "POST", "/api/predict", body)
        assert status == 200, content
        answer = json.loads(content)
        assert LABELS[answer["version"]] == answer["results"][0]["label"]
        assert answer["version"] == name or worker not in workers
        if answer["version"] == name and worker not in others:
            workers.add(worker)
    return workers


@pytest.mark.parametrize("server", FORKING)
def test_every_worker_takes_a_version_that_is_switched_to(server, tmp_path):
    folder = tmp_path / "store" / "digits"
    for label in LABELS.values():
        made(tmp_path / label, int(label), int(label))
        model_store.add_version(tmp_path / label, folder)
    file = tmp_path / "served.py"
    path = f"import sys\n\nsys.path.insert(0, {str(TOP)!r})\n"
    file.write_text(path + "from wsgi import application\n" + NAMED)
    old, new = LABELS
    with serving(server, file, GLIMPSE_ENGINE="torch", GLIMPSE_MODEL_STORE=str(folder.parent)) as (
        port,
        process,
    ):
        workers = check_every_worker_takes(port, new, ())
        model_store.use(folder, old)
        assert check_every_worker_takes(port, old, ()) == workers
        process.send_signal(signal.SIGHUP)  # as to read its settings again: with new workers
        check_every_worker_takes(port, old, workers)
        model_store.use(folder, new)
        check_every_worker_takes(port, new, workers)
        check_stops(process, file.with_suffix(".log"))


def gunicorn_sync(file, address):
    """Its plain worker answers in the forked thread; new threads have pools of their own."""
    return [*gunicorn(file, address), "--worker-class", "sync", "--threads", "1"]


@pytest.mark.parametrize("server", [FORKING[0], gunicorn_sync])
def test_a_module_warmed_on_more_than_one_thread_would_be_noticed(server, tmp_path):
    """What the app's one thread is for; with it the same module answers."""
    file = tmp_path / "convolution.py"
    file.write_text(CONVOLUTION.format(threads=2))
    with serving(server, file) as (port, _), pytest.raises(TimeoutError):
        ask(port, "GET", "/convolve", seconds=HANG_SECONDS)
    file.write_text(CONVOLUTION.format(threads=1))
    with serving(server, file) as (port, _):
        assert ask(port, "GET", "/convolve", seconds=HANG_SECONDS)[0] == 200

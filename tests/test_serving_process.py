"""The real server process: gunicorn with its shipped configuration."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from gunicorn.app.wsgiapp import WSGIApplication
from PIL import Image
from samples import encode
from test_bad_input import BOMB
from werkzeug.serving import make_server

TOP = Path(__file__).resolve().parent.parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """What the server writes to its standard output."""
    return tmp_path_factory.mktemp("server") / "log"


@contextmanager
def serving(store, output, *arguments, **settings):
    """gunicorn over the store, up; gives its port and process, and stops it."""
    port = free_port()
    environment = {**os.environ, "GLIMPSE_MODEL_STORE": str(store), **settings}
    environment["GLIMPSE_BIND"] = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-w", "2", *arguments, "wsgi:app"],
        cwd=TOP,
        env=environment,
        stdout=output,
    )
    try:
        deadline = time.monotonic() + 60
        while ask(port, "GET", "/readyz")[0] != 200 or len(workers(process)) < 2:
            assert process.poll() is None, "gunicorn has ended"
            assert time.monotonic() < deadline, "gunicorn did not come up"
            time.sleep(0.1)
        yield port, process
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    finally:
        process.kill()


@pytest.fixture(scope="module")
def server(store, log):
    """gunicorn over the small store; gives its port and process."""
    with (
        log.open("wb") as output,
        serving(store, output, GLIMPSE_ARRIVAL_SECONDS="5") as port_and_process,
    ):
        yield port_and_process


@pytest.fixture
def full_memory(tmp_path, monkeypatch):
    """The shipped configuration where /dev/shm is full, and the folder that serves in its place."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    config = tmp_path / "gunicorn.conf.py"
    config.write_text(
        "import shutil, types\n"
        "shutil.disk_usage = lambda path: types.SimpleNamespace(free=0)\n"
        "from app.gunicorn_settings import *\n"
    )
    return config, folder


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


def connections(process, port):
    """How many connections to `port` each worker of `process` holds."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = "01"
    of_port = {
        f"socket:[{row[9]}]"
        for row in rows
        if row[1].endswith(f":{port:04X}") and row[3] == established
    }
    counts = []
    for pid in workers(process):
        files = []
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                files.append(str(file.readlink()))
        counts.append(sum(file in of_port for file in files))
    return counts


def test_no_worker_is_left_without_connections(server):
    port, process = server
    idle = 0
    for _ in range(10):
        deadline = time.monotonic() + 20
        while sum(connections(process, port)):  # those of before
            assert time.monotonic() < deadline
            time.sleep(0.1)
        held = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(8)]
        for connection in held:
            connection.request("GET", "/healthz")
        for connection in held:
            connection.getresponse().read()
        counts = connections(process, port)
        assert (sum(counts), len(counts)) == (8, 2)
        idle += min(counts) == 0
        for connection in held:
            connection.close()
    assert idle <= 2  # of gunicorn's own worker, in a third of the cases and more


def test_each_answer_is_a_line_of_json_in_the_log(server, log):
    port, _ = server
    ask(port, "GET", "/none?%22\\", headers={"X-Request-ID": "find-me", "User-Agent": 'a"\\'})
    deadline = time.monotonic() + 10
    while b"find-me" not in log.read_bytes():
        assert time.monotonic() < deadline, "no line in the log"
        time.sleep(0.05)
    (line,) = [line for line in log.read_text().splitlines() if "find-me" in line]
    told = json.loads(line)
    assert (told["method"], told["path"], told["status"]) == ("GET", "/none?%22\\", 404)
    assert told["request_id"] == "find-me"
    assert told["agent"] == 'a"\\'
    assert told["ms"] >= 0


def test_metrics_are_of_all_workers(server, png):
    port, process = server
    assert len(workers(process)) > 1

    def predictions():
        lines = ask(port, "GET", "/metrics")[1].decode().splitlines()
        told = [line for line in lines if line.startswith("glimpse_predictions_total")]
        return sum(float(line.split()[-1]) for line in told)

    before = predictions()
    with ThreadPoolExecutor(8) as pool:
        image = {"Content-Type": "image/png"}
        list(pool.map(lambda _: ask(port, "POST", "/api/predict", png, image), range(24)))
    assert {predictions() for _ in range(8)} == {before + 24}


def test_memory_of_large_pictures_comes_back(server):
    port, process = server
    picture = encode(Image.new("RGBA", (5000, 5000)), compress_level=1)
    before = memory(process)
    with ThreadPoolExecutor(6) as pool:
        answers = pool.map(
            lambda _: ask(port, "POST", "/api/predict", picture, {"Content-Type": "image/png"}),
            range(6),
        )
        assert [status for status, _ in answers] == [422] * 6
    assert memory(process) < before + 100


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


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n", b"3\r\nabcdef\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nno trailer\r\n\r\n"],
    ids=["size", "length", "trailer"],
)
def test_a_body_that_is_not_chunked_as_it_says_is_a_problem(server, body):
    port, _ = server
    head = b"POST /api/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        assert connection.recv(12) == b"HTTP/1.1 400"


def test_a_refusal_does_not_wait_for_the_rest_of_the_body(server):
    port, _ = server
    head = b"POST /api/predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head)
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_other_servers_answer_errors_too(app):
    """Flask's own, for one, gives a stream that does not end with the body."""
    other = make_server("127.0.0.1", 0, app)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    try:
        assert ask(other.port, "GET", "/nothing")[0] == 404
        assert (
            ask(other.port, "POST", "/api/predict", b"a", {"Content-Type": "image/png"})[0] == 400
        )
    finally:
        other.shutdown()
        other.server_close()


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
        ["ps", "-o", "pid=", "--ppid", str(process.pid)],
        capture_output=True,
        text=True,
        check=False,  # 1 where there is none
    )
    return sorted(listing.stdout.split())


def test_a_reload_reads_the_shipped_settings_again(monkeypatch):
    monkeypatch.setenv("GLIMPSE_BIND", "127.0.0.1:1")
    monkeypatch.setattr(sys, "argv", ["gunicorn", "-c", str(TOP / "gunicorn.conf.py"), "wsgi:app"])
    served = WSGIApplication()
    assert served.cfg.bind == ["127.0.0.1:1"]
    monkeypatch.setenv("GLIMPSE_BIND", "127.0.0.1:2")
    served.reload()
    assert served.cfg.bind == ["127.0.0.1:2"]


@pytest.mark.parametrize("ill", [False, True], ids=["well", "ill"])
def test_check_config_leaves_no_folder_behind(full_memory, store, ill):
    config, folder = full_memory
    environment = {**os.environ, "GLIMPSE_MODEL_STORE": str(store)}
    command = [sys.executable, "-m", "gunicorn", "-c", str(config), "wsgi:app"]
    if ill:  # the app stops the start
        environment["GLIMPSE_ENGINE"] = "none"
    else:
        command.append("--check-config")
    done = subprocess.run(command, cwd=TOP, env=environment, check=False)
    assert (done.returncode != 0) == ill
    assert not list(folder.iterdir())


def test_one_folder_of_metrics_outlives_reloads_and_none_the_server(full_memory, store):
    config, folder = full_memory
    with serving(store, None, "-c", str(config)) as (port, process):
        (metrics,) = folder.iterdir()
        for count in range(1, 3):
            assert ask(port, "GET", "/none")[0] == 404
            old = workers(process)
            process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 40
            while set(workers(process)) & set(old) or len(workers(process)) != 2:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            told = f'method="GET",route="none",status="404"}} {count}.0'
            assert told in ask(port, "GET", "/metrics")[1].decode()
        assert list(folder.iterdir()) == [metrics]
        # At most the old and the new workers and the master have counted together.
        assert len(list(metrics.glob("*.db"))) <= 3 * 5
    assert not list(folder.iterdir())


class Client(threading.Thread):
    """Asks one request after the other until it is refused or told to stop."""

    def __init__(self, port, *, keeps):
        super().__init__(daemon=True)
        self.port, self.keeps = port, keeps
        self.stopped, self.answered, self.lost = threading.Event(), 0, []

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        with closing(connection):
            while not self.stopped.is_set():
                try:
                    if connection.sock is None:
                        connection.connect()
                except ConnectionRefusedError:
                    return
                try:
                    connection.request("GET", "/healthz")
                    with connection.getresponse() as answer:
                        answer.read()
                    self.answered += 1
                except (OSError, http.client.HTTPException) as error:
                    self.lost.append(repr(error))
                    connection.close()
                if not self.keeps:
                    connection.close()


def test_a_reload_loses_no_request(store):
    """Of clients that connect anew for each, and of those that keep their connection."""
    with serving(store, None) as (port, process):
        clients = [Client(port, keeps=index % 2 == 0) for index in range(8)]
        for client in clients:
            client.start()
        time.sleep(1)
        old = workers(process)
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 40
        while set(workers(process)) & set(old):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for client in clients:
            client.stopped.set()
        for client in clients:
            client.join(40)
    assert all(client.answered for client in clients)
    assert [client.lost for client in clients] == [[]] * len(clients)

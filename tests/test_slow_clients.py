"""Clients that take their time: no thread waits for one, and each has a time to be done."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import time
from collections import deque
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace

import pytest
from test_serving_process import ask, serving, workers

from app.worker import Client, Worker

POST = b"POST /api/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
PAGE = b"GET /docs HTTP/1.1\r\nHost: a\r\n"


@contextmanager
def client(most=100):
    """The server's side of a connection, and the client's."""
    server, other = socket.socketpair()
    with Client(server, most, set()) as ours, other:
        yield ours, other


WHOLE = {
    "no body": PAGE + b"\r\n",
    "length": POST + b"content-LENGTH: 5\r\n\r\n12345",
    "chunks": POST
    + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\n12\r\n5\r\na\r\n"
    + b"0" * 10
    + b"\r\n0\r\n\r\n",
    "trailers": POST + b"transfer-encoding: CHUNKED\r\n\r\n1\r\na\r\n0\r\nX: 1\r\nY: 2\r\n\r\n",
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_request_is_there_with_its_last_byte_and_not_before(name):
    message = WHOLE[name]
    with client() as (ours, other):
        for index in range(len(message)):
            assert not ours.has_request(), message[:index]
            other.send(message[index : index + 1])
            ours.arrived += ours.receive()
        assert ours.has_request()


REFUSED = {
    "a body too large": POST + b"Content-Length: 101\r\n\r\n",
    "chunks too large": POST + b"Transfer-Encoding: chunked\r\n\r\nFF\r\n" + bytes(101),
    "a size that is none": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "a chunk longer than its size": POST
    + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    "a line that ends as no line does": b"GET / HTTP/1.1\nHost: a\n\n",
    "a client that speaks TLS": b"\x16\x03\x01\x02\x00",
    "an endless line": b"GET /" + b"a" * 8192,
    "an endless trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 2**17,
    "tiny chunks": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 10_001,
    "an endless head": POST + b"X: " + bytes(2**20),
    "an endless size": POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 2**21,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_will_be_refused_is_not_waited_for(name):
    with client() as (ours, _):
        ours.arrived += REFUSED[name]
        assert ours.has_request()


def test_no_read_and_no_write_waits():
    with client() as (ours, other):
        with pytest.raises(ConnectionResetError):
            ours.recv(1)
        ours.sendall(bytes(10_000_000))
        assert ours.leaving
        taken = 0
        while not ours.flush() or taken < 10_000_000:
            taken += len(other.recv(2**20))


SLOW = {
    "in its head": POST,
    "in its body": POST + b"Content-Length: 100\r\n\r\nabc",
    "in chunks": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n",
    "in a body too large": POST + b"Content-Length: 100000000\r\n\r\nabc",
    "before its head": b"",
    "after its head": PAGE + b"\r\n" + POST,
    "in reading": (PAGE + b"\r\n") * 10,
    "in closing": PAGE + b"Connection: close\r\n\r\n",
}


@pytest.fixture(scope="module")
def patient(store):
    """A server of two workers of two threads each that gives every client a thousand seconds."""
    with serving(
        store,
        None,
        "--threads",
        "2",
        "-t",
        "1000",
        "--keep-alive",
        "1000",
        GLIMPSE_ARRIVAL_SECONDS="1000",
    ) as (port, _):
        yield port


@contextmanager
def connections(port, count, message):
    """So many clients that have sent a message, and read nothing."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(30)
            connection.connect(("127.0.0.1", port))
            connection.sendall(message)
            found.append(connection)
        yield found


@pytest.mark.parametrize("name", SLOW)
def test_slow_clients_hold_no_thread(patient, png, name):
    with connections(patient, 20, SLOW[name]):
        for _ in range(4):
            assert ask(patient, "GET", "/healthz")[0] == 200
            assert (
                ask(patient, "POST", "/api/predict", png, {"Content-Type": "image/png"})[0] == 200
            )


def answers(connection, count):
    """The statuses of so many answers."""
    reader = connection.makefile("rb")
    statuses = []
    for _ in range(count):
        statuses.append(reader.readline().split()[1])
        lines = iter(reader.readline, b"\r\n")
        head = dict(line.lower().split(b": ", 1) for line in lines)
        reader.read(int(head.get(b"content-length", 0)))
    return statuses


@pytest.mark.parametrize("step", [1, 7, 1000], ids="{} bytes at a time".format)
def test_requests_that_come_together_are_answered_one_after_the_other(patient, png, step):
    body = b"Content-Length: %d\r\n\r\n" % len(png) + png
    message = PAGE + b"\r\n" + POST + body + b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.create_connection(("127.0.0.1", patient), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(message), step):
            connection.sendall(message[start : start + step])
        assert answers(connection, 3) == [b"200", b"200", b"404"]


def test_a_client_that_asks_whether_to_go_on_is_told_so_once(patient, png):
    head = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(png)
    with socket.create_connection(("127.0.0.1", patient), timeout=30) as connection:
        connection.sendall(head)
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(png)
        assert answers(connection, 1) == [b"200"]


@pytest.fixture(scope="module")
def hasty(store):
    """A server that gives every client a second, and each worker 64 open files."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit[1]))
    try:
        with serving(store, None, GLIMPSE_ARRIVAL_SECONDS="1") as port_and_process:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            yield port_and_process
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


@pytest.mark.parametrize("name", ["in its head", "in its body", "in chunks"])
def test_a_request_that_does_not_arrive_in_time_is_told_so(hasty, name):
    with connections(hasty[0], 1, SLOW[name]) as (connection,):
        answer = connection.recv(4096)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in head
        assert json.loads(body)["detail"].startswith("The request did not arrive within 1 s.")
        assert connection.recv(1) == b""


@pytest.mark.parametrize("name", ["in reading", "in closing", "in a body too large"])
def test_a_client_that_does_not_end_is_given_up(hasty, name):
    deadline = time.monotonic() + 20
    with connections(hasty[0], 1, SLOW[name]) as (connection,), pytest.raises(OSError):
        while time.monotonic() < deadline:
            connection.send(b"a")
            time.sleep(0.1)


@pytest.mark.parametrize("name", ["before its head", "in its head", "in closing"])
def test_more_clients_than_open_files_keep_nobody_out(hasty, name):
    port, process = hasty
    before = workers(process)
    with connections(port, 200, SLOW[name]):
        for _ in range(10):
            assert ask(port, "GET", "/healthz")[0] == 200
    assert workers(process) == before


def test_what_has_arrived_has_a_limit_and_the_newest_goes_on(patient, png):
    """Two workers have room for 16 of them."""
    part = POST + b"Content-Length: 16000000\r\n\r\n" + bytes(15_900_000)
    with connections(patient, 24, part) as all_of_them:
        assert ask(patient, "POST", "/api/predict", png, {"Content-Type": "image/png"})[0] == 200
        answered, _, _ = select.select(all_of_them, [], [], 10)
        first = answered[0].recv(4096)
        assert first.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 5" in first


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: other\r\n\r\n", 501),
    ],
)
def test_what_gunicorn_refuses_is_a_problem_too(patient, sent, status):
    with connections(patient, 1, sent) as (connection,):
        head, _, body = connection.recv(4096).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == status


def test_no_header_moves_the_routes(patient):
    headers = {"SCRIPT_NAME": "/other", "Script-Name": "/other"}
    assert ask(patient, "GET", "/healthz", headers=headers)[0] == 200


@contextmanager
def stopped(process):
    """The workers of a server, which do nothing meanwhile."""
    pids = [int(pid) for pid in workers(process)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(0.2)
    try:
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_connection_that_is_closed_for_another_may_have_sent_just_then(store):
    """Its event is in the same list as that of the connection it was closed for."""
    few = ("--threads", "1", "--worker-connections", "5", "--keep-alive", "1000")
    with serving(store, None, *few) as (port, process), connections(port, 12, b"") as held:
        time.sleep(0.5)
        with stopped(process) as before, connections(port, 2, PAGE + b"\r\n"):
            for connection in held:
                with suppress(OSError):  # it was closed before
                    connection.sendall(PAGE + b"\r\n")
        for _ in range(5):
            assert ask(port, "GET", "/healthz")[0] == 200
        assert [int(pid) for pid in workers(process)] == before


def test_a_stop_answers_what_was_sent_before(store):
    """On connections that are kept, and on new ones behind those of clients that have gone."""
    message = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    with serving(store, None) as (port, process), ExitStack() as stack:
        kept = stack.enter_context(connections(port, 4, message))
        assert [answers(connection, 1) for connection in kept] == [[b"200"]] * 4
        with stopped(process):
            for connection in kept:
                connection.sendall(message)
            with connections(port, 6, b""):
                pass
            new = stack.enter_context(connections(port, 3, message))
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
        assert [answers(connection, 1) for connection in [*kept, *new]] == [[b"200"]] * 7


def test_a_first_request_may_come_late_where_no_connection_is_kept(store):
    with (
        serving(store, None, "--keep-alive", "0") as (port, _),
        socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
    ):
        time.sleep(0.3)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answers(connection, 1) == [b"200"]


def test_without_a_whole_request_a_connection_with_tls_is_only_closed():
    server, other = socket.socketpair()
    worker = Worker.__new__(Worker)
    worker.nr_conns, worker.keepalived_conns, worker.pending_conns = 1, deque(), deque()
    with other:
        worker._refuse(SimpleNamespace(sock=server, close=server.close), b"late")
        assert other.recv(1) == b""
    assert worker.nr_conns == 0

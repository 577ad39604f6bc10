"""gunicorn's threaded worker, whose threads wait for no client; docs/performance.md measures it."""

from __future__ import annotations

import errno
import json
import re
import selectors
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn import SERVER_SOFTWARE, util, version_info
from gunicorn.workers import gthread

from app.config import settings

if version_info < (27, 0, 1):
    raise ImportError(
        f"{SERVER_SOFTWARE} is too old to serve Glimpse: pip install 'gunicorn>=27.0.1,<28'"
    )

AT_ONCE = 256 * 1024  # bytes that are received in one go
MOST_HEAD = 1024 * 1024  # more than gunicorn reads of a head before it refuses the request
MOST_LINE = 8192  # the same of a request's first line or a chunk's
MOST_TRAILER = 64 * 1024
MOST_TINY = 10_000  # chunks of less than 64 bytes on average
MOST_QUEUED = 4096  # connections that a worker still accepts when it stops
SMALL = 64 * 1024  # bytes that a connection may hold even where there is no more room
LEAST_ROOM = 128 * 1024 * 1024  # for what has arrived at a worker and not been read, bytes
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
CHUNK = re.compile(rb"([0-9a-f]{1,12})[ \t]*(?:;|\Z)", re.IGNORECASE)
BARE = re.compile(rb"(?<!\r)\n")  # a line's end that gunicorn refuses at once
EXPECTED = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


def problem(status: int, title: str, detail: str, more: str = "") -> bytes:
    """An answer that no part of the app gives; `more` are lines of its head."""
    slug = title.lower().replace(" ", "-")
    told = {"type": f"urn:glimpse:problem:{slug}", "title": title, "status": status}
    body = json.dumps({**told, "detail": detail}).encode()
    head = (
        f"HTTP/1.1 {status} {title}\r\nConnection: close\r\nContent-Type: application/problem+json"
        f"\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body


def write_error(client: socket.socket, status: int, reason: str, message: str) -> None:
    """Sends what gunicorn says of a request that it refuses."""
    client.sendall(problem(status, reason, message or "The server's log has the reason."))


util.write_error = write_error  # gunicorn's own is HTML
BUSY = problem(
    503,
    "Busy",
    "The server receives too much at once. Wait 5 s, then send it again.",
    "Retry-After: 5\r\n",
)


class Client(socket.socket):
    """A connection that never blocks: it gathers requests, and keeps answers until they leave.

    `most` is the size of a body, in bytes, above which the app refuses it; `clients` are all that
    are open.
    """

    def __init__(self, connection: socket.socket, most: int, clients: set[Client]) -> None:
        super().__init__(fileno=connection.detach())
        super().setblocking(False)
        self.most, self.clients = most, clients
        clients.add(self)
        self.arrived, self.leaving = bytearray(), bytearray()
        self.start_anew()

    @property
    def held(self) -> int:
        """The bytes that it keeps."""
        return len(self.arrived) + len(self.leaving)

    def start_anew(self) -> None:
        """Expects the head of a request."""
        self.body, self.at, self.is_chunked = 0, 0, False  # at: the body's end or the next chunk
        self.searched = self.chunks = 0

    def close(self) -> None:
        """Closes the connection and drops what it keeps."""
        self.arrived.clear()
        self.leaving.clear()
        self.clients.discard(self)
        super().close()

    def setblocking(self, flag: bool) -> None:
        """Nothing: gunicorn's threads ask for it."""

    def settimeout(self, value: float | None) -> None:
        """Nothing, as above."""

    def receive(self) -> bytes:
        """What has come, if anything; raises `OSError` if the client has gone."""
        try:
            came = super().recv(AT_ONCE)
        except BlockingIOError:
            return b""
        if not came:
            raise ConnectionResetError(errno.ECONNRESET, "the client has closed the connection")
        return came

    def ignore(self) -> bool:
        """Drops what has come; false until the client has gone, which `receive` tells."""
        self.receive()
        return False

    def has_request(self) -> bool:
        """Whether a request has arrived, or so much that gunicorn or the app refuses it."""
        if not self.arrived:
            return False
        if not self.at:
            start, self.searched = max(0, self.searched - 3), len(self.arrived)
            end = self.arrived.find(b"\r\n\r\n", start)
            if end < 0:
                return self._is_no_head(start)
            self._read_head(bytes(self.arrived[: end + 4]))
        return self._has_chunks() if self.is_chunked else len(self.arrived) >= self.at

    def _is_no_head(self, start: int) -> bool:
        """Whether what has arrived can be the beginning of no head; `start` is the new part's."""
        size, first = len(self.arrived), self.arrived[0]
        return bool(
            size > MOST_HEAD
            or (size > MOST_LINE and self.arrived.find(b"\r\n", 0, MOST_LINE) < 0)
            or not (0x20 < first < 0x7F or first == 0x0D)  # as of a client that speaks TLS
            or BARE.search(self.arrived, start)
        )

    def _read_head(self, head: bytes) -> None:
        self.at = len(head)
        self.is_chunked = bool(CHUNKED.search(head))
        length = LENGTH.search(head)
        if length and not self.is_chunked and int(length[1]) <= self.most:
            self.at += int(length[1])
        if EXPECTED.search(head) and (self.is_chunked or len(self.arrived) < self.at):
            super().send(GO_ON)

    def _has_chunks(self) -> bool:
        while (end := self.arrived.find(b"\r\n", self.at)) >= 0:
            size = CHUNK.match(self.arrived[self.at : end])
            if not size or self.arrived[self.at - 2 : self.at] != b"\r\n":
                return True
            if not int(size[1], 16):
                break
            self.body += int(size[1], 16)
            self.at = end + 4 + int(size[1], 16)
            self.chunks += 1
            if self.chunks > MOST_TINY and self.body < 64 * self.chunks:
                return True
        rest, most = (self.at, MOST_LINE) if end < 0 else (end, MOST_TRAILER)
        if len(self.arrived) - rest > most:
            return True
        if end >= 0 and self.arrived.find(b"\r\n\r\n", end) >= 0:  # trailers, and an empty line
            return True
        came = self.body - max(0, self.at - 2 - len(self.arrived))
        return came > self.most or len(self.arrived) - came > MOST_HEAD + self.most // 8

    def recv(self, size: int, flags: int = 0) -> bytes:
        """What has arrived, for gunicorn's threads; raises `OSError` where that was all."""
        if not self.arrived:
            raise ConnectionResetError(errno.ECONNRESET, "no more has arrived")
        taken = bytes(self.arrived[:size])
        del self.arrived[:size]
        return taken

    def send(self, data: Any, flags: int = 0) -> int:
        """Only what gunicorn sends by this: leave to go on, which the client had."""
        return len(data)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Sends what the client takes now, and keeps the rest."""
        self.leaving += data
        self.flush()

    def flush(self) -> bool:
        """Whether everything has left; raises `OSError` if the client has gone."""
        with suppress(BlockingIOError):
            while self.leaving:
                del self.leaving[: super().send(self.leaving)]
        return not self.leaving


class Worker(gthread.ThreadWorker):  # type: ignore[misc]
    """A request goes to a thread when all of it is there; answers leave from the main thread."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        given = settings()
        self.seconds, self.most = int(given["ARRIVAL_SECONDS"]), int(given["MAX_BYTES"])
        self.room = max(LEAST_ROOM, 2 * self.most)
        self.clients: set[Client] = set()
        self.late = problem(
            408,
            "Request Timeout",
            f"The request did not arrive within {self.seconds} s. Send fewer or smaller pictures, "
            "or use a faster connection.",
        )

    def accept(self, listener: Any) -> None:
        """Accepts a connection, after a worker that holds none had a millisecond to do so."""
        time.sleep(0.001 if self.nr_conns and self.alive else 0)
        waiting, held = self.keepalived_conns or self.pending_conns, self.nr_conns
        oldest = waiting[0] if waiting else None
        is_full = held >= self.worker_connections - 1
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            is_full, held = True, -1
        if is_full and oldest and self.nr_conns > held:
            self._close(oldest)

    def set_accept_enabled(self, enabled: bool) -> None:
        """On shutdown, accepts the queued connections, then closes the listeners."""
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        # A connection that comes between the last one and the close is lost: no other thread may
        # take its time there.
        sys.setswitchinterval(1e-5)
        for listener in self.sockets:
            with selectors.DefaultSelector() as queue:
                queue.register(listener.sock, selectors.EVENT_READ)
                for _ in range(MOST_QUEUED):
                    if not queue.select(0):
                        break
                    self.accept(listener)
                listener.close()

    def enqueue_req(self, conn: Any) -> None:
        """Hands a connection to a thread, now or as soon as its request has arrived."""
        if self.cfg.is_ssl or self.cfg.protocol != "http":
            super().enqueue_req(conn)
            return
        if not isinstance(conn.sock, Client):
            conn.sock, conn.data_ready = Client(conn.sock, self.most, self.clients), True
        if conn.parser:  # what gunicorn has read of the next request
            conn.sock.arrived[:0] = conn.parser.unreader.take_buffered()
        conn.sock.start_anew()
        try:
            is_whole = self._has_request(conn)
        except OSError:
            self._close(conn)
            return
        if is_whole:
            super().enqueue_req(conn)
        elif conn.sock.arrived or not conn.parser:
            arrives = partial(self._has_request, conn)
            self._when(conn, selectors.EVENT_READ, arrives, super().enqueue_req)
        else:  # it is kept for its next request
            conn.set_timeout()
            self.keepalived_conns.append(conn)
            readable = partial(self.on_client_socket_readable, conn)
            self.poller.register(conn.sock, selectors.EVENT_READ, readable)

    def _has_request(self, conn: Any) -> bool:
        client = conn.sock
        if client.arrived and client.has_request():  # it came with the one before
            return True
        client.arrived += client.receive()
        # Those that hold little cannot fill the room.
        while client.held > SMALL and sum(each.held for each in list(self.clients)) > self.room:
            large = (each for each in self.pending_conns if each.sock.held > SMALL)
            if not (oldest := next(large, None)):
                break
            self._refuse(oldest, BUSY)
        return bool(client.arrived) and client.has_request()

    def finish_request(self, conn: Any, fs: Any) -> None:
        """After a thread's work: sends the rest of the answer, then closes or waits for more."""
        client = conn.sock
        if not isinstance(client, Client):
            super().finish_request(conn, fs)
        elif client.leaving:
            then = partial(self.finish_request, fs=fs)
            self._when(conn, selectors.EVENT_WRITE, client.flush, then)
        elif fs.cancelled() or fs.exception() or not fs.result():
            self._linger(conn)
        else:
            super().finish_request(conn, fs)
            if client.arrived and self.keepalived_conns and self.keepalived_conns[-1] is conn:
                self.on_client_socket_readable(conn, client)

    def _when(
        self, conn: Any, event: int, is_done: Callable[[], bool], then: Callable[[Any], None]
    ) -> None:
        """Calls `then` as soon as `is_done`, which is asked whenever the client is ready."""

        def ready(_: Any) -> None:
            try:
                if is_done():
                    self._forget(conn)
                    then(conn)
            except OSError:
                self._close(conn)

        conn.timeout = time.monotonic() + self.seconds
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, event, ready)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Acts on events, but for those of a connection that an earlier one of them has ended."""
        for key, _ in self.poller.select(timeout):
            held = self.poller.get_map().get(key.fd)
            if held is not None and held.data is key.data:
                key.data(key.fileobj)

    def murder_pending(self) -> None:
        """Gives up the clients that have had their time, which is short for silent ones at last."""
        now = time.monotonic()
        while self.pending_conns and self.pending_conns[0].timeout <= now:
            self._refuse(self.pending_conns[0], self.late)
        least = now if self.alive else now + self.seconds - gthread.STOP_KEEPALIVE_LINGER
        for conn in list(self.pending_conns):
            if conn.timeout > least:
                break
            if isinstance(conn.sock, Client) and not (conn.sock.held or conn.parser):
                self._close(conn)

    def _refuse(self, conn: Any, answer: bytes) -> None:
        """Gives a client up, with an answer if it has sent a part of a request."""
        if not (isinstance(conn.sock, Client) and conn.sock.arrived):
            self._close(conn)
            return
        self._forget(conn)
        with suppress(OSError):
            conn.sock.sendall(answer)
        self._linger(conn)

    def _linger(self, conn: Any) -> None:
        """Closes after the client has: to close on what it sends would reset the connection."""
        conn.sock.arrived.clear()
        conn.sock.leaving.clear()
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
            return
        self._when(conn, selectors.EVENT_READ, conn.sock.ignore, self._close)

    def _forget(self, conn: Any) -> None:
        for waiting in (self.keepalived_conns, self.pending_conns):
            if conn in waiting:
                waiting.remove(conn)
                self.poller.unregister(conn.sock)

    def _close(self, conn: Any) -> None:
        if getattr(conn, "is_closed", False):
            return
        conn.is_closed = True
        self._forget(conn)
        self.nr_conns -= 1
        conn.close()

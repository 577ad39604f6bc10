"""PostgreSQL is killed and started again under reports and predictions: neither suffers.

`pytest -s tests/test_reports_outage.py` prints what was counted.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import closing

from samples import encode, seven
from test_reporting import GOOD
from test_serving_process import serving

import reports

SEVEN = encode(seven())
DEADLINE = 60  # seconds
REST = 0.01  # seconds between two requests of a client


class Client(threading.Thread):
    """Sends one request after the other until it is stopped; a report until it is kept."""

    def __init__(self, port, number):
        super().__init__(daemon=True)
        self.port, self.number = port, number
        self.stopped = threading.Event()
        self.kept, self.refused, self.failures, self.slowest = {}, 0, [], 0.0
        self.start()

    def run(self):
        at = 0
        while not self.stopped.is_set():
            started = time.monotonic()
            try:
                at += self.send(f"{self.number}-{at}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            self.slowest = max(self.slowest, time.monotonic() - started)
            time.sleep(REST)

    def ask(self, path, body, kind, **headers):
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("POST", path, body, {"Content-Type": kind, **headers})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()


class Predicting(Client):
    """Predicts."""

    def send(self, name):
        status, _, body = self.ask("/api/predict", SEVEN, "image/png")
        if status == 200:
            self.kept[name] = 1
        else:
            self.failures.append(body)
        return 1


class Reporting(Client):
    """Reports, each answer from another address, so that no limit is reached."""

    def send(self, name):
        at = len(self.kept)
        body = json.dumps({**GOOD, "answer": name})
        address = {"X-Forwarded-For": f"10.{self.number}.{at // 250}.{at % 250}"}
        status, headers, body = self.ask("/api/reports", body, "application/json", **address)
        if status in (200, 201):
            self.kept[name] = json.loads(body)["id"]
            return 1
        self.refused += 1
        if status != 503 or not 1 <= int(headers["Retry-After"]) <= reports.PAUSE:
            self.failures.append(body)
        return 0


def test_postgresql_killed_under_load_loses_no_report_and_no_prediction(store, emptied):
    settings = {"GLIMPSE_REPORTS": emptied.url, "GLIMPSE_PROXY": "forwarded"}
    with serving(store, None, **settings) as (port, _):
        predicting = [Predicting(port, number) for number in range(2)]
        reporting = [Reporting(port, number) for number in range(4)]
        clients = [*predicting, *reporting]

        def kept():
            return sum(len(each.kept) for each in reporting)

        def wait_for(happened):
            end = time.monotonic() + DEADLINE
            while not happened():
                assert time.monotonic() < end, [each.failures[:3] for each in clients]
                time.sleep(0.02)

        wait_for(lambda: kept() >= 100)
        emptied.kill()
        killed = time.monotonic()
        wait_for(lambda: all(each.refused for each in reporting))
        emptied.start()
        started, before = time.monotonic(), kept()
        wait_for(lambda: kept() >= before + 50)
        back = time.monotonic() - started
        for each in clients:
            each.stopped.set()
        for each in clients:
            each.join(DEADLINE)
    assert [each.failures for each in clients] == [[]] * len(clients)
    acknowledged = {number for each in reporting for number in each.kept.values()}
    assert len(acknowledged) == kept()
    database, found, after = reports.open_database(emptied.url), set(), None
    while True:
        page = database.page(after=after)
        found |= {each.id for each in page.reports}
        if (after := page.after) is None:
            break
    assert acknowledged <= found
    # At most the last of each client was kept and its answer lost, had it been stopped then.
    assert len(found) <= len(acknowledged) + len(reporting)
    slowest = max(each.slowest for each in predicting)
    print(
        f"\n{sum(each.refused for each in reporting)} reports refused, {kept()} acknowledged, "
        f"{len(found)} found, 0 lost; {sum(len(each.kept) for each in predicting)} predictions, 0 "
        f"failed, the slowest {slowest:.2f} s; "
        f"away for {started - killed:.1f} s, taken again {back:.1f} s after that"
    )

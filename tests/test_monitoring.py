"""What watches a server: Prometheus's alert rules and Grafana's dashboard, on the app's metrics."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from samples import encode, seven

TOP = Path(__file__).resolve().parent.parent
PROMETHEUS = TOP / "deploy" / "prometheus"
DASHBOARD = TOP / "deploy" / "grafana" / "dashboard.json"
WATCHED = (PROMETHEUS / "rules.yml", DASHBOARD, TOP / "deploy/kubernetes/prometheus-adapter.yaml")
needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="needs Prometheus"
)


def queries():
    """Those of the dashboard's panels, as Grafana would send them."""
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    texts = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(texts) > 10
    return [text.replace("$__rate_interval", "30s").replace("$job", ".*") for text in texts]


@pytest.mark.parametrize("file", WATCHED, ids=lambda file: file.name)
def test_every_metric_that_is_watched_is_one_of_the_app(file, client):
    client.post("/api/predict", data=encode(seven()), content_type="image/png")
    client.post("/api/predict", data=b"no picture", content_type="image/png")
    told = set(re.findall(r"^(glimpse_\w+)", client.get("/metrics").text, re.M))
    named = set(re.findall(r"(?<!as: )\bglimpse_\w+", file.read_text("utf-8")))
    assert named
    assert named <= told


def test_the_routes_that_are_watched_are_routes_of_the_app(client):
    rules = {rule.rule for rule in client.application.url_map.iter_rules()}
    for file in WATCHED:
        text = file.read_text("utf-8")
        named = set(re.findall(r'route=\\?"([^"\\]+)', text))
        for alternatives in re.findall(r'route!~\\?"/\(([a-z|]+)\)', text):
            named |= {f"/{name}" for name in alternatives.split("|")}
        assert named
        assert named <= rules


@needs_prometheus
def test_alerts_fire_when_they_should_and_only_then():
    for command in (["check", "config"], ["test", "rules"]):
        file = PROMETHEUS / ("prometheus.yml" if command[0] == "check" else "rules_test.yml")
        done = subprocess.run(
            ["promtool", *command, file], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(address, *command, **settings):
    """A process that answers at `address`."""
    environment = {**os.environ, **settings}
    with subprocess.Popen(
        command, cwd=TOP, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert eventually(lambda: fetch(address) is not None), command
            yield
        finally:
            process.terminate()


def fetch(address, body=None):
    """The answer, or none while there is none."""
    try:
        with urlopen(Request(address, body, {"Content-Type": "image/png"}), timeout=30) as answer:
            return answer.read()
    except OSError:
        return None


def eventually(found):
    """What `found` returns as soon as that is something."""
    deadline = time.monotonic() + 60
    while not (value := found()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return value


@needs_prometheus
def test_a_prometheus_that_scrapes_four_workers_has_an_answer_to_every_query(store, tmp_path):
    here, there = free_port(), free_port()
    own = f"http://127.0.0.1:{there}/api/v1/query?"
    text = (PROMETHEUS / "prometheus.yml").read_text("utf-8")
    text = text.replace("15s", "1s").replace("127.0.0.1:8000", f"127.0.0.1:{here}")
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(PROMETHEUS / "rules.yml", tmp_path)
    server = [sys.executable, "-m", "gunicorn", "-w", "4", "wsgi:app"]
    watcher = [
        "prometheus",
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{there}",
    ]
    address = f"http://127.0.0.1:{here}"

    def ask(query):
        answer = json.loads(fetch(own + urlencode({"query": query})) or b"{}")
        return answer.get("data", {}).get("result", [])

    def predict(*bodies):
        return [fetch(f"{address}/api/predict", body) for body in bodies]

    with (
        running(
            f"{address}/readyz",
            *server,
            GLIMPSE_MODEL_STORE=str(store),
            GLIMPSE_BIND=f"127.0.0.1:{here}",
        ),
        running(f"http://127.0.0.1:{there}/-/ready", *watcher),
    ):
        predict(encode(seven()), b"no picture")  # a series has to be there before it rises
        total = 'glimpse_requests_total{route="/api/predict"}'
        assert eventually(lambda: ask(total))
        predict(*[encode(seven())] * 40, b"no picture")
        assert eventually(lambda: ask(f"sum({total}) == 43"))  # of all workers, none twice
        for query in [*queries(), "glimpse:requests_in_work"]:
            assert eventually(lambda query=query: ask(query)), query
        assert ask("ALERTS") == []

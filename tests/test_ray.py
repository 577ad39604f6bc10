"""deploy/ray: pictures in bulk on a cluster, one of whose machines is lost, and Ray Serve."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from samples import encode, seven

# Ray reads these when it is imported: its processes are to get their share of a busy machine.
os.environ |= {"RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled"}
os.environ |= {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60", "RAY_raylet_start_wait_time_s": "120"}
ray = pytest.importorskip("ray")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("fsspec")

from deploy.ray import predict  # noqa: E402

TOP = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.filterwarnings("ignore")  # of packages that are in no list of the project
VERSION = "2026.01.01-abcdef0"  # of the model of the fixture `store`


@pytest.fixture(autouse=True)
def environment(store, monkeypatch):
    monkeypatch.setenv("GLIMPSE_MODEL_STORE", str(store))


@pytest.fixture
def pictures(tmp_path):
    """A folder of thirty pictures, of which two are broken."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for number in range(30):
        picture = encode(seven()) + bytes([number]) if number % 20 else b"broken"
        place = folder / "more" if number % 2 else folder
        (place / f"{number:02} [a].png").write_bytes(picture)
    (folder / "notes.txt").write_text("no picture")
    return folder


def answer_all(source, output, size=8, column="bytes"):
    """What a run without a cluster does; returns the shards that it did."""
    done, answered = predict.done_in(str(output), "digits", VERSION)
    shards = predict.shards_of(str(source), column, size, done, answered)
    classifier = predict.Classifier(str(source), str(output), "digits", VERSION, column)
    for shard in shards:
        classifier(shard)
    return shards


def rows(output):
    return pq.read_table(output).to_pylist()


def test_every_picture_of_a_folder_is_answered_once(pictures, tmp_path):
    assert len(answer_all(pictures, tmp_path / "out")) == 4
    found = {row["path"]: row for row in rows(tmp_path / "out")}
    assert len(rows(tmp_path / "out")) == len(found) == 30
    broken = {path for path, row in found.items() if row["error"]}
    assert broken == {"00 [a].png", "20 [a].png"}
    assert found["00 [a].png"]["label"] is None
    assert found["more/15 [a].png"]["verdict"] in ("sure", "unsure", "none")


def test_a_run_goes_on_where_it_ended_and_with_pictures_that_came_since(pictures, tmp_path):
    answer_all(pictures, tmp_path / "out")
    (sorted((tmp_path / "out").iterdir())[1]).unlink()
    (pictures / "0 new.png").write_bytes(encode(seven()))
    assert len(answer_all(pictures, tmp_path / "out")) in (1, 2)
    assert answer_all(pictures, tmp_path / "out") == []
    assert len({row["path"] for row in rows(tmp_path / "out")}) == 31 == len(rows(tmp_path / "out"))


@pytest.mark.parametrize("nested", [False, True], ids=["bytes", "as datasets has it"])
def test_a_parquet_of_bytes_is_read_by_its_row_groups(tmp_path, nested):
    pictures = [encode(seven()), b"", None, b"broken", encode(seven())]
    paths = ["a", "b", "c", "d", None]
    if nested:
        pairs = zip(pictures, paths, strict=True)
        table = pa.table({"image": [{"bytes": each, "path": path} for each, path in pairs]})
    else:
        table = pa.table({"path": paths, "image": pa.array(pictures, pa.binary())})
    source = tmp_path / "source"
    source.mkdir()
    pq.write_table(table, source / "five.parquet", row_group_size=2)
    assert len(answer_all(source, tmp_path / "out", column="image")) == 3
    assert answer_all(source, tmp_path / "out", column="image") == []
    found = {row["path"]: row["error"] is None for row in rows(tmp_path / "out")}
    assert found == {"a": True, "b": False, "c": False, "d": False, "five.parquet#4": True}
    alone = source / "five.parquet"
    assert len(answer_all(alone, tmp_path / "alone", column="image")) == 3


def test_what_is_wrong_is_told_before_a_run(pictures, tmp_path, capsys):
    answer_all(pictures, tmp_path / "out")
    with pytest.raises(ValueError, match="another model"):
        predict.done_in(str(tmp_path / "out"), "digits", "other")
    pq.write_table(pa.table({"other": [1]}), pictures / "x.parquet")
    with pytest.raises(ValueError, match="--column"):
        predict.shards_of(str(pictures), "bytes", 8, set(), set())
    with pytest.raises(SystemExit):
        predict.main([str(pictures), str(tmp_path / "none"), "--model", "none"])
    assert "none" in capsys.readouterr().err


def test_a_machine_that_is_lost_loses_no_picture(pictures, tmp_path):
    """On a cluster of two nodes, of which one is killed when the first answers are there."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        lost = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        command = [sys.executable, "-m", "deploy.ray.predict", pictures, tmp_path / "out"]
        environment = {**os.environ, "RAY_ADDRESS": cluster.address}
        with subprocess.Popen([*command, "--shard", "2"], cwd=TOP, env=environment) as process:
            while not list(tmp_path.glob("out/part-*")):
                assert process.poll() is None
                time.sleep(0.05)
            cluster.remove_node(lost, allow_graceful=False)
            assert process.wait(300) == 1  # for two pictures are broken
    finally:
        cluster.shutdown()
    assert len(rows(tmp_path / "out")) == 30 == len({row["path"] for row in rows(tmp_path / "out")})


@pytest.fixture(scope="module")
def served(store):
    """The port of Ray Serve with the app, in two replicas, and what updates it."""
    pytest.importorskip("a2wsgi")
    from ray import serve

    from deploy.ray.serve import Glimpse

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {"GLIMPSE_MODEL_STORE": str(store), "PYTHONPATH": f"{TOP}:{TOP / 'tests'}"}
    # As the fixture `app`, to which the answers are compared.
    variables |= {"GLIMPSE_MAX_BYTES": "2000000", "GLIMPSE_MAX_PIXELS": "4000000"}
    ray.init(num_cpus=4, include_dashboard=False, runtime_env={"env_vars": variables})
    serve.start(http_options={"port": port})

    def update(most):
        own = {"GLIMPSE_MAX_IMAGES": str(most), "OMP_NUM_THREADS": "1"}
        actor = {"num_cpus": 1, "runtime_env": {"env_vars": own}}
        fixed = {"autoscaling_config": None, "num_replicas": 2, "ray_actor_options": actor}
        serve.run(Glimpse.options(**fixed).bind())

    update(100)
    yield port, update
    serve.shutdown()
    ray.shutdown()


def requests():
    """A hundred requests: method, path, body and its type."""
    png = "image/png"
    yield from (("GET", path, None, png) for path in ("/", "/models", "/api/models", "/readyz"))
    yield from (("GET", path, None, png) for path in ("/nowhere", "/openapi.json", "/docs"))
    yield from [("POST", "/api/predict", b"", png), ("POST", "/api/predict", b"broken", png)]
    yield ("POST", "/api/predict", json.dumps({"image": "%%%"}).encode(), "application/json")
    for number in range(90):
        picture = encode(seven().resize((60 + number, 80)))
        yield ("POST", f"/api/predict?top_k={1 + number % 10}", picture, png)


def without_times(body):
    return re.sub(rb'"elapsed_ms":\s*[0-9.]+', b"", body)


def ask(port, method, path, body=None, kind="image/png"):
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {"Content-Type": kind, "X-Request-ID": "same"})
    answer = connection.getresponse()
    with closing(connection):
        return answer.status, answer.headers, answer.read()


def test_ray_serve_answers_as_flask_does(served, client):
    port, _ = served
    asked = list(requests())
    assert len(asked) == 100
    for method, path, body, kind in asked:
        status, headers, given = ask(port, method, path, body, kind)
        own = client.open(
            path,
            f"http://127.0.0.1:{port}",
            method=method,
            data=body,
            headers={"Content-Type": kind, "X-Request-ID": "same"},
        )
        assert (status, without_times(given)) == (own.status_code, without_times(own.data)), path
        assert headers["Content-Type"] == own.headers["Content-Type"]
        assert headers["X-Request-ID"] == "same"


def test_an_update_of_ray_serve_loses_no_request(served):
    port, update = served
    picture, stop, answers = encode(seven()), threading.Event(), []

    def load():
        while not stop.is_set():
            try:
                answers.append(ask(port, "POST", "/api/predict", picture)[0])
            except OSError as error:
                answers.append(repr(error))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    update(1)
    stop.set()
    for thread in threads:
        thread.join()
    two = json.dumps({"images": ["", ""]}).encode()
    assert ask(port, "POST", "/api/predict", two, "application/json")[0] == 413  # the new one's
    assert set(answers) == {200}
    print(f"{len(answers)} requests during the update, all answered")

"""`/v2` as clients of KServe and Triton use it; one of them is Triton's own."""

from __future__ import annotations

import gzip
import json
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from test_versions import made, version
from werkzeug.serving import make_server

import model_store
from app import create_app

httpclient = pytest.importorskip("tritonclient.http")

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), np.uint8)


def tensor(**changes):
    values = {
        "name": "pictures",
        "shape": [3, 1, 28, 28],
        "datatype": "UINT8",
        "data": PICTURES.ravel().tolist(),
    }
    return {**values, **changes}


@pytest.fixture(scope="module")
def triton(app):
    with asking(app) as client:
        yield client


@contextmanager
def asking(app):
    """Triton's client of the app, served over HTTP."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with httpclient.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client
    server.shutdown()
    thread.join()
    server.server_close()


def test_tritons_client_finds_the_model(triton):
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("digits")
    assert triton.is_model_ready("digits", "2026.01.01-abcdef0")
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    found = triton.get_model_metadata("digits")
    assert found["versions"] == ["2026.01.01-abcdef0"]
    assert found["inputs"] == [{"name": "pictures", "datatype": "UINT8", "shape": [-1, 1, 28, 28]}]
    assert found["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]
    assert found["parameters"]["labels"] == [str(digit) for digit in range(10)]


def test_tritons_client_asks_for_a_version(tmp_path):
    old, new = version(1, 1), version(2, 2)
    for digit in (1, 2):
        made(tmp_path / "run", digit, digit)
        model_store.add_version(tmp_path / "run", tmp_path / "store" / "digits")
    model_store.use(tmp_path / "store" / "digits", old)
    given = httpclient.InferInput("pictures", list(PICTURES.shape), "UINT8")
    given.set_data_from_numpy(PICTURES)
    with asking(create_app({"MODEL_STORE": str(tmp_path / "store")})) as triton:
        for asked, answering, digit in (("", old, 1), (old, old, 1), (new, new, 2)):
            assert triton.is_model_ready("digits", asked)
            assert triton.get_model_metadata("digits", asked)["versions"] == [old, new]
            answer = triton.infer("digits", [given], model_version=asked)
            assert answer.get_response()["model_version"] == answering
            assert set(answer.as_numpy("probabilities").argmax(1)) == {digit}
        index = triton.get_model_repository_index()
        assert [(each["version"], each["state"]) for each in index] == [
            (old, "READY"),
            (new, "READY"),
        ]
        assert not triton.is_model_ready("digits", "9")


@pytest.mark.parametrize("sent_as_bytes", [True, False])
@pytest.mark.parametrize("given_as_bytes", [True, False, None])
def test_tritons_client_infers(app, triton, sent_as_bytes, given_as_bytes):
    given = httpclient.InferInput("pictures", list(PICTURES.shape), "UINT8")
    given.set_data_from_numpy(PICTURES, binary_data=sent_as_bytes)
    wanted = None
    if given_as_bytes is not None:
        wanted = [httpclient.InferRequestedOutput("probabilities", binary_data=given_as_bytes)]
    answer = triton.infer("digits", [given], outputs=wanted, request_id="7")
    network = app.extensions["models"].ready["digits"].network
    np.testing.assert_allclose(answer.as_numpy("probabilities"), network(PICTURES), atol=1e-7)
    assert answer.get_response()["id"] == "7"


@pytest.mark.parametrize("given_as_bytes", [True, False])
@pytest.mark.parametrize("count", [3, 99])
def test_tritons_client_gets_the_best_labels(app, triton, given_as_bytes, count):
    given = httpclient.InferInput("pictures", list(PICTURES.shape), "UINT8")
    given.set_data_from_numpy(PICTURES)
    wanted = httpclient.InferRequestedOutput("probabilities", given_as_bytes, class_count=count)
    rows = triton.infer("digits", [given], outputs=[wanted]).as_numpy("probabilities")
    expected = app.extensions["models"].ready["digits"].network(PICTURES)
    assert rows.shape == (3, min(count, 10))
    for row, numbers in zip(rows, expected, strict=True):
        texts = [text.decode() if isinstance(text, bytes) else text for text in row]
        scores, columns, labels = zip(*(text.split(":") for text in texts), strict=True)
        assert labels == columns  # of digits
        told = numbers[np.array(columns, int)]
        np.testing.assert_allclose(np.array(scores, float), told, atol=1e-6)
        np.testing.assert_array_equal(told, np.sort(numbers)[::-1][: len(told)])


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_tritons_client_may_compress(app, triton, encoding):
    given = httpclient.InferInput("pictures", list(PICTURES.shape), "UINT8")
    given.set_data_from_numpy(PICTURES)
    answer = triton.infer("digits", [given], request_compression_algorithm=encoding)
    network = app.extensions["models"].ready["digits"].network
    np.testing.assert_allclose(answer.as_numpy("probabilities"), network(PICTURES), atol=1e-7)


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"x", "gzip", 400),
        (gzip.compress(b"{}" * 99)[:-9], "gzip", 400),
        (gzip.compress(bytes(3_000_000)), "gzip", 413),
        (b"x", "br", 415),
    ],
    ids=["none", "cut short", "too large", "unknown"],
)
def test_a_wrong_compressed_body_is_a_problem(client, body, encoding, status):
    headers = {"Content-Encoding": encoding}
    response = client.post("/v2/models/digits/infer", data=body, headers=headers)
    assert response.status_code == status


def test_tritons_client_lists_the_models(triton):
    index = triton.get_model_repository_index()
    assert [(each["name"], each["state"]) for each in index] == [("digits", "READY")]


def test_tritons_client_is_told_what_is_wrong(triton):
    from tritonclient.utils import InferenceServerException

    given = httpclient.InferInput("pictures", [1, 1, 2, 2], "UINT8")
    given.set_data_from_numpy(np.zeros((1, 1, 2, 2), np.uint8))
    with pytest.raises(InferenceServerException, match="must have the shape"):
        triton.infer("digits", [given])
    with pytest.raises(InferenceServerException, match="no model of that name"):
        triton.get_model_metadata("none")


WRONG = {
    "no tensor": {"inputs": []},
    "two tensors": {"inputs": [tensor(), tensor()]},
    "another name": {"inputs": [tensor(name="x")]},
    "another type": {"inputs": [tensor(datatype="FP32")]},
    "another shape": {"inputs": [tensor(shape=[3, 28, 28])]},
    "no picture": {"inputs": [tensor(shape=[0, 1, 28, 28], data=[])]},
    "shape of texts": {"inputs": [tensor(shape=["3", 1, 28, 28])]},
    "too few numbers": {"inputs": [tensor(data=[1])]},
    "numbers too large": {"inputs": [tensor(data=[256] * 2352)]},
    "numbers below 0": {"inputs": [tensor(data=[-1] * 2352)]},
    "giant numbers": {"inputs": [tensor(data=[10**30] * 2352)]},
    "fractions": {"inputs": [tensor(data=[0.5] * 2352)]},
    "truths": {"inputs": [tensor(data=[True] * 2352)]},
    "texts": {"inputs": [tensor(data=["1"] * 2352)]},
    "ragged lists": {"inputs": [tensor(data=[[1], [1, 2]])]},
    "empty texts among lists": {"inputs": [tensor(data=[[0] * 2352, "", {}])]},
    "no numbers": {"inputs": [tensor(data=None)]},
    "bytes that are not there": {
        "inputs": [tensor(data=None, parameters={"binary_data_size": 2352})]
    },
    "size of bytes no number": {"inputs": [tensor(parameters={"binary_data_size": "x"})]},
    "another output": {"inputs": [tensor()], "outputs": [{"name": "x"}]},
    "outputs no list": {"inputs": [tensor()], "outputs": 3},
    "inputs no list": {"inputs": {"a": 1}},
    "id no text": {"inputs": [tensor()], "id": 7},
    "parameters no object": {"inputs": [tensor()], "parameters": "x"},
    "parameters of a tensor no object": {"inputs": [tensor(parameters=[])]},
    "binary output neither true nor false": {
        "inputs": [tensor()],
        "parameters": {"binary_data_output": 1},
    },
    "binary data neither true nor false": {
        "inputs": [tensor()],
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": "yes"}}],
    },
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_request_is_a_problem_that_says_what_to_do(client, wrong):
    response = client.post("/v2/models/digits/infer", json=WRONG[wrong])
    assert response.status_code == 400
    assert response.mimetype == "application/problem+json"
    assert response.get_json()["error"] == response.get_json()["detail"]


def test_null_is_as_good_as_leaving_out(client):
    given = {"id": None, "parameters": None, "outputs": None, "inputs": [tensor(parameters=None)]}
    response = client.post("/v2/models/digits/infer", json=given)
    assert response.status_code == 200
    assert "id" not in response.get_json()


@pytest.mark.parametrize("length", ["x", "-1", "9999999", "3", "²"])
def test_a_wrong_length_of_the_json_is_a_problem(client, length):
    body = json.dumps({"inputs": [tensor()]}).encode()
    headers = {"Inference-Header-Content-Length": length.encode("utf-8").decode("latin-1")}
    response = client.post("/v2/models/digits/infer", data=body, headers=headers)
    assert response.status_code == 400


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"id": "\xff"}', b"[" * 100_000])
def test_a_body_that_is_no_object_is_a_problem(client, body):
    assert client.post("/v2/models/digits/infer", data=body).status_code == 400


def test_too_many_pictures_are_refused(client):
    given = {"inputs": [tensor(shape=[100_000, 1, 28, 28], data=[])]}
    assert client.post("/v2/models/digits/infer", json=given).status_code == 413


@pytest.mark.parametrize("path", ["", "/ready", "/versions/9", "/versions/9/ready"])
def test_an_unknown_model_or_version_is_not_found(client, path):
    name = "none" if "versions" not in path else "digits"
    assert client.get(f"/v2/models/{name}{path}").status_code == 404

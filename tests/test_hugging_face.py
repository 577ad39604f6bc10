"""`POST /models/<name>` as Hugging Face's own client uses it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
import zlib
from contextlib import contextmanager

import pytest
from samples import validate
from werkzeug.serving import make_server

from app import create_app

hub = pytest.importorskip("huggingface_hub")

KEY = "a-key-that-nobody-guesses"


@contextmanager
def served(app):
    """The address of the app, served over HTTP."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}/models/digits"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def address(app):
    with served(app) as url:
        yield url


@pytest.fixture
def expected(client, png):
    """What `/api/predict` says of the picture."""
    answer = client.post("/api/predict", data=png, content_type="image/png").get_json()
    return [(each["label"], each["score"]) for each in answer["results"][0]["predictions"]]


def pairs(answer):
    return [(each["label"], each["score"]) for each in answer]


@pytest.mark.parametrize("top_k", [None, 3, 99])
def test_the_client_gets_the_answer_of_the_api(address, png, tmp_path, expected, top_k):
    (tmp_path / "seven.png").write_bytes(png)
    client = hub.InferenceClient(model=address, token="none")
    for picture in (png, tmp_path / "seven.png"):
        assert pairs(client.image_classification(picture, top_k=top_k)) == expected[:top_k]


@pytest.mark.parametrize("path", ["/models/digits", "/api/predict"])
@pytest.mark.parametrize("way", ["gzip", "deflate"])
@pytest.mark.parametrize("kind", ["image/png", "application/json"])
def test_a_compressed_body_is_answered_as_the_plain_one(client, png, path, way, kind):
    text = base64.b64encode(png).decode()
    body = png if kind == "image/png" else json.dumps({"inputs": text, "image": text}).encode()
    packed = gzip.compress(body) if way == "gzip" else zlib.compress(body)
    plain, answer = (
        client.post(path, data=data, content_type=kind, headers=headers).get_json()
        for data, headers in ((body, {}), (packed, {"Content-Encoding": way}))
    )
    if path == "/api/predict":
        plain, answer = plain["results"], answer["results"]
    assert answer == plain
    assert answer[0]["label"]


@pytest.mark.parametrize(
    ("picture", "choices", "word"),
    [
        (b"hello", {}, "This is not an image"),
        (b"hello", {"top_k": 3}, "This is not an image"),
        (b"hello", {"top_k": 0}, "“top_k” must be a whole number from 1"),
        (b"hello", {"function_to_apply": "sigmoid"}, "must be softmax"),
    ],
)
def test_the_client_shows_what_is_wrong(address, picture, choices, word):
    client = hub.InferenceClient(model=address, token="none")
    with pytest.raises(hub.errors.BadRequestError, match=word):
        client.image_classification(picture, **choices)


def test_the_clients_token_is_the_key(store, png):
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    with served(create_app({"MODEL_STORE": str(store), "API_KEYS": digest})) as url:
        assert hub.InferenceClient(model=url, token=KEY).image_classification(png)
        with pytest.raises(hub.errors.HfHubHTTPError, match="requires a key"):
            hub.InferenceClient(model=url, token="another").image_classification(png)


@pytest.mark.parametrize(
    "wrong",
    [
        *({}, {"inputs": None}, {"inputs": 7}, {"inputs": ["a"]}, {"inputs": "%%%"}),
        {"inputs": "a", "parameters": []},
        {"inputs": "a", "parameters": {"top_k": "3"}},
    ],
)
def test_a_wrong_request_is_a_problem_with_an_error(app, client, wrong):
    response = client.post("/models/digits", json=wrong, headers={"Accept": "text/html"})
    assert response.status_code == 400
    validate(app, response.get_json(), "ProtocolProblem")
    assert response.get_json()["error"] == response.get_json()["detail"]


def test_null_is_as_good_as_leaving_out(client, png, expected):
    inputs = base64.b64encode(png).decode()
    for parameters in (None, {"top_k": None, "function_to_apply": None}):
        answer = client.post("/models/digits", json={"inputs": inputs, "parameters": parameters})
        assert pairs(answer.get_json()) == expected


def test_bytes_need_no_type_but_must_be_there(client, png):
    for kind in (None, "application/x-www-form-urlencoded", "text/plain"):
        assert client.post("/models/digits", data=png, content_type=kind).status_code == 200
    assert "empty" in client.post("/models/digits").get_json()["error"]


def test_an_unknown_model_is_told(client, png):
    response = client.post("/models/none", data=png)
    assert response.status_code == 404
    assert "the models are: digits" in response.get_json()["error"]


def test_the_page_of_the_model_is_still_there(client):
    assert client.get("/models/digits").mimetype == "text/html"


def test_the_limits_of_a_request_hold(store, png):
    settings = {"MODEL_STORE": str(store), "RATE_LIMIT": "1 per day", "MAX_PIXELS": 100}
    client = create_app(settings).test_client()
    assert [client.post("/models/digits", data=png).status_code for _ in range(2)] == [413, 429]


def test_pages_of_named_origins_may_ask(store):
    origin = "https://example.org"
    client = create_app({"MODEL_STORE": str(store), "CORS_ORIGINS": origin}).test_client()
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    response = client.options("/models/digits", headers=headers)
    assert response.headers["Access-Control-Allow-Origin"] == origin

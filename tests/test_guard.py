"""Keys, rates, other origins, proxies: off until a setting asks for them; headers always."""

from __future__ import annotations

import hashlib

import pytest

from app import create_app

KEY = "a-key-that-nobody-guesses"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


@pytest.fixture
def guarded(store):
    """Makes a client of the app with the given settings."""
    return lambda **settings: create_app({"MODEL_STORE": str(store), **settings}).test_client()


def post(client, png, path="/api/predict", **options):
    return client.post(path, data=png, content_type="image/png", **options)


PAGES = [
    *("/", "/faces", "/batch", "/docs"),
    *("/none", "/api/models", "/healthz", "/static/css/base.css"),
]


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_has_the_security_headers(client, path):
    with client.get(path) as response:
        headers = response.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Set-Cookie" not in headers


def test_an_answer_has_the_requests_id(client):
    assert client.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == (
        "abc-1"
    )


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'a"b', "é"])
def test_an_id_that_could_harm_a_log_is_replaced(client, given):
    told = client.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert told != given
    assert len(told) == 32


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {KEY}"},
        {"X-API-Key": KEY},
    ],
)
def test_a_key_opens(guarded, png, headers):
    client = guarded(API_KEYS=f"{'0' * 64}, {DIGEST}")
    assert post(client, png, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {KEY}x"},
        {"X-API-Key": DIGEST},
        {"X-API-Key": ""},
    ],
)
@pytest.mark.parametrize("path", ["/api/predict", "/v2/models/digits/infer"])
def test_without_the_key_nothing_is_predicted(guarded, png, headers, path):
    response = post(guarded(API_KEYS=DIGEST), png, path, headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization" in response.get_json()["detail"]


def test_pages_and_cards_need_no_key(guarded):
    client = guarded(API_KEYS=DIGEST)
    for path in ("/", "/api/models", "/readyz", "/v2/models/digits"):
        assert client.get(path).status_code == 200


def test_a_digest_that_is_none_stops_the_start(guarded):
    with pytest.raises(ValueError, match="GLIMPSE_API_KEYS"):
        guarded(API_KEYS="my-key")


def test_too_many_requests_wait(guarded, png):
    client = guarded(RATE_LIMIT="2 per minute")
    assert [post(client, png).status_code for _ in range(2)] == [200, 200]
    response = post(client, png)
    assert response.status_code == 429
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert response.get_json()["type"] == "urn:glimpse:problem:too-many-requests"
    assert client.get("/").status_code == 200
    other = {"environ_base": {"REMOTE_ADDR": "10.0.0.9"}}
    assert post(client, png, **other).status_code == 200


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"RATE_LIMIT": "often"}, "GLIMPSE_RATE_LIMIT"),
        ({"RATE_LIMIT": "1 per second", "RATE_STORAGE": "nowhere"}, "GLIMPSE_RATE_STORAGE"),
    ],
)
def test_a_wrong_rate_stops_the_start(guarded, settings, name):
    with pytest.raises(ValueError, match=name):
        guarded(**settings)


PROXIES = {
    "none": ({"X-Forwarded-For": "10.0.0.1", "X-Real-IP": "10.0.0.1"}, False),
    "forwarded": ({"X-Forwarded-For": "6.6.6.6, 10.0.0.1"}, True),
    "real-ip": ({"X-Real-IP": "10.0.0.1"}, True),
}


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_proxys_word_counts_only_where_it_is_trusted(guarded, png, proxy):
    headers, counts = PROXIES[proxy]
    client = guarded(PROXY=proxy, RATE_LIMIT="1 per minute")
    post(client, png)  # from the connection's own address
    assert (post(client, png, headers=headers).status_code == 200) is counts


def test_other_origins_are_not_let_in(client):
    response = client.get("/api/models", headers={"Origin": "https://example.org"})
    assert "Access-Control-Allow-Origin" not in response.headers


def test_an_origin_of_the_settings_is_let_in(guarded):
    client = guarded(CORS_ORIGINS="https://example.org, https://example.com", API_KEYS=DIGEST)
    for origin, allowed in (("https://example.com", True), ("https://example.net", False)):
        response = client.options(
            "/api/predict", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
        )
        assert response.status_code == 200
        assert (response.headers.get("Access-Control-Allow-Origin") == origin) is allowed

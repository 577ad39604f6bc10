"""Keys, rates, other origins, proxies: off until a setting asks for them; headers always."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from limits import parse

from app import create_app
from app.rates import SharedRates

TOP = Path(__file__).resolve().parent.parent
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
@pytest.mark.parametrize("path", ["/api/predict", "/models/digits", "/v2/models/digits/infer"])
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


@pytest.mark.parametrize("storage", ["shared://", "memory://"])
def test_wrong_keys_count_too(guarded, png, storage):
    client = guarded(RATE_LIMIT="5 per minute", RATE_STORAGE=storage, API_KEYS=DIGEST)
    statuses = [
        post(client, png, headers={"X-API-Key": f"guess-{number}"}).status_code
        for number in range(20)
    ]
    assert statuses.count(401) <= 10  # twice where a new minute begins
    assert statuses[-1] == 429


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8", False),
        ("192.0.2.7", "192.0.2.8", False),
        ("not an address", "another", False),
    ],
)
def test_a_client_of_the_newer_protocol_is_its_network(guarded, png, one, other, are_one):
    client = guarded(RATE_LIMIT="1 per day")
    post(client, png, environ_base={"REMOTE_ADDR": one})
    told = post(client, png, environ_base={"REMOTE_ADDR": other})
    assert (told.status_code == 429) is are_one


TOGETHER = """
import os
from limits import parse
from app.rates import SharedRates
rates = SharedRates(parse("40 per day"))
for _ in range(4):
    if not os.fork():
        os.write(1, b"".join(b"x" * (not rates.hit("client")) for _ in range(20)))
        os._exit(0)
for _ in range(4):
    assert os.wait()[1] == 0
assert rates.hit("client") > 0 == rates.hit("another")
"""


def test_all_workers_count_together():
    done = subprocess.run(
        [sys.executable, "-c", TOGETHER], cwd=TOP, capture_output=True, check=True
    )
    assert len(done.stdout) == 40


@pytest.mark.parametrize("rate", ["1 per minute", "10 per minute"])
def test_requests_go_on_as_fast_as_the_limit_says(monkeypatch, rate):
    """By a client that waits as long as it is told."""
    now = 0.0  # as on a machine that has just started
    monkeypatch.setattr("app.rates.time.monotonic", lambda: now)
    limit = parse(rate)
    rates, admitted = SharedRates(limit), []
    while now < 600:
        if wait := rates.hit("client"):
            now += wait
        else:
            admitted.append(now)
            now += 1
    assert len(admitted) == 10 * limit.amount
    for start, end in zip(admitted, admitted[limit.amount :], strict=False):
        assert end - start >= 60


def test_a_crowd_of_clients_takes_nobodys_count_away():
    rates = SharedRates(parse("2 per day"))
    for number in range(2000):
        assert not rates.hit(f"client {number % 1000}")
    assert sum(bool(rates.hit(f"client {number}")) for number in range(1000)) >= 990


def test_more_clients_than_there_is_room_for_take_the_oldest_places(monkeypatch):
    monkeypatch.setattr("app.rates.BYTES", 0)
    rates = SharedRates(parse("1 per day"))
    assert not any(rates.hit(f"client {number}") for number in range(2000))
    assert rates.hit("client 1999") > 0


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"RATE_LIMIT": "often"}, "GLIMPSE_RATE_LIMIT"),
        ({"RATE_LIMIT": "0 per minute"}, "GLIMPSE_RATE_LIMIT"),
        ({"RATE_LIMIT": "1000000 per minute"}, "GLIMPSE_RATE_LIMIT"),
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


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_path_that_the_proxy_takes_off_is_put_before_links(guarded, proxy):
    client = guarded(PROXY=proxy)
    text = client.get("/docs", headers={"X-Forwarded-Prefix": "/glimpse"}).text
    assert ('"/glimpse/docs' in text) is (proxy == "forwarded")


@pytest.mark.parametrize("path", ["/api/predict/", "/models/digits/", "/v2/models/digits/infer/"])
def test_a_slash_at_the_end_opens_nothing(guarded, png, path):
    assert post(guarded(API_KEYS=DIGEST), png, path).status_code == 401
    status = post(guarded(), png, path).status_code
    assert status == (400 if "infer" in path else 200)  # a picture is no tensor


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


@pytest.mark.parametrize(
    ("setting", "origin", "allowed"),
    [
        ("https://*.good.example", "https://a.good.example", True),
        ("https://*.good.example", "HTTPS://A.Good.Example", True),
        ("https://*.good.example", "https://xgood.example.evil.org", False),
        ("https://*.good.example", "https://a.good.example.evil.org", False),
        ("https://*.good.example", "https://evil.org/.good.example", False),
        ("https://*.good.example", "https://good.example", False),
        ("https://*.good.example", "http://a.good.example", False),
        ("https://*.good.example", "https://a.goodxexample", False),
        ("https://good.example", "https://goodxexample", False),
        ("https://(a|b).example", "https://a.example", False),
        ("https://[::1]:8000", "https://[::1]:8000", True),
        ("https://good.example/", "https://good.example", True),
        ("https://good.example/", "https://good.example.evil.org", False),
        ("*", "https://any.example", True),
    ],
)
def test_an_origin_is_literal_but_for_its_wildcard(guarded, setting, origin, allowed):
    response = guarded(CORS_ORIGINS=setting).get("/api/models", headers={"Origin": origin})
    assert (response.headers.get("Access-Control-Allow-Origin") in (origin, "*")) is allowed


def test_only_named_origins_may_frame_the_page_that_is_for_it():
    def framing(path, **settings):
        policy = create_app(settings).test_client().get(path).headers["Content-Security-Policy"]
        return policy.partition("frame-ancestors ")[2]

    assert framing("/embed") == "'none'"
    named = {"EMBED_ORIGINS": "https://a.example, https://*.b.example:8000"}
    assert framing("/embed", **named) == "https://a.example https://*.b.example:8000"
    assert framing("/", **named) == "'none'"
    with pytest.raises(ValueError, match="GLIMPSE_EMBED_ORIGINS"):
        create_app({"EMBED_ORIGINS": "https://a.example; script-src *"})

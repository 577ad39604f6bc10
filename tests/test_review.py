"""The page /review is the owner's alone, and attacks on its sign-in and its forms fail."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from itsdangerous import URLSafeTimedSerializer
from PIL import Image, ImageDraw
from samples import encode, seven

from app import create_app
from app.review import alike
from app.sign_in import COOKIE, LASTS, TRIES, SignIn
from reports import Away, Outline, Sent, open_database

TOP = Path(__file__).resolve().parent.parent
KEY, OTHER = "an owner's key", "another owner's key"
DIGESTS = {key: hashlib.sha256(key.encode()).hexdigest() for key in (KEY, OTHER)}
BROWSER = {"Accept": "text/html"}
SCRIPT = {"Accept": "application/json"}
TOKEN = re.compile(r'name="token" value="([^"]+)"')
IDS = re.compile(r'name="ids" value="([\d,]+)"')
HTML = "<img src=x onerror=alert(1)>.png"


def drawn(place):
    """A PNG of 28×28 pixels: a stroke that lies elsewhere for each place of 0 to 9."""
    picture = Image.new("L", (28, 28))
    pen = ImageDraw.Draw(picture)
    pen.line([(2 + 2 * place, 3), (25 - 2 * place, 24)], fill=255, width=3)
    pen.line([(place, 26 - 2 * place), (27, 2 * place)], fill=200, width=2)
    return encode(picture)


REPORT = Sent(
    answer="a",
    kind="report",
    model="digits",
    version="2026.01.01-abcdef0",
    task="digit",
    predicted="1",
    score=0.9,
    verdict="sure",
    entropy=0.5,
    said="7",
    picture=drawn(0),
)


@pytest.fixture
def database(tmp_path):
    return open_database(f"sqlite:///{tmp_path}/reports.db")


@pytest.fixture
def serve(store, database, tmp_path):
    """Gives the app with the page for the owners of some keys."""

    def serve_(*keys, **settings):
        return create_app(
            {
                "MODEL_STORE": str(store),
                "REPORTS": f"sqlite:///{tmp_path}/reports.db",
                "REVIEW_KEYS": ",".join(DIGESTS[key] for key in keys),
                **settings,
            }
        )

    return serve_


@pytest.fixture
def add(database):
    """Adds reports that differ from one another in what is given."""

    def add_(*changes, client="someone"):
        return [
            database.add(replace(REPORT, answer=f"{client} {number}", **each), client).id
            for number, each in enumerate(changes)
        ]

    return add_


def browser(app):
    """A browser on the server's own machine, where cookies that are `Secure` are kept."""
    client = app.test_client()
    client.environ_base.update(REMOTE_ADDR="127.0.0.1", **{"wsgi.url_scheme": "https"})
    return client


def token_of(page):
    return html.unescape(TOKEN.search(page.text)[1])


def sign_in(client, key=KEY, **headers):
    """What a browser gets that fills in the form."""
    token = token_of(client.get("/review/sign-in", headers=BROWSER))
    form = {"token": token, "key": key}
    return client.post("/review/sign-in", data=form, headers={**BROWSER, **headers})


@pytest.fixture
def owner(serve):
    """The browser of an owner who is signed in."""
    client = browser(serve(KEY))
    assert sign_in(client).status_code == 303
    return client


def decide(client, ids, action, *, page=None, query="model=digits", headers=SCRIPT, **more):
    token = token_of(page or client.get("/review?apart=1", headers=BROWSER))
    form = {"token": token, "ids": ids, "action": action, **more}
    return client.post(f"/review/decide?{query}", data=form, headers=headers)


def cookie_of(client):
    return client.get_cookie(COOKIE)


# Off, unless the settings say otherwise.


@pytest.mark.parametrize("path", ["/review", "/review/sign-in", "/review/1"])
@pytest.mark.parametrize("off", [{"REVIEW_KEYS": ""}, {"REPORTS": ""}])
def test_without_keys_or_reports_there_is_no_such_page(serve, path, off):
    response = serve(KEY, **off).test_client().get(path, headers=BROWSER)
    assert response.status_code == 404
    assert "There is no page at this address" in response.text


def test_a_digest_that_is_none_stops_the_start(serve):
    with pytest.raises(ValueError, match="GLIMPSE_REVIEW_KEYS"):
        serve(REVIEW_KEYS="my-key")


# Signing in.


def test_who_is_not_signed_in_gets_the_form_and_nothing_else(serve, add):
    (number,) = add({"whole": encode(seven())})
    client = browser(serve(KEY))
    for path in ("/review", f"/review/{number}", f"/review/{number}/picture.png"):
        response = client.get(path, headers=BROWSER)
        assert response.status_code == 303
        assert response.location == "/review/sign-in"
    assert client.get(f"/review/{number}/whole.jpg").status_code == 401
    response = client.post("/review/decide", data={"ids": number, "action": "delete"})
    assert response.status_code == 401
    assert client.get("/review/sign-in").status_code == 200


def test_the_right_key_signs_in(owner):
    response = owner.get("/review", headers=BROWSER)
    assert response.status_code == 200
    assert "<h1>Review</h1>" in response.text
    assert owner.get("/review/sign-in").status_code == 303


@pytest.mark.parametrize("key", ["", "guess", KEY.upper(), DIGESTS[KEY]])
def test_a_wrong_key_does_not(serve, key):
    client = browser(serve(KEY))
    response = sign_in(client, key)
    assert response.status_code == 403
    assert "This is not a key of this server" in response.text
    assert client.get("/review").status_code == 303


def test_the_cookie_is_out_of_reach_of_scripts_other_sites_and_other_hosts(serve):
    client = browser(serve(KEY))
    for response in (client.get("/review/sign-in"), sign_in(client)):
        (header,) = response.headers.getlist("Set-Cookie")
        parts = header.split("; ")
        assert parts[0].startswith("__Host-")
        assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={LASTS}"} <= {*parts}
        assert not any(part.startswith("Domain") for part in parts)


def test_a_browser_that_keeps_no_cookie_is_told_why(serve):
    client = serve(KEY).test_client(use_cookies=False)
    response = sign_in(client)
    assert response.status_code == 403
    assert "Your browser has not kept the cookie" in response.text


def test_nothing_of_the_page_is_kept_by_a_cache(owner):
    for path in ("/review", "/review/sign-in", "/review/999"):
        assert owner.get(path, headers=BROWSER).headers["Cache-Control"] == "no-store"


def test_the_page_has_the_security_headers_of_the_others(owner):
    policy = owner.get("/review", headers=BROWSER).headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy and "frame-ancestors 'none'" in policy


# Attacks on the session.


def test_a_session_that_was_known_before_signing_in_is_not_the_one_after(serve):
    client = browser(serve(KEY))
    client.get("/review/sign-in")
    before = cookie_of(client)
    sign_in(client)
    attacker = browser(client.application)
    attacker.set_cookie(COOKIE, before.value, path="/")
    assert attacker.get("/review").status_code == 303
    assert cookie_of(client).value != before.value


def forged(app, kind):
    """A cookie that somebody made who does not know the secret."""
    signing: SignIn = app.extensions["sign_in"]
    name = signing._name(DIGESTS[KEY])
    real = browser(app)
    sign_in(real)
    value = cookie_of(real).value
    payload, _, rest = value.partition(".")
    return {
        "signed by another": URLSafeTimedSerializer(b"guess", salt=COOKIE).dumps([name, "", "x"]),
        "without a signature": payload,
        "with a changed payload": f"{payload[:-2]}AA.{rest}",
        "with a changed time": ".".join([payload, "AAAAAA", value.rpartition(".")[2]]),
        "of another purpose": URLSafeTimedSerializer(
            app.extensions["reports"].secret_for("review"), salt="another"
        ).dumps([name, "", "x"]),
        "of an odd form": URLSafeTimedSerializer(
            app.extensions["reports"].secret_for("review"), salt=COOKIE
        ).dumps([name]),
        "empty": "",
        "long": "A" * 4000,
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "signed by another",
        "without a signature",
        "with a changed payload",
        "with a changed time",
        "of another purpose",
        "of an odd form",
        "empty",
        "long",
    ],
)
def test_a_forged_cookie_opens_nothing(serve, kind):
    app = serve(KEY)
    client = browser(app)
    client.set_cookie(COOKIE, forged(app, kind), path="/")
    assert client.get("/review", headers=BROWSER).status_code == 303


def test_a_session_ends_by_itself(owner, monkeypatch):
    monkeypatch.setattr("app.sign_in.LASTS", -1)
    assert owner.get("/review").status_code == 303


def test_a_key_that_is_taken_out_of_the_settings_ends_its_sessions(serve):
    client = browser(serve(KEY, OTHER))
    sign_in(client)
    for keys, status in (((OTHER, KEY), 200), ((OTHER,), 303)):
        later = browser(serve(*keys))
        later.set_cookie(COOKIE, cookie_of(client).value, path="/")
        assert later.get("/review").status_code == status


def test_signing_out_ends_a_copied_cookie_too(serve):
    app = serve(KEY, OTHER)
    mine, copied, others = browser(app), browser(app), browser(app)
    sign_in(mine)
    sign_in(others, OTHER)
    copied.set_cookie(COOKIE, cookie_of(mine).value, path="/")
    assert copied.get("/review").status_code == 200
    token = token_of(mine.get("/review", headers=BROWSER))
    assert mine.post("/review/sign-out", data={"token": token}).status_code == 303
    assert cookie_of(mine) is None
    assert copied.get("/review").status_code == 303
    assert others.get("/review").status_code == 200
    assert sign_in(mine).status_code == 303


def test_workers_share_the_sessions(serve):
    """Whatever each of them is started with: the secret is in the database."""
    client = browser(serve(KEY))
    sign_in(client)
    other = browser(serve(KEY))
    other.set_cookie(COOKIE, cookie_of(client).value, path="/")
    assert other.get("/review").status_code == 200


def test_a_cookie_tells_nothing_of_the_key(owner):
    payload = cookie_of(owner).value.partition(".")[0]
    told = base64.urlsafe_b64decode(payload + "==")
    assert DIGESTS[KEY][:16].encode() not in told


# Attacks by forged forms.


@pytest.mark.parametrize("token", ["", "x", "é.é", "x.y", None])
@pytest.mark.parametrize("path", ["/review/decide", "/review/sign-out", "/review/sign-in"])
def test_a_form_without_its_token_does_nothing(owner, add, database, path, token):
    (number,) = add({})
    form = {"ids": number, "action": "accept", "key": KEY}
    form |= {} if token is None else {"token": token}
    response = owner.post(path, data=form, headers=BROWSER)
    assert response.status_code == 403
    assert database.report(number).status == "new"
    assert owner.get("/review").status_code == 200


def test_a_token_is_of_one_session(serve, add, database):
    (number,) = add({})
    app = serve(KEY)
    mine, other = browser(app), browser(app)
    sign_in(mine)
    sign_in(other)
    page = other.get("/review", headers=BROWSER)
    assert decide(mine, number, "accept", page=page).status_code == 403
    before = browser(app).get("/review/sign-in")
    assert decide(mine, number, "accept", page=before).status_code == 403
    assert decide(other, number, "accept", page=page).status_code == 200


def test_each_page_has_another_token(owner):
    pages = [owner.get("/review?apart=1", headers=BROWSER) for _ in range(2)]
    assert token_of(pages[0]) != token_of(pages[1])
    assert token_of(pages[0])[20:] not in pages[1].text


@pytest.mark.parametrize(
    ("origin", "status"), [("same-origin", 200), ("same-site", 403), ("cross-site", 403)]
)
def test_a_form_of_another_origin_does_nothing(owner, add, origin, status):
    add({})
    response = decide(owner, 1, "accept", headers={**SCRIPT, "Sec-Fetch-Site": origin})
    assert response.status_code == status


def test_scripts_of_other_origins_may_not_read_the_page(serve):
    client = browser(serve(KEY, CORS_ORIGINS="*"))
    sign_in(client)
    response = client.get("/review", headers={**BROWSER, "Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("path", ["/review/decide", "/review/sign-out"])
def test_a_link_decides_nothing(owner, path):
    assert owner.get(path, headers=BROWSER).status_code == 405


# Guessing.


def test_fifty_guesses_are_slowed_and_then_the_key_has_to_wait_too(serve):
    client = browser(serve(KEY))
    answers = [sign_in(client, f"guess {number}") for number in range(50)]
    assert [each.status_code for each in answers] == [403] * TRIES.amount + [429] * 40
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 600
    assert "text/html" in answers[-1].content_type
    assert sign_in(client).status_code == 429
    client.environ_base["REMOTE_ADDR"] = "192.0.2.9"
    assert sign_in(client).status_code == 303


def test_guesses_from_many_addresses_are_slowed_together(serve, monkeypatch):
    client = browser(serve(KEY))
    statuses = []
    for number in range(120):
        client.environ_base["REMOTE_ADDR"] = f"192.0.2.{number}"
        statuses.append(sign_in(client, "guess").status_code)
    assert statuses == [403] * 100 + [429] * 20


def test_who_is_signed_in_works_on_while_somebody_guesses(owner):
    attacker = browser(owner.application)
    for number in range(110):
        attacker.environ_base["REMOTE_ADDR"] = f"192.0.2.{number}"
        sign_in(attacker, "guess")
    assert owner.get("/review").status_code == 200


TOGETHER = """
import os
from app.sign_in import SignIn
from flask import Flask
from app.errors import TooManyRequests
signing = SignIn("", "shared://", lambda: None)
for _ in range(4):
    if not os.fork():
        with Flask("x").test_request_context(environ_base={"REMOTE_ADDR": "192.0.2.1"}):
            for _ in range(10):
                try:
                    signing.admit("guess")
                    os.write(1, b"x")
                except TooManyRequests:
                    pass
        os._exit(0)
for _ in range(4):
    assert os.wait()[1] == 0
"""


def test_all_workers_count_guesses_together():
    done = subprocess.run(
        [sys.executable, "-c", TOGETHER], cwd=TOP, capture_output=True, check=True
    )
    assert len(done.stdout) == TRIES.amount


# The database.


def test_a_database_that_is_away_is_told_with_when_to_try_again(owner, monkeypatch):
    def away(*_, **__):
        raise Away("no connection", 5)

    monkeypatch.setattr("reports.Database.counts", away)
    response = owner.get("/review", headers=BROWSER)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"


# The grid.


def pages_ids(client, query=""):
    return IDS.findall(client.get(f"/review?{query}", headers=BROWSER).text)


def test_the_grid_has_a_part_for_each_label_in_the_models_order(owner, add):
    add(*({"said": said, "picture": drawn(n)} for n, said in enumerate(["3", None, "cat", "0"])))
    page = owner.get("/review", headers=BROWSER).text
    titles = re.findall(r'<h2 id="said-\d+">(.*?) <span', page)
    assert titles == ["0", "3", "cat", "<em>not a digit</em>"]
    assert pages_ids(owner, "label=:cat") == ["3"]
    assert pages_ids(owner, "label=none") == ["2"]


def test_near_copies_are_one_picture_and_one_decision(owner, add, database):
    one, other = drawn(1), drawn(5)
    noisy = Image.open(io.BytesIO(one)).point(lambda value: min(255, value + 3))
    add({"picture": one}, {"picture": other}, {"picture": encode(noisy)}, {"picture": one})
    assert pages_ids(owner) == ["1,3,4", "2"]
    assert pages_ids(owner, "apart=1") == ["1", "2", "3", "4"]
    assert decide(owner, "1,3,4", "accept").get_json()["tabs"]["accepted"] == 3
    assert {each.status for each in database.reports([1, 3, 4])} == {"accepted"}


def test_near_copies_that_are_said_to_be_something_else_stay_apart(owner, add):
    add({"said": "7"}, {"said": "1"}, {"said": None}, {"model": "others"})
    assert pages_ids(owner) == ["2", "1", "3"]


@pytest.mark.parametrize(("bits", "is_alike"), [(0, True), (4, True), (5, False)])
def test_near_copies_differ_in_up_to_four_bits(bits, is_alike):
    row = Outline(
        id=1, kind="report", predicted="1", said="7", likeness=0, status="new", label=None
    )
    rows = [row, replace(row, id=2, likeness=(1 << 64) - (1 << 64 - bits))]
    assert (len(alike(rows, 4)) == 1) is is_alike
    assert len(alike(rows, -1)) == 2


def test_five_thousand_reports_are_grouped_at_once():
    row = Outline(
        id=0, kind="report", predicted="1", said="7", likeness=0, status="new", label=None
    )
    rows = [
        replace(row, id=each, likeness=each * 0x9E3779B97F4A7C15 % 2**64) for each in range(5000)
    ]
    assert sum(map(len, alike(rows, 4))) == 5000


def test_unsure_answers_come_with_the_most_uncertain_first(owner, add, database):
    add(
        {"kind": "unsure", "said": None, "entropy": 0.5, "picture": drawn(1), "predicted": "4"},
        {"kind": "unsure", "said": None, "entropy": 2.1, "picture": drawn(3)},
        {"kind": "unsure", "said": None, "entropy": 1.2, "picture": drawn(5)},
        {},
    )
    assert pages_ids(owner, "tab=unsure") == ["2", "3", "1"]
    assert pages_ids(owner) == ["4"]
    decide(owner, "1", "accept")
    assert database.report(1).label == "4"


def test_pages_follow_each_other_and_hold_everything_once(owner, add, monkeypatch):
    monkeypatch.setattr("app.review.EACH", 3)
    add(*({"picture": drawn(number), "said": str(number % 3)} for number in range(8)))
    found = [pages_ids(owner, f"page={page}&apart=1") for page in (1, 2, 3)]
    assert [len(each) for each in found] == [3, 3, 2]
    assert len({number for each in found for number in each}) == 8
    assert pages_ids(owner, "page=99&apart=1") == found[2]


@pytest.mark.parametrize(
    "query", ["tab=x", "page=0", "page=-1", "page=x", "model=nothing", "label=x", "label=", "tab="]
)
def test_an_odd_address_shows_something_sensible(owner, add, query):
    add({})
    assert owner.get(f"/review?{query}", headers=BROWSER).status_code == 200


def test_reports_of_a_model_that_is_gone_can_be_reviewed(owner, add, database):
    add({"model": "gone", "said": "cat", "task": "image"})
    assert pages_ids(owner) == ["1"]
    decide(owner, "1", "relabel", label="none")
    assert database.report(1).status == "accepted"


# Decisions.


@pytest.mark.parametrize(
    ("form", "status", "label"),
    [
        ({"action": "accept"}, "accepted", "7"),
        ({"action": "reject"}, "rejected", None),
        ({"action": "relabel", "label": ":3"}, "accepted", "3"),
        ({"action": "relabel", "label": "none"}, "accepted", None),
        ({"action": "relabel", "label": "word", "word": "  a  cat "}, "accepted", "a cat"),
        ({"action": "relabel", "label": ":none"}, "accepted", "none"),
        ({"action": "new"}, "new", None),
    ],
)
def test_a_decision_is_kept(  # noqa: PLR0917
    owner, add, database, form, status, label
):
    (number,) = add({})
    assert decide(owner, str(number), **form).status_code == 200
    found = database.report(number)
    assert (found.status, found.label) == (status, label)


def test_accepting_several_takes_what_each_was_said_to_be(owner, add, database):
    add({"said": "7"}, {"said": None}, {"said": "cat"})
    decide(owner, "1,2,3", "accept")
    assert [each.label for each in database.reports([1, 2, 3])] == ["7", None, "cat"]


def test_deleting_needs_to_be_sure(owner, add, database):
    (number,) = add({})
    assert decide(owner, str(number), "delete").status_code == 400
    assert decide(owner, str(number), "delete", sure="1").status_code == 200
    assert database.report(number) is None


@pytest.mark.parametrize(
    ("ids", "form"),
    [
        ("", {"action": "accept"}),
        ("x,-1,é", {"action": "accept"}),
        ("1", {"action": "burn"}),
        ("1", {"action": "relabel"}),
        ("1", {"action": "relabel", "label": "word", "word": " "}),
        ("1", {"action": "relabel", "label": "word", "word": "x" * 61}),
        ("1", {"action": "relabel", "label": ":a\u202eb"}),
    ],
)
def test_a_decision_that_is_none_is_refused_with_a_sentence(owner, add, database, ids, form):
    add({})
    response = decide(owner, ids, **form)
    assert response.status_code == 400
    assert response.get_json()["detail"]
    assert database.report(1).status == "new"


def test_without_scripts_a_form_leads_back_to_the_same_view(owner, add):
    add({})
    response = decide(owner, "1", "accept", query="tab=unsure&page=2&apart=1", headers=BROWSER)
    assert response.status_code == 303
    assert response.location == "/review?tab=unsure&page=2&apart=1"


def test_accepted_reports_come_with_the_command_that_learns_from_them(owner, add):
    add({}, {})
    assert "glimpse update" not in owner.get("/review", headers=BROWSER).text
    assert "2 accepted reports" in decide(owner, "1,2", "accept").get_json()["update"]
    page = owner.get("/review?tab=accepted", headers=BROWSER).text
    assert "<code>glimpse update digits</code>" in page
    assert "2 accepted reports are there for the model digits" in page


# What is shown, and what is not.


def test_who_reported_is_never_shown(owner, add, database):
    add({}, {}, client="192.0.2.77")
    decide(owner, "1", "accept")
    (accepted,) = database.accepted("digits")
    for path in ("/review", "/review?tab=accepted", "/review/1"):
        page = owner.get(path, headers=BROWSER).text
        assert "192.0.2.77" not in page
        assert accepted.reporter[:12] not in page


@pytest.mark.parametrize("field", ["said", "whole_name", "predicted", "version", "model"])
def test_html_in_a_report_is_text(owner, add, field):
    (number,) = add({field: HTML, "whole": encode(seven())})
    for path in ("/review", f"/review/{number}"):
        page = owner.get(path, headers=BROWSER).text
        assert "<img src=x" not in page
    assert html.escape(HTML) in page


def test_the_whole_picture_is_made_anew(owner, add):
    told = encode(seven("RGB"), "JPEG", comment=b"<script>alert(1)</script>")
    with_, without = add({"whole": told, "picture": drawn(1)}, {"picture": drawn(4)})
    response = owner.get(f"/review/{with_}/whole.jpg")
    assert response.content_type == "image/jpeg"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert b"script" not in response.data
    assert Image.open(io.BytesIO(response.data)).size == (280, 280)
    assert owner.get(f"/review/{without}/whole.jpg").status_code == 404
    assert "whole.jpg" not in owner.get("/review", headers=BROWSER).text
    assert "whole.jpg" not in owner.get(f"/review/{without}", headers=BROWSER).text


def test_large_pictures_come_one_by_one(owner, add):
    noise = Image.effect_noise((224, 224), 60)
    (number,) = add({"picture": encode(noise)})
    page = owner.get("/review", headers=BROWSER).text
    assert f'src="/review/{number}/picture.png"' in page
    assert owner.get(f"/review/{number}/picture.png").data == encode(noise)
    assert owner.get("/review/99/picture.png").status_code == 404


def test_a_report_says_all_about_itself_and_its_near_copies(owner, add):
    add({"whole_name": "a.png"}, {}, {"kind": "unsure", "said": None, "picture": drawn(4)})
    page = owner.get("/review/1?alike=1,2,x", headers=BROWSER).text
    assert "2 near copies" in page and "digits@2026.01.01-abcdef0" in page and "a.png" in page
    assert "only kept, as the answer was not sure" in owner.get("/review/3", headers=BROWSER).text
    assert owner.get("/review/99", headers=BROWSER).status_code == 404


def test_the_page_speaks_german(owner, add):
    add({"said": None})
    page = owner.get("/review?lang=de", headers=BROWSER).text
    assert "<h1>Durchsicht</h1>" in page and "keine Ziffer" in page
    assert 'href="/review?tab=unsure&amp;model=digits&amp;lang=de"' in page

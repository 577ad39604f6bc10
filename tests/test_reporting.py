"""`/api/reports` and `app reports`: what a client may send, and what an operator sees."""

from __future__ import annotations

import base64
import hashlib
import io

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from samples import encode, seven

import reports
from app import create_app
from app.__main__ import main


def data_url(content, kind="png"):
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


SEEN = data_url(encode(Image.linear_gradient("L").resize((28, 28))))
GOOD = {"answer": "a1b2.0", "label": "7", "seen": SEEN, "consent": True}


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/reports.db"


@pytest.fixture
def taking(store, url):
    """A client of an app that takes reports."""
    return client_of(store, REPORTS=url)


def client_of(store, **settings):
    return create_app({"MODEL_STORE": str(store), "MAX_BYTES": 2_000_000, **settings}).test_client()


@pytest.fixture
def database(url):
    return reports.Database(url)


def send(client, **changes):
    sent = {name: value for name, value in {**GOOD, **changes}.items() if value is not ...}
    return client.post("/api/reports", json=sent)


def refused(response, status, slug):
    assert response.status_code == status, response.text
    assert response.mimetype == "application/problem+json"
    assert response.get_json()["type"] == f"urn:glimpse:problem:{slug}"
    assert response.get_json()["detail"].endswith(".")
    return response.get_json()["detail"]


# What is kept.


def test_what_the_network_saw_is_kept_and_what_the_model_says_to_it(taking, database, client, png):
    answer = client.post("/api/predict?seen=true", data=png, content_type="image/png")
    result = answer.get_json()["results"][0]
    response = send(taking, answer=answer.headers["X-Request-ID"], seen=result["seen"], score=0.1)
    assert response.status_code == 201
    assert response.get_json()["kept"] == ["seen"]
    (kept,) = database.page().reports
    assert kept.predicted == result["label"]
    assert kept.score == pytest.approx(result["score"], abs=1e-6)
    assert (kept.verdict, kept.said, kept.model) == (result["verdict"], "7", "digits")
    assert 0 <= kept.entropy <= 2.31
    assert data_url(kept.picture) == result["seen"]
    assert not kept.has_whole


def test_the_whole_picture_is_kept_without_where_it_was_taken(taking, database):
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0)}  # where
    exif[0x0112] = 6  # it lies on its side
    photo = Image.effect_noise((1600, 900), 50).convert("RGB")
    sent = encode(photo, "JPEG", exif=exif, comment=b"at home")
    name = "../<img src=x onerror=alert(1)>\r\n.jpg"
    response = send(taking, picture=data_url(sent, "jpeg"), filename=name)
    assert response.get_json()["kept"] == ["seen", "picture"]
    (kept,) = database.page().reports
    whole = database.whole(kept.id)
    with Image.open(io.BytesIO(whole)) as image:
        assert image.size == (900, 1600)
        assert not image.getexif() and "comment" not in image.info
    assert b"at home" not in whole
    assert kept.whole_name == "<img src=x onerror=alert(1)>.jpg"  # a text, for pages to escape


def test_what_a_picture_holds_beside_its_pixels_is_not_kept(taking, database):
    text = PngInfo()
    text.add_text("Author", "<script>")
    seen = encode(Image.linear_gradient("L").resize((28, 28)), pnginfo=text)
    assert b"<script>" in seen
    assert send(taking, seen=data_url(seen)).status_code == 201
    (kept,) = database.page().reports
    assert b"<script>" not in kept.picture
    large = Image.new("RGBA", (3000, 100), (9, 9, 9, 0))
    assert send(taking, answer="b", picture=data_url(encode(large))).status_code == 201
    with Image.open(io.BytesIO(database.whole(kept.id + 1))) as whole:
        assert (whole.width, whole.mode, whole.getpixel((0, 0))) == (2048, "RGB", (255,) * 3)


def test_a_program_may_send_the_picture_alone(taking, database, png):
    response = send(taking, seen=..., picture=base64.b64encode(png).decode(), subject=0, answer="x")
    assert response.get_json()["kept"] == ["seen"]
    assert send(taking, seen=..., picture=data_url(png), answer="x.0").status_code == 200
    (kept,) = database.page().reports
    assert not kept.has_whole
    detail = refused(send(taking, seen=..., picture=data_url(png), subject=5), 400, "bad-parameter")
    assert "from 0 to 0" in detail


@pytest.mark.parametrize(
    ("label", "kept"),
    [
        ("7", "7"),
        (" 7\n", "7"),
        (None, None),
        ("  a\u0000 long\tword \u202e", "a long word"),
        ("é" * 60, "é" * 60),
        ("<b>x</b>", "<b>x</b>"),
    ],
)
def test_a_label_is_one_of_the_models_or_a_word_or_none(taking, database, label, kept):
    assert send(taking, label=label).status_code == 201
    (found,) = database.page().reports
    assert (found.kind, found.said) == ("report", kept)


def test_what_postgresql_would_refuse_does_not_reach_it(store, emptied, png):
    taking = client_of(store, REPORTS=emptied.url)
    odd = "a\u0000\ufffe\U0001f600"
    for changes in ({"label": odd}, {"answer": "b", "picture": data_url(png), "filename": odd}):
        assert send(taking, **changes).status_code == 201
    (first, second) = taking.application.extensions["reports"].page().reports
    assert first.said == "a \U0001f600"
    assert second.whole_name == "a\U0001f600"


def test_an_unsure_answer_is_kept_without_a_label(taking, database):
    assert send(taking, kind="unsure", label=...).status_code == 201
    (found,) = database.page(kind="unsure").reports
    assert found.said is None


def test_the_same_answer_is_reported_once_and_withdrawn_by_its_code(taking, database):
    first, again = send(taking), send(taking)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.get_json() == again.get_json()
    refused(send(taking, label="3"), 409, "reported-otherwise")
    code = first.get_json()["code"]
    assert taking.delete(f"/api/reports/{code}").get_json() == {"withdrawn": True}
    refused(taking.delete(f"/api/reports/{code}"), 404, "unknown-report")
    assert send(taking, label="3").status_code == 201
    response = taking.post("/api/reports/withdraw", json={"code": code})
    assert response.get_json() == {"withdrawn": True}
    refused(taking.post("/api/reports/withdraw", json={"code": code}), 404, "unknown-report")
    assert database.page().reports == []


def test_the_version_that_answered_may_be_named(taking, database):
    version = taking.get("/api/models/digits").get_json()["version"]
    assert send(taking, model=f"digits@{version}").status_code == 201
    (found,) = database.page().reports
    assert (found.model, found.version) == ("digits", version)


def test_a_report_of_a_version_that_is_gone_is_of_the_present_one(taking, database):
    assert send(taking, model="digits@2020.01.01-0000000").status_code == 201
    (found,) = database.page().reports
    assert found.version == taking.get("/api/models/digits").get_json()["version"]


# What is refused.

SMALL_FACE = data_url(encode(Image.new("L", (48, 48))))
HOSTILE = [
    ({"consent": False}, 400, "bad-parameter"),
    ({"consent": ...}, 400, "bad-parameter"),
    ({"consent": "true"}, 400, "bad-parameter"),
    ({"consent": 1}, 400, "bad-parameter"),
    ({"answer": ...}, 400, "bad-parameter"),
    ({"answer": ""}, 400, "bad-parameter"),
    ({"answer": "a\u0000"}, 400, "bad-parameter"),
    ({"answer": "a\n"}, 400, "bad-parameter"),
    ({"answer": "a" * 81}, 400, "bad-parameter"),
    ({"answer": ["a"]}, 400, "bad-parameter"),
    ({"answer": "../x/y"}, 400, "bad-parameter"),
    ({"label": ...}, 400, "bad-parameter"),
    ({"label": ""}, 400, "bad-parameter"),
    ({"label": " \u0000\u200b "}, 400, "bad-parameter"),
    ({"label": "x" * 61}, 400, "bad-parameter"),
    ({"label": "x" * 10_240}, 400, "bad-parameter"),
    ({"label": 7}, 400, "bad-parameter"),
    ({"label": {"a": 1}}, 400, "bad-parameter"),
    ({"kind": "praise"}, 400, "bad-parameter"),
    ({"model": "none"}, 404, "unknown-model"),
    ({"model": "cats@1"}, 404, "unknown-model"),
    ({"model": "../digits\u0000"}, 404, "unknown-model"),
    ({"model": 1}, 400, "bad-parameter"),
    ({"seen": ...}, 400, "missing-image"),
    ({"seen": None}, 400, "bad-parameter"),
    ({"seen": ""}, 400, "unreadable-image"),
    ({"seen": "data:image/png;base64,AAAA"}, 400, "unreadable-image"),
    ({"seen": SEEN[:80]}, 400, "unreadable-image"),
    ({"seen": data_url(encode(seven(size=(28, 28)), "JPEG"), "jpeg")}, 400, "unreadable-image"),
    ({"seen": data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>")}, 400, "unreadable-image"),
    ({"seen": SMALL_FACE}, 400, "bad-parameter"),
    ({"seen": data_url(encode(Image.new("L", (28, 27))))}, 400, "bad-parameter"),
    ({"seen": data_url(encode(Image.new("RGB", (28, 28))))}, 400, "bad-parameter"),
    ({"seen": data_url(encode(Image.new("LA", (28, 28))))}, 400, "bad-parameter"),
    ({"seen": data_url(encode(Image.new("P", (28, 28))))}, 400, "bad-parameter"),
    ({"seen": data_url(encode(Image.new("I;16", (28, 28))))}, 400, "bad-parameter"),
    ({"seen": data_url(encode(Image.new("L", (20_000, 20_000))))}, 400, "bad-parameter"),
    ({"picture": "data:image/png,x"}, 400, "unreadable-image"),
    ({"picture": data_url(b"")}, 400, "unreadable-image"),
    ({"picture": data_url(b"II*\0" + bytes(99))}, 415, "unsupported-media-type"),
    ({"picture": data_url(encode(Image.new("1", (60_000, 60_000))))}, 413, "too-large"),
    ({"picture": data_url(encode(Image.new("L", (90, 90)))), "seen": ...}, 422,
     "nothing-to-classify"),
    ({"subject": -1}, 400, "bad-parameter"),
    ({"subject": 10**30}, 400, "bad-parameter"),
    ({"subject": True}, 400, "bad-parameter"),
    ({"faces": "all"}, 400, "bad-parameter"),
    ({"filename": 3}, 400, "bad-parameter"),
]  # fmt: skip


def test_whatever_is_wrong_is_told_and_nothing_is_kept(taking, database):
    for changes, status, slug in HOSTILE:
        refused(send(taking, **changes), status, slug)
    assert database.counts() == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"label": "\\ud800", "answer": "a", "consent": true}', "application/json", 400),
        (b'{"label": "\xff"}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"a": 1}', "text/plain", 415),  # which a form of another site may send
        (b"a=1", "application/x-www-form-urlencoded", 415),
        (b"x" * 2_000_001, "application/json", 413),
    ],
)
def test_a_body_that_is_no_report_is_refused(taking, body, kind, status):
    for path in ("/api/reports", "/api/reports/withdraw"):
        response = taking.post(path, data=body, content_type=kind)
        assert response.status_code == status, response.text
        assert response.mimetype == "application/problem+json"


@pytest.mark.parametrize("code", ["x", "%00", "%FF", "é", "x" * 5000, "..%2f", "' OR 1=1 --"])
def test_a_code_that_is_of_no_report_is_told(taking, code):
    assert taking.delete(f"/api/reports/{code}").status_code == 404
    refused(taking.post("/api/reports/withdraw", json={"code": code}), 404, "unknown-report")
    refused(taking.post("/api/reports/withdraw", json={"code": 1}), 400, "bad-parameter")


def test_one_client_sends_so_many_and_no_more(store, url):
    taking = client_of(store, REPORTS=url, REPORTS_EACH=2)
    codes = [send(taking, answer=name).get_json()["code"] for name in "ab"]
    response = send(taking, answer="c")
    refused(response, 429, "too-many-reports")
    assert int(response.headers["Retry-After"]) > 0
    other = {"REMOTE_ADDR": "192.0.2.9"}
    sent = {**GOOD, "answer": "c"}
    assert taking.post("/api/reports", json=sent, environ_overrides=other).status_code == 201
    taking.delete(f"/api/reports/{codes[0]}")
    assert send(taking, answer="c").status_code == 201


def test_reports_need_the_key_and_belong_to_it(store, url, database):
    digests = ",".join(hashlib.sha256(key).hexdigest() for key in (b"one", b"two"))
    taking = client_of(store, REPORTS=url, API_KEYS=digests)
    refused(send(taking), 401, "unauthorised")
    refused(taking.delete("/api/reports/x"), 401, "unauthorised")
    for key, status in (("one", 201), ("one", 200), ("two", 201)):
        sent = taking.post("/api/reports", json=GOOD, headers={"X-API-Key": key})
        assert sent.status_code == status


def test_reports_count_in_the_rate_limit(store, url):
    taking = client_of(store, REPORTS=url, RATE_LIMIT="2 per minute", RATE_STORAGE="memory://")
    assert [send(taking).status_code for _ in range(3)] == [201, 200, 429]


def test_pages_of_other_origins_may_report_where_they_may_predict(store, url):
    taking = client_of(store, REPORTS=url, CORS_ORIGINS="https://example.org")
    headers = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "content-type",
    }
    allowed = taking.options("/api/reports/x", headers=headers).headers
    assert allowed["Access-Control-Allow-Origin"] == "https://example.org"
    assert "DELETE" in allowed["Access-Control-Allow-Methods"]


# Off, or without its database.


def test_reports_are_off_unless_they_are_turned_on(client, monkeypatch):
    for response in (
        send(client),
        client.delete("/api/reports/x"),
        client.post("/api/reports/withdraw", json={"code": "x"}),
    ):
        assert "GLIMPSE_REPORTS" in refused(response, 404, "no-reports")


def test_templates_know_whether_reports_are_on(app, taking):
    for each, on in ((app, False), (taking.application, True)):
        with each.test_request_context("/"):
            values = {}
            each.update_template_context(values)
            assert values["reports_on"] is on


def test_a_database_that_is_away_stops_no_prediction(store, tmp_path, png):
    folder = tmp_path / "later"
    taking = client_of(store, REPORTS=f"sqlite:///{folder}/reports.db")
    response = send(taking)
    refused(response, 503, "reports-away")
    assert 1 <= int(response.headers["Retry-After"]) <= 5
    refused(taking.delete("/api/reports/x"), 503, "reports-away")
    answer = taking.post("/api/predict", data=png, content_type="image/png")
    assert answer.status_code == 200
    assert taking.get("/readyz").status_code == 200
    folder.mkdir()
    taking.application.extensions["reports"]._pause_ends = 0.0
    assert send(taking).status_code == 201


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("reports.db", "GLIMPSE_REPORTS is wrong: it must be the URL"),
        ("mysql+none://u:secret@h/x", "pip install"),
    ],
)
def test_a_wrong_setting_stops_the_server_without_telling_its_password(store, value, says):
    with pytest.raises(ValueError, match=says) as raised:
        client_of(store, REPORTS=value)
    assert "secret" not in str(raised.value)


# For the operator.


def test_reports_are_counted_in_metrics(taking):
    version = taking.get("/api/models/digits").get_json()["version"]
    line = f'glimpse_reports_total{{kind="report",model="digits",version="{version}"}} '

    def counted():
        lines = taking.get("/metrics").text.splitlines()
        return sum(float(each.removeprefix(line)) for each in lines if each.startswith(line))

    before = counted()
    send(taking), send(taking)
    assert counted() == before + 1


@pytest.fixture
def command(url, capsys, monkeypatch):
    """Runs a command; returns its exit status and what it prints."""
    monkeypatch.setenv("GLIMPSE_REPORTS", url)

    def run(*arguments):
        status = main(["reports", *map(str, arguments)])
        return status, "".join(capsys.readouterr())

    return run


def test_the_commands_count_list_export_and_purge(command, taking, database, tmp_path):
    assert command() == (0, "There are no reports.\n")
    for name, label in (("a", "7"), ("b", None), ("c", "../x")):
        send(taking, answer=name, label=label)
    send(taking, answer="d", kind="unsure", label=...)
    ids = [each.id for each in database.page(kind="report").reports]
    database.decide(ids[:2], "accepted")
    status, told = command()
    assert status == 0
    assert "report: 1 new, 2 accepted, 0 rejected\n" in told
    assert "unsure: 1 new, 0 accepted, 0 rejected\n" in told
    status, told = command("list")
    assert len(told.splitlines()) == 2 and "-> ../x" in told and "unsure: " in told
    assert "-> none of these" in command("list", "--status", "accepted")[1]
    status, told = command("export", tmp_path / "out", "--model", "digits")
    assert (status, told) == (0, f"2 pictures in {tmp_path / 'out'}.\n")
    files = sorted((tmp_path / "out").rglob("*.png"))
    assert [str(each.relative_to(tmp_path / "out")) for each in files] == ["7/1.png", "none/2.png"]
    assert command("export", tmp_path / "all", "--all")[1].startswith("3 pictures")
    assert command("purge", "--older", "90d") == (0, "0 removed.\n")
    assert command("purge", "--older", "0h")[1].endswith(" removed.\n")


@pytest.mark.parametrize("age", ["90", "d", "-1d", "1y", "99999999d"])
def test_an_age_that_is_none_is_told(command, age, capsys):
    with pytest.raises(SystemExit):
        command("purge", f"--older={age}")
    assert "90d, 12w or 36h" in capsys.readouterr().err


def test_the_commands_say_what_to_do(command, monkeypatch, tmp_path):
    status, told = command("--reports", f"sqlite:///{tmp_path}/none/reports.db")
    assert status == 1 and "error: the database of reports cannot be used: " in told
    assert command("--reports", "x")[0] == 1
    monkeypatch.delenv("GLIMPSE_REPORTS")
    assert "GLIMPSE_REPORTS" in command()[1]
    monkeypatch.setenv("GLIMPSE_REPORTS", f"sqlite:///{tmp_path}/reports.db")
    (tmp_path / "file").write_text("")
    assert command("export", tmp_path / "file" / "x")[0] == 0  # nothing to write

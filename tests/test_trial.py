"""`GLIMPSE_TRIAL`: a share of clients gets another version, or it is asked in the shadow."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from samples import encode, seven
from test_metrics import rise, values
from test_versions import corrupt, made, version

import model_store
from app import create_app, trial
from app.metrics import REPORTS
from app.scheduler import SCHEDULER

httpclient = pytest.importorskip("tritonclient.http")

OLD, NEW = version(1, 1), version(2, 2)
PNG = encode(seven())
TRIAL, SHADOW = f"digits@{NEW}:50%", f"digits@{NEW}:shadow"


@pytest.fixture
def digits(tmp_path):
    """A model with two versions; the current one says 1, the other 2."""
    folder = tmp_path / "store" / "digits"
    made(folder, 1, 1)
    made(tmp_path / "run", 2, 2)
    model_store.add_version(tmp_path / "run", folder, use=False)
    return folder


@pytest.fixture
def serve(digits):
    """Makes a client of the app with that setting."""

    def make(setting, **more):
        config = {"MODEL_STORE": str(digits.parent), "TRIAL": setting, **more}
        return create_app(config).test_client()

    return make


def ask(client, address="192.0.2.1", path="/api/predict"):
    answer = client.post(
        path, data=PNG, content_type="image/png", environ_base={"REMOTE_ADDR": address}
    )
    assert answer.status_code == 200
    # As servers do when it is sent; until then the shadow is not asked.
    answer.close()
    return answer.get_json()


def told(client, address="192.0.2.1"):
    """The version that answered and the label that it gave."""
    answer = ask(client, address)
    (result,) = answer["results"]
    return answer["version"], result["label"]


ADDRESSES = [f"192.0.{high}.{low}" for high in range(2, 6) for low in range(1, 51)]


def look_again(client):
    """Time for another look at what was not there."""
    (own,) = client.application.extensions["trials"]._by_name.values()
    own.looked = -1e9


# A share.


def test_a_share_of_clients_gets_the_version_and_each_always_the_same(serve):
    client = serve(f"digits@{NEW}:30%")
    first = [told(client, address) for address in ADDRESSES]
    assert set(first) == {(OLD, "1"), (NEW, "2")}
    assert 30 < sum(version == NEW for version, _ in first) < 90  # of 200
    assert [told(client, address) for address in ADDRESSES[:40]] == first[:40]


def test_another_version_is_tried_by_other_clients():
    shares = [trial.Trial("digits", name, 0.5) for name in (OLD, NEW)]
    mine, other = ([each.has(address) for address in ADDRESSES] for each in shares)
    assert mine != other


def test_a_network_of_ipv6_is_one_client(serve):
    client = serve(TRIAL)
    for network in range(8):
        found = {told(client, f"2001:db8:0:{network}::{host:x}") for host in range(1, 9)}
        assert len(found) == 1


def test_every_route_gives_the_version_on_trial(serve):
    client = serve(f"digits@{NEW}:100%")
    assert told(client) == (NEW, "2")
    assert ask(client, path="/models/digits")[0]["label"] == "2"
    tensor = {"name": "pictures", "datatype": "UINT8", "shape": [1, 1, 28, 28], "data": [0] * 784}
    answer = client.post("/v2/models/digits/infer", json={"inputs": [tensor]}).get_json()
    assert answer["model_version"] == NEW


def test_who_names_a_version_gets_it(serve):
    client = serve(f"digits@{NEW}:100%")
    answer = ask(client, path=f"/api/predict?model=digits@{OLD}")
    assert answer["version"] == OLD


def test_a_trial_ends_when_its_version_becomes_current_and_goes_on_after(serve, digits):
    client = serve(TRIAL)
    assert len({told(client, address) for address in ADDRESSES[:20]}) == 2
    for current, expected in ((NEW, {(NEW, "2")}), (OLD, {(OLD, "1"), (NEW, "2")})):
        model_store.use(digits, current)
        client.application.extensions["models"]._next = 0.0  # it looks at once
        assert {told(client, address) for address in ADDRESSES[:20]} == expected


# The shadow.


def shadow(client, act):
    """How often each outcome has come."""
    key = "glimpse_shadow_total"
    return {
        dict(labels)["outcome"]: count
        for (name, *labels), count in rise(client, act).items()
        if name == key
    }


def test_in_the_shadow_it_answers_nobody_and_what_differs_is_counted(serve):
    client = serve(SHADOW)
    answers = set()
    found = shadow(client, lambda: answers.update(told(client, each) for each in ADDRESSES[:9]))
    assert answers == {(OLD, "1")}
    assert found == {"different": 9}


def test_the_same_label_with_another_score_is_no_disagreement(serve, digits, tmp_path):
    same = version(1, 3)
    made(tmp_path / "run3", 1, 3)
    model_store.add_version(tmp_path / "run3", digits, use=False)
    client = serve(f"digits@{same}:shadow")
    assert shadow(client, lambda: ask(client)) == {"same": 1}


def test_under_load_the_shadow_is_skipped(serve, monkeypatch):
    client = serve(SHADOW)
    monkeypatch.setattr(SCHEDULER.light, "busy", True)
    monkeypatch.setattr(type(SCHEDULER), "is_idle", False)
    monkeypatch.setattr(SCHEDULER.light, "busy", False)
    assert shadow(client, lambda: ask(client)) == {"skipped": 1}


def test_the_scheduler_is_idle_while_nobody_works():
    assert SCHEDULER.is_idle
    for light in (True, False):
        with SCHEDULER.turn(light=light):
            assert not SCHEDULER.is_idle
    assert SCHEDULER.is_idle


def test_a_shadow_that_fails_does_not_harm_the_answer(serve):
    client = serve(SHADOW)

    def fail(pixels):
        raise RuntimeError("broken")

    (own,) = client.application.extensions["trials"]._by_name.values()
    own.model = SimpleNamespace(**{**vars(own.model), "network": fail})
    assert shadow(client, lambda: ask(client)) == {"failed": 1}


def test_of_a_request_with_many_subjects_some_are_compared(serve, monkeypatch):
    client = serve(SHADOW)
    monkeypatch.setattr(trial, "COMPARING_SECONDS", 60)
    files = [(encode(seven(size=(100 + number, 100)))) for number in range(20)]

    def act():
        data = {"file": [(io.BytesIO(each), "a.png") for each in files]}
        client.post("/api/predict", data=data).close()

    assert shadow(client, act) == {"different": trial.MOST_COMPARED}


# What cannot be tried.


@pytest.mark.parametrize(
    "setting",
    ["digits", "digits@1", "digits:10%", "digits@1:0%", "digits@1:101%", "digits@1:10", "@1:5%"],
)
def test_an_invalid_setting_is_told_at_the_start(serve, setting):
    with pytest.raises(ValueError, match=r"GLIMPSE_TRIAL holds .* it must look like"):
        serve(setting)


def test_two_versions_of_a_model_are_not_tried_at_once(serve):
    with pytest.raises(ValueError, match="names the model digits twice"):
        serve(f"{TRIAL}, digits@{OLD}:shadow")


def test_several_models_may_be_on_trial():
    found = trial.parse(" digits@1:2.5%, emotions@b-2:shadow,")
    assert {name: each.share for name, each in found.items()} == {"digits": 0.025, "emotions": None}


@pytest.mark.parametrize("setting", [TRIAL, SHADOW])
def test_a_version_that_cannot_be_loaded_is_named_and_all_get_the_current_one(
    serve, digits, setting
):
    folder = model_store.version_folder(digits, NEW)
    corrupt(folder)
    client = serve(setting)
    assert {told(client, address) for address in ADDRESSES[:20]} == {(OLD, "1")}
    found = client.get("/readyz")
    assert found.status_code == 200
    assert "model.pt" in found.get_json()["unavailable"][f"digits@{NEW}"]
    assert "model.pt" in client.get("/models/digits").text


def test_a_version_that_comes_later_is_tried_from_then_on(serve, digits, tmp_path):
    late = version(4, 4)
    client = serve(f"digits@{late}:100%")
    assert told(client) == (OLD, "1")
    assert "no such version" in client.get("/readyz").get_json()["unavailable"][f"digits@{late}"]
    made(tmp_path / "run4", 4, 4)
    model_store.add_version(tmp_path / "run4", digits, use=False)
    look_again(client)
    assert told(client) == (late, "4")
    assert f"digits@{late}" not in client.get("/readyz").get_json()["unavailable"]


def test_a_broken_version_is_not_loaded_again_and_again(serve, digits, monkeypatch):
    corrupt(model_store.version_folder(digits, NEW))
    client = serve(TRIAL)
    loads = []
    held = client.application.extensions["models"]
    monkeypatch.setattr(held, "get", lambda name, get=held.get: loads.append(name) or get(name))
    for address in ADDRESSES[:9]:
        look_again(client)
        told(client, address)
    assert f"digits@{NEW}" not in loads


def test_versions_with_other_labels_are_not_compared(serve, digits, tmp_path):
    other = version(5, 5)
    made(tmp_path / "run5", 5, 5, labels=[f"n{digit}" for digit in range(10)])
    model_store.add_version(tmp_path / "run5", digits, use=False)
    client = serve(f"digits@{other}:100%")
    assert told(client) == (OLD, "1")
    assert "labels differ" in client.get("/readyz").get_json()["unavailable"][f"digits@{other}"]


# What is shown.


def test_the_model_s_page_shows_both_side_by_side(serve, digits):
    assert 'data-testid="trial"' not in serve("").get("/models/digits").text
    client = serve(TRIAL)
    for address in ADDRESSES[:20]:
        ask(client, address)
    text = client.get("/models/digits").text
    section = text[text.index('data-testid="trial"') :].partition("</section>")[0]
    assert "50.0\u00a0% of the clients" in section
    assert section.count("<tr>") == 3
    assert section.index(OLD) < section.rindex(NEW)
    assert "100.0\u00a0%" in section  # all are unsure: their score is 0.55
    german = client.get("/models/digits?lang=de").text
    assert "Eine Version auf Probe" in german


def test_the_page_counts_reports_by_version_where_reports_are_on(serve, tmp_path):
    pytest.importorskip("sqlalchemy")
    client = serve(TRIAL, REPORTS=f"sqlite:///{tmp_path / 'reports.db'}")
    before = values(client)
    REPORTS.labels("digits", NEW, "report").inc(7)
    own = ("kind", "report"), ("model", "digits"), ("version", NEW)
    count = 7 + int(before.get(("glimpse_reports_total", *own), 0))
    section = client.get("/models/digits").text.partition('data-testid="trial"')[2]
    assert "Reported" in section
    assert f"<td>{count}</td>" in section.partition("</section>")[0]


def test_the_page_tells_how_often_the_shadow_differs(serve):
    client = serve(SHADOW)
    for address in ADDRESSES[:3]:
        ask(client, address)
    assert "give" in client.get("/models/digits").text
    assert "a different label (" in client.get("/models/digits").text


def test_verdicts_are_counted_by_version(serve):
    client = serve(TRIAL)
    before = values(client)
    for address in ADDRESSES[:20]:
        ask(client, address)
    risen = {key: value - before.get(key, 0) for key, value in values(client).items()}
    counts = {
        dict(labels)["version"]: count
        for (name, *labels), count in risen.items()
        if name == "glimpse_verdicts_total" and count
    }
    assert set(counts) == {OLD, NEW}
    assert sum(counts.values()) == 20
    (tried,) = [
        count
        for (name, *labels), count in risen.items()
        if name == "glimpse_trial_requests_total" and ("version", NEW) in labels and count
    ]
    assert tried == counts[NEW]

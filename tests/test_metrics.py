"""`/metrics`: what Prometheus reads is what happened."""

from __future__ import annotations

import io

from prometheus_client.parser import text_string_to_metric_families


def values(client):
    """Every sample by its name and labels."""
    text = client.get("/metrics").get_data(as_text=True)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def rise(client, act):
    """The samples that `act` raised, and by how much."""
    before = values(client)
    act()
    return {
        key: value - before.get(key, 0)
        for key, value in values(client).items()
        if value != before.get(key, 0)
    }


def test_an_answer_is_counted_with_its_labels(client, png):
    risen = rise(client, lambda: client.post("/api/predict", data=png, content_type="image/png"))
    route = ("route", "/api/predict")
    assert risen["glimpse_requests_total", ("method", "POST"), route, ("status", "200")] == 1
    assert risen["glimpse_request_seconds_count", route] == 1
    assert risen["glimpse_request_seconds_sum", route] > 0
    (told,) = [key for key in risen if key[0] == "glimpse_predictions_total"]
    assert ("model", "digits") in told
    assert risen[told] == 1


def test_every_problem_is_counted_by_its_type(client, png):
    def act():
        files = [(io.BytesIO(png), "a.png"), (io.BytesIO(b"x"), "b.png")]
        client.post("/api/predict", data={"file": files})
        client.post("/api/predict", data=b"x", content_type="image/png")

    unreadable = ("type", "urn:glimpse:problem:unreadable-image")
    assert rise(client, act)["glimpse_problems_total", unreadable] == 2


def test_made_up_paths_and_methods_make_no_new_series(client):
    def act():
        for number in range(5):
            client.get(f"/made-up-{number}")
            client.open("/api/models", method=f"MADEUP{number}")

    risen = rise(client, act)
    told = [key for key in risen if key[0] == "glimpse_requests_total"]
    assert all("made" not in str(key).lower() for key in told)
    assert sum(risen[key] for key in told if ("route", "none") in key) >= 5


def test_loading_times_are_told(client):
    assert values(client)["glimpse_model_load_seconds", ("model", "digits")] > 0

"""`GET /metrics` for Prometheus; covers all workers if PROMETHEUS_MULTIPROC_DIR is set."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from flask import Blueprint, Flask, Response, g, request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

from app.answers import FailedResult, Result, documented
from app.shared_values import FOLDER, share_values
from model_store import Card

metrics = Blueprint("metrics", __name__)

METHODS = ("GET", "HEAD", "POST", "OPTIONS")
share_values()  # before there is a metric
BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

REQUESTS = Counter("glimpse_requests", "Requests answered", ["method", "route", "status"])
SECONDS = Histogram(
    "glimpse_request_seconds", "Seconds from request to answer", ["route"], buckets=BUCKETS
)
PREDICTIONS = Counter("glimpse_predictions", "Subjects classified", ["model", "label"])
VERDICTS = Counter(
    "glimpse_verdicts",
    "Subjects by how sure a version was of them, in the shadow too",
    ["model", "version", "verdict"],
)
TRIAL_REQUESTS = Counter(
    "glimpse_trial_requests", "Requests that a version on trial answered", ["model", "version"]
)
SHADOW = Counter(
    "glimpse_shadow",
    "Subjects of which a version in the shadow says the same or different, and those not compared",
    ["model", "version", "outcome"],
)
PROBLEMS = Counter("glimpse_problems", "Problems in answers", ["type"])
REPORTS = Counter("glimpse_reports", "Reports received", ["model", "version", "kind"])
LOAD_SECONDS = Gauge(
    "glimpse_model_load_seconds",
    "Seconds that loading and warming a model took",
    ["model"],
    multiprocess_mode="max",
)
REFUSED = Gauge(
    "glimpse_model_refused",
    "Whether a chosen version of a model cannot be used, and another serves in its place",
    ["model", "version"],
    multiprocess_mode="mostrecent",
)


def register(app: Flask) -> None:
    """Makes `app` count its requests."""
    app.before_request(_start)
    app.after_request(_count)
    app.register_blueprint(metrics)


@metrics.get("/metrics", endpoint="metrics")
@documented("text/plain")
def show() -> Response:
    """Counts and times for Prometheus."""
    return Response(generate_latest(_registry()), content_type=CONTENT_TYPE_LATEST)


def totals(name: str) -> list[tuple[dict[str, str], float]]:
    """The labels and values of the samples `name`, of all workers where these share them."""
    return [
        (sample.labels, sample.value)
        for family in _registry().collect()
        for sample in family.samples
        if sample.name == name
    ]


def _registry() -> CollectorRegistry:
    if FOLDER not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def count_results(card: Card, results: Iterable[Result | FailedResult]) -> None:
    """Counts what a request's pictures were classified as, and the problems of single ones."""
    for result in results:
        if isinstance(result, FailedResult):
            PROBLEMS.labels(result.error.type).inc()
        else:
            for part in result.parts:
                PREDICTIONS.labels(card.name, part.label).inc()
                VERDICTS.labels(card.name, card.version, part.verdict).inc()


def _start() -> None:
    g.started = time.perf_counter()


def _count(response: Response) -> Response:
    # Routes, not paths, since clients can invent any number of paths.
    route = request.url_rule.rule if request.url_rule else "none"
    method = request.method if request.method in METHODS else "other"
    REQUESTS.labels(method, route, response.status_code).inc()
    if "started" in g:
        SECONDS.labels(route).observe(time.perf_counter() - g.started)
    return response

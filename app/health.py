"""What a supervisor asks: is the process alive, and can it serve."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint, Response, current_app
from msgspec import Meta, Struct

from app.answers import documented, json_response
from app.models import models
from app.trial import trials

health = Blueprint("health", __name__)


class Alive(Struct):
    """Whether the process answers."""

    status: str


class Readiness(Struct):
    """Whether the default model can be used, and which models cannot."""

    ready: Annotated[bool, Meta(description="Whether the default model can be used")]
    models: Annotated[list[str], Meta(description="Those that can be used")]
    unavailable: Annotated[
        dict[str, str], Meta(description="For each other model, why it cannot be used")
    ]


@health.get("/healthz")
@documented(Alive)
def alive() -> Response:
    """Whether the process answers."""
    return json_response(Alive("alive"))


@health.get("/readyz")
@documented(Readiness, unready=Readiness(False, [], {"digits": "model.pt is missing"}))
def ready() -> Response:
    """Whether the default model is loaded and warm, and which models are left out."""
    held = models()
    default = current_app.config["DEFAULT_MODEL"]
    is_ready = default in held.ready
    missing = {} if is_ready else {default: "not in the store; set GLIMPSE_DEFAULT_MODEL"}
    unavailable = missing | held.left_out | trials().unavailable
    answer = Readiness(is_ready, list(held.ready), unavailable)
    return json_response(answer, 200 if is_ready else 503)

"""What a supervisor asks: is the process alive, and can it serve."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify

from app.models import models

health = Blueprint("health", __name__)


@health.get("/healthz")
def alive() -> Response:
    """200 while the process answers."""
    return jsonify(status="alive")


@health.get("/readyz")
def ready() -> Response:
    """200 where the default model is loaded and warm, else 503; names what is left out."""
    held = models()
    is_ready = current_app.config["DEFAULT_MODEL"] in held.ready
    response = jsonify(ready=is_ready, models=list(held.ready), unavailable=held.unavailable)
    response.status_code = 200 if is_ready else 503
    return response

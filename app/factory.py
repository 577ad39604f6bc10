"""The application, wired together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask

from app import (
    assets,
    body,
    errors,
    guard,
    inside_page,  # noqa: F401 (its routes are those of `pages`)
    metrics,
    models,
    reporting,
    review,
    texts,
    traces,
    trial,
)
from app.api import api
from app.config import DEFAULTS, settings
from app.engines import engine
from app.health import health
from app.hugging_face import hugging_face
from app.inference_protocol import protocol
from app.memory import give_back_large_blocks
from app.model_pages import model_pages
from app.openapi import openapi
from app.pages import pages


def resources(name: str) -> str:
    """The folder `name` of the pages' files: inside an installed app, beside it in a clone."""
    within = Path(__file__).resolve().with_name(name)
    return str(within if within.is_dir() else within.parent.parent / name)


def build(config: Mapping[str, Any] | None = None) -> Flask:
    """The application with its models loaded; `config` replaces settings from the environment."""
    give_back_large_blocks()
    app = Flask(
        __name__,
        template_folder=resources("templates"),
        static_folder=resources("static"),
        static_url_path="/assets",
    )
    app.url_map.strict_slashes = False  # /faces/ is /faces
    app.config.from_mapping(settings())
    app.config.from_mapping(config or {})
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_BYTES"]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    held = models.Models(Path(app.config["MODEL_STORE"]), engine(app.config["ENGINE"]))
    app.extensions["models"] = held
    if len(held.ready) == 1 and not held.unavailable:
        (only,) = held.ready
        if app.config["DEFAULT_MODEL"] == DEFAULTS["DEFAULT_MODEL"]:  # nobody has chosen another
            app.config["DEFAULT_MODEL"] = only
    for part in (assets, body, errors, metrics, models, texts, guard, reporting, trial):
        part.register(app)
    traces.register(app)
    for blueprint in (api, health, hugging_face, model_pages, openapi, pages, protocol):
        app.register_blueprint(blueprint)
    review.register(app)
    return app

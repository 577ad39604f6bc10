"""The pages, for people: HTML around the same classification that the API gives."""

from __future__ import annotations

import json
from typing import Any

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

from app.evaluation import recalls
from app.guard import embeddable
from app.models import Model, models, store_option
from app.openapi import EVERYWHERE, SAMPLE, document
from app.texts import keep_language, label, number, t
from model_store import Card

WIDTH = 76  # characters of a line of JSON
LONG_TEXT, MANY_NUMBERS, SHOWN = 100, 32, 8

HOMES = ("draw.html", "faces.html")  # the templates of pages that have an address of their own
FRAMED = {"embedded": True, "reports_on": False}  # what a page in a frame elsewhere is told
MOST_BARS = 12  # labels with a bar each; of more, the best are listed
BEST = 10

pages = Blueprint("pages", __name__)
pages.url_defaults(keep_language)
pages.add_app_template_filter(json.dumps, "json")


def own_models() -> list[Model]:
    """The models that are tried neither on the page for digits nor on that for faces."""
    return [model for model in models().ready.values() if model.task.page not in HOMES]


def _is_tried_on(page: str) -> bool:
    """Whether the page of template `page` has a place in the navigation: it has a model, or none
    of the user's own stands there.
    """
    return not own_models() or models().tried_on(page, "") is not None


@pages.app_context_processor
def _navigation() -> dict[str, Any]:
    """The pages that every page links to, as (endpoint, address, name), and the user's models."""
    own = [model.card.name for model in own_models()]
    try_own = url_for("pages.try_model", name=own[0]) if own else ""
    entries = [
        ("pages.draw", url_for("pages.draw"), t("base.digits"), _is_tried_on("draw.html")),
        ("pages.faces", url_for("pages.faces"), t("base.faces"), _is_tried_on("faces.html")),
        ("pages.try_model", try_own, t("base.pictures"), bool(own)),
        ("pages.batch", url_for("pages.batch"), t("base.batch"), True),
        ("models.index", url_for("models.index"), t("base.models"), True),
        ("pages.docs", url_for("pages.docs"), t("base.docs"), True),
    ]
    return {
        "navigation": [entry[:3] for entry in entries if entry[3]],
        "own_models": own,
        "reports_on": bool(current_app.config["REPORTS"]),
    }


@pages.get("/")
def draw() -> str | AnyResponse:
    """The page on which a digit is drawn and read; where no model reads digits, an own one's."""
    if not _is_tried_on("draw.html"):
        return redirect(url_for("pages.try_model", name=own_models()[0].card.name))
    return _page("draw.html", _asked_for(current_app.config["DEFAULT_MODEL"]))


@pages.get("/embed")
def embed() -> Response:
    """The page for digits without what is around it, for a frame in a page elsewhere."""
    page = _page("draw.html", _asked_for(current_app.config["DEFAULT_MODEL"]), **FRAMED)
    return embeddable(make_response(page), current_app.config["EMBED_ORIGINS"])


@pages.get("/faces")
def faces() -> str:
    """The page on which the faces of a photo are found and read."""
    return _page("faces.html", _asked_for(current_app.config["FACE_MODEL"]))


@pages.get("/try/<name>")
def try_model(name: str) -> str:
    """The page on which the model `name` is tried."""
    model = models().get(name)
    return _page(model.task.page, model.card.name)


def _asked_for(otherwise: str) -> str:
    """The model that the address names, as in `/?model=digits-baseline`.

    Raises `UnknownModel`, or `NotReady`.
    """
    name = request.args.get("model")
    return models().get(name).card.name if name else otherwise


def _page(template: str, preferred: str, **more: Any) -> str:
    """The page `template` for the model `preferred`, or for another that it fits."""
    model = models().tried_on(template, preferred)
    return render_template(
        template,
        name=preferred,
        card=model.card if model else None,
        spec=model.spec if model else None,
        task=model.task if model else None,
        recall=_recall(model.card) if model else [],
        best=BEST if model and len(model.card.labels) > MOST_BARS else 0,
        others=[
            name
            for name, each in models().ready.items()
            if each.task.page == template and model and name != model.card.name
        ],
        most_bytes=current_app.config["MAX_BYTES"],
        **more,
    )


def _recall(card: Card) -> list[str]:
    """How many pictures of each label the model finds, in words."""
    return [
        t("faces.share", share=number(100 * share), label=label(name))
        for name, share in recalls(card).items()
    ]


@pages.get("/batch")
def batch() -> str:
    """The page that classifies many pictures and offers the answers as CSV."""
    return render_template(
        "batch.html",
        store_option=store_option(),
        models=list(models().ready.values()),
        default=current_app.config["DEFAULT_MODEL"],
        most_bytes=current_app.config["MAX_BYTES"],
        most_images=current_app.config["MAX_IMAGES"],
    )


@pages.get("/withdraw")
def withdraw() -> str:
    """The page on which a report is withdrawn with its code."""
    if not current_app.config["REPORTS"]:
        abort(404)
    return render_template("withdraw.html")


@pages.get("/docs")
def docs() -> str:
    """The API: what `/openapi.json` says, and forms to try it."""
    return render_template(
        "docs.html",
        document=document(),
        everywhere=EVERYWHERE,
        models=list(models().ready),
        root=request.url_root.rstrip("/"),
        sample=SAMPLE,
    )


@pages.get("/offline")
def offline() -> str:
    """The page that browsers keep, and show in another's place when there is no connection."""
    return render_template("offline.html")


@pages.app_template_filter()
def pretty(value: Any, indent: str = "") -> str:
    """JSON for people: on one line if it fits; base64 and long lists of numbers are cut short.

    static/js/json.js does the same in the browser.
    """
    if isinstance(value, dict):
        parts = [f"{json.dumps(k)}: {pretty(v, indent + '  ')}" for k, v in value.items()]
        first, last = "{}"
    elif isinstance(value, list):
        parts = [pretty(each, indent + "  ") for each in value]
        if len(parts) > MANY_NUMBERS and all(isinstance(each, int | float) for each in value):
            parts = [*parts[:SHOWN], t("js.json.in_all", count=len(parts))]
        first, last = "[]"
    else:
        if isinstance(value, str) and len(value) > LONG_TEXT and " " not in value:
            value = t("js.json.characters", start=value[:48], length=len(value))
        return json.dumps(value, ensure_ascii=False)
    line = first + ", ".join(parts) + last
    if len(indent + line) <= WIDTH and "\n" not in line:
        return line
    inner = f",\n{indent}  ".join(parts)
    return f"{first}\n{indent}  {inner}\n{indent}{last}"

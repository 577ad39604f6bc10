"""The models' pages: what each is for, how good it is, how to train it again and how to call it."""

from __future__ import annotations

import json
from typing import Annotated, Any

from flask import Blueprint, current_app, render_template, request, url_for
from msgspec import Meta

from app import charts, comparison
from app.evaluation import accuracy, reported, told
from app.facts import facts, name_of
from app.models import Model, models, store_option
from app.texts import keep_language, label, of_task
from app.trial import trials
from model_store import ROOT, Card

model_pages = Blueprint("models", __name__, url_prefix="/models")
model_pages.url_defaults(keep_language)

HOME_PAGES = (  # pages of one model: their endpoint, template and setting
    ("pages.draw", "draw.html", "DEFAULT_MODEL"),
    ("pages.faces", "faces.html", "FACE_MODEL"),
)
WIDE = 0.1  # of an interval: the test pictures are few
MOST_PAIRS = 100  # classes in the chart of a comparison
RECIPES = ROOT.parent / "training" / "recipes"  # that are shipped; others are somebody's files
RECALLS = (0.5, 0.8, 0.9, 0.95, 0.99)  # at which a curve's table gives the precision
ShellWord = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z")]  # needs no quotes


@model_pages.get("")
def index() -> str:
    """All models, including those that cannot be used."""
    ready = [
        (each.card, accuracy(each.card), (m := each.report.matrix) and charts.fingerprint(m))
        for each in models().ready.values()
    ]
    return render_template("models.html", models=ready, unavailable=models().left_out)


@model_pages.get("/<name>")
def show(name: str) -> str | tuple[str, int]:
    """A model's page, or why it cannot be used."""
    if reason := models().left_out.get(name):
        return render_template("model.html", name=name, reason=reason), 503
    model = models().get(name)
    card = model.card
    return render_template(
        "model.html",
        name=name,
        card=card,
        task=model.task,
        accuracy=(found := accuracy(card)),
        few=found is not None and found[2] - found[1] > WIDE,
        report=model.report,
        pictures=draw(model),
        facts=facts(card),
        partners=comparison.partners(card),
        try_it=try_it(model),
        command=command(card),
        recalls_shown=RECALLS,
        smoothed_until=smoothed_until(card),
        reported=reported(card),
        trial=trials().comparison(name),
    )


@model_pages.get("/compare")
def compare() -> str:
    """Two models side by side: those asked for, or two that know the same labels."""
    names = list(models().ready)
    pair = comparison.pair(request.args.get("a"), request.args.get("b"))
    if pair is None:
        return render_template("compare.html", names=names)
    recalls = [(label(name), a, b) for name, a, b in comparison.shared_recalls(*pair)]
    accuracies = [(card.name, *found) for card in pair if (found := accuracy(card))]
    return render_template(
        "compare.html",
        names=names,
        a=pair[0],
        b=pair[1],
        lines=comparison.compared(*pair),
        recalls=recalls,
        better=comparison.better,
        shared_page=comparison.shared_page(*pair),
        interval=charts.intervals(accuracies) if len(accuracies) == 2 else None,
        chart=charts.pairs(recalls) if 0 < len(recalls) <= MOST_PAIRS else None,
        same_labels=comparison.same_labels(*pair),
        same_test=comparison.same_test(*pair),
        chance=comparison.may_be_chance(*pair),
    )


def draw(model: Model) -> dict[str, Any]:
    """The charts of a model's page by name, if its report has their figures."""
    card, report = model.card, model.report
    drawn: dict[str, Any] = {}
    names = list(map(label, card.labels))
    if figures := accuracy(card):
        drawn["interval"] = charts.intervals([("", *figures)])
    if report.matrix:
        drawn["matrix"] = charts.matrix(report.matrix, names, report.mistakes())
    if report.history:
        best = told(card.metrics, "best_epoch", int, 0)
        drawn["training"] = [
            charts.training(report.history, what, best) for what in ("accuracy", "loss")
        ]
    if report.bins:
        drawn["reliability"] = charts.reliability([(b.score, b.right) for b in report.bins])
    curves = [(at, points) for at, points in enumerate(report.curves) if points]
    least = charts.corner([points for _, points in curves])
    drawn["curves"] = [
        (at, charts.precision_recall(points, names[at], at, least), _precisions(points))
        for at, points in curves
    ]
    return drawn


def _precisions(points: list[tuple[float, float]]) -> list[float]:
    """The best precision at each of `RECALLS`, or more recall."""
    return [max((y for x, y in points if x >= recall), default=0) for recall in RECALLS]


def smoothed_until(card: Card) -> int | None:
    """The last epoch with label smoothing, if later epochs of the run have none."""
    fine_tune = told(card.recipe, "fine_tune", dict, {})
    if not (fine_tune.get("epochs") and card.recipe.get("label_smoothing")):
        return None
    epochs: int | None = told(card.recipe, "epochs", int)
    return epochs


def try_it(model: Model) -> tuple[str, str]:
    """The address and name of the page on which the model is tried."""
    words = of_task(model.card.task, "try")
    for endpoint, page, setting in HOME_PAGES:
        if models().tried_on(page, current_app.config[setting]) is model:
            return url_for(endpoint), words
    return url_for("pages.try_model", name=model.card.name), words


def command(card: Card) -> dict[str, Any] | None:
    """The recipe's name and data for the commands that train and measure the model again."""
    recipe = told(card.recipe, "name", ShellWord)
    if recipe is None:
        return None
    values = json.dumps(card.recipe, indent=2)
    data = name_of(card.recipe, "data")
    further = len(told(told(card.recipe, "data", dict, {}), "also", list, []))
    place = "" if data == "mnist" else " --data DIR"  # which MNIST is downloaded to
    if further:
        place = "".join(f" --data DIR{number}" for number in range(1, further + 2))
    is_shipped = (RECIPES / f"{recipe}.toml").is_file()
    return {
        "recipe": recipe if is_shipped else f"{recipe}.toml",
        "name": "" if recipe == card.name else f" --name {card.name}",
        "data": data,
        "place": place,
        "values": values,
        "store": store_option(),
    }

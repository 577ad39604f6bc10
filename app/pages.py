"""The pages, for people: HTML around the same classification that the API gives."""

from flask import Blueprint, current_app, render_template

from app.models import models

pages = Blueprint("pages", __name__)


@pages.get("/")
def draw() -> str:
    """The page on which a digit is drawn and read."""
    return render_template("draw.html")


@pages.get("/faces")
def faces() -> str:
    """The page on which the faces of a photo are found and read."""
    name = current_app.config["FACE_MODEL"]
    model = models().ready.get(name)
    card = model.card if model and model.card.task == "face" else None
    recall = zip(card.labels, card.metrics.get("test_recall", []), strict=False) if card else []
    return render_template(
        "faces.html",
        name=name,
        card=card,
        recall=list(recall),
        most_bytes=current_app.config["MAX_BYTES"],
    )

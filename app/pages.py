"""The pages, for people: HTML around the same classification that the API gives."""

from flask import Blueprint, render_template

pages = Blueprint("pages", __name__)


@pages.get("/")
def draw() -> str:
    """The page on which a digit is drawn and read."""
    return render_template("draw.html")

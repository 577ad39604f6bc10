"""`/api/reports`: what people report about answers goes into a database, if there is one."""

from __future__ import annotations

import io
import logging
import re
import unicodedata
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, cast

import msgspec
import numpy as np
from flask import Blueprint, Flask, Response, current_app, request
from msgspec import UNSET, Meta, Struct, UnsetType
from numpy.typing import NDArray
from PIL import Image

from app.answers import documented, json_response
from app.api import filename, from_base64, parse_json, received
from app.errors import (
    BUSY,
    GUARDS,
    NOT_READY,
    UNKNOWN,
    BadParameter,
    MissingImage,
    NoReports,
    ReportedOtherwise,
    ReportsAway,
    TooManyReports,
    UnknownModel,
    UnknownReport,
)
from app.guard import sender
from app.metrics import REPORTS
from app.models import Model, models
from app.predict import FEW, classify, work
from tasks import png
from tasks.base import Box, Pixels, Subject, on_white
from tasks.decode import Picture, decode, header
from tasks.problems import Problem, UnreadableImage, UnsupportedMediaType

if TYPE_CHECKING:
    from reports import Database, Kept, Sent

reporting = Blueprint("reports", __name__, url_prefix="/api/reports")

ANSWER = re.compile(r"[A-Za-z0-9._-]{1,80}")
LONGEST_WORD = 60  # characters
LONGEST_LABEL = 255
LARGEST = 2048  # pixels of a side of a whole picture that is kept
SMALL = 512 * 512  # pixels up to which it is kept as a PNG; larger ones as JPEG
MOST_SUBJECTS = 1024
NO_REPORTS = NoReports()
UNKNOWN_REPORT = UnknownReport()

log = logging.getLogger(__name__)


Answer = Annotated[
    str,
    Meta(
        description="Which answer: its X-Request-ID and, for one of several subjects, a dot and "
        "the subject’s place, from 0. The same answer is reported once."
    ),
]
OfModel = Annotated[
    str, Meta(description="The model’s name, alone or with @ and the version that answered.")
]
KindOf = Annotated[
    Literal["report", "unsure"],
    Meta(
        description="report: the answer is wrong; unsure: it was unsure, and the sender agrees "
        "that it is kept."
    ),
]
Right = Annotated[
    str | None,
    Meta(
        description="What is right: one of the model’s labels, a word of up to 60 characters, or "
        "null for none of these. Left out for the kind unsure."
    ),
]
Seen = Annotated[
    str,
    Meta(
        description="What the network saw, the PNG data URL that /api/predict gives with "
        "seen=true. It is kept."
    ),
]
Whole = Annotated[
    str,
    Meta(
        description="The whole picture, base64 or a data: URL. It is kept beside “seen”, without "
        "its metadata and reduced to 2048 pixels a side. Without “seen”, the server finds the "
        "subject in it and keeps that alone."
    ),
]
Place = Annotated[
    int, Meta(ge=0, lt=MOST_SUBJECTS, description="Without “seen”: which subject, from 0.")
]
Faces = Annotated[
    Literal["detect", "whole"], Meta(description="Without “seen”: as for /api/predict.")
]
Filename = Annotated[str, Meta(description="The picture’s name. It is kept with the picture.")]
Consent = Annotated[
    bool, Meta(description="true: who sends this agrees that it is kept, and may be learned from.")
]


class Report(Struct, kw_only=True):
    """What is wrong with an answer."""

    answer: Answer = ""
    model: OfModel = ""
    kind: KindOf = "report"
    label: Right | UnsetType = UNSET
    seen: Seen | UnsetType = UNSET
    picture: Whole | UnsetType = UNSET
    subject: Place | UnsetType = UNSET
    faces: Faces = "detect"
    filename: Filename | UnsetType = UNSET
    consent: Consent = False


class KeptReport(Struct):
    """A report that is kept."""

    id: Annotated[int, Meta(description="Its number")]
    code: Annotated[str, Meta(description="What withdraws it; nobody else is given it")]
    kept: Annotated[
        list[Literal["seen", "picture"]], Meta(description="The pictures that are kept")
    ]


class Withdrawal(Struct):
    """Which report is withdrawn."""

    code: Annotated[str, Meta(description="The report’s code")] = ""


class Withdrawn(Struct):
    """A report that has been removed, with its pictures."""

    withdrawn: bool


Given = TypeVar("Given", Report, Withdrawal)
RULES = {
    "answer": "the answer’s X-Request-ID: 1 to 80 letters, digits, dots, hyphens or underscores",
    "model": "a text: the name of a model",
    "kind": "report or unsure",
    "label": "a text or null",
    "seen": "a text: a PNG data: URL",
    "picture": "a text: base64, or a data: URL",
    "subject": f"a whole number from 0 to {MOST_SUBJECTS - 1}",
    "faces": "detect or whole",
    "filename": "a text",
    "consent": "true or false",
    "code": "a text: the code that came with the answer to the report",
}
NO_CONSENT = "“consent” must be true: a report is kept only if who sends it agrees."
NO_PICTURE = "The report holds no picture. Send “seen”, or “picture” alone."
NO_PNG = "“seen” is not a PNG. Send what /api/predict gives with seen=true."
NO_JSON = "A report is JSON. Send it as application/json."
NO_CODE = "“code” must be a text: the code that came with the answer to the report."
# Examples of problems, for the API document.
AWAY = ReportsAway(5)
SENDING = (
    BadParameter(NO_CONSENT),
    MissingImage(NO_PICTURE),
    UnreadableImage(NO_PNG),
    UnsupportedMediaType(NO_JSON),
    UNKNOWN,
    NO_REPORTS,
    ReportedOtherwise(),
    TooManyReports("200 reports of one sender are kept at a time"),
    BUSY,
    NOT_READY,
    AWAY,
    *GUARDS,
)
WITHDRAWING = (UNKNOWN_REPORT, NO_REPORTS, AWAY, *GUARDS)


def register(app: Flask) -> None:
    """Opens the database of reports, if the settings name one; raises `ValueError` for a wrong
    one. Where it is away the app starts all the same.
    """
    app.extensions["reports"] = _opened(app.config["REPORTS"]) if app.config["REPORTS"] else None
    app.register_blueprint(reporting)


def _opened(url: str) -> Database:
    try:
        import reports  # noqa: PLC0415  # without reports, nothing of it is needed

        database = reports.Database(url)
    except ImportError as error:
        raise ValueError(
            f"GLIMPSE_REPORTS needs {error.name}, which is not installed: "
            "pip install -r requirements-reports.txt, or 'glimpse[reports]'"
        ) from error
    except ValueError as error:  # which does not hold the URL, for that holds a password
        raise ValueError(f"GLIMPSE_REPORTS is wrong: {error}") from error
    try:
        database.migrate()
    except reports.Away:
        log.warning("reports are refused until their database answers; predictions go on")
    return database


def database() -> Database:
    """The app's database of reports; raises `NoReports`."""
    held = current_app.extensions["reports"]
    if held is None:
        raise NO_REPORTS
    return cast("Database", held)


@reporting.post("", endpoint="report")
@documented(KeptReport, *SENDING)
def report() -> Response:
    """Report an answer."""
    kept_by = database()
    given = _given(Report)
    name = _checked(given)
    model = _model(given.model or current_app.config["DEFAULT_MODEL"])
    said = None if given.kind == "unsure" else _said(given.label, model.card.labels)
    sent = _sent(given, name, model, said)
    kept = _add(kept_by, sent)
    if kept.is_new:
        REPORTS.labels(sent.model, sent.version, sent.kind).inc()
    answer = KeptReport(kept.id, kept.code, ["seen", "picture"] if kept.has_whole else ["seen"])
    return json_response(answer, 201 if kept.is_new else 200)


@reporting.delete("/<code>", endpoint="delete_report")
@documented(Withdrawn, *WITHDRAWING)
def delete_report(code: str) -> Response:
    """Withdraw a report by its address."""
    return _withdraw(code)


@reporting.post("/withdraw", endpoint="withdraw_report")
@documented(Withdrawn, *WITHDRAWING, BadParameter(NO_CODE), UnsupportedMediaType(NO_JSON))
def withdraw_report() -> Response:
    """Withdraw a report by its code."""
    code = _given(Withdrawal).code
    if not code:
        raise BadParameter(NO_CODE)
    return _withdraw(code)


def _withdraw(code: str) -> Response:
    import reports  # noqa: PLC0415

    try:
        found = database().withdraw(code)
    except reports.Away as away:
        raise ReportsAway(away.wait) from away
    if not found:
        raise UNKNOWN_REPORT
    return json_response(Withdrawn(True))


def _given(kind: type[Given]) -> Given:
    """The request's JSON; raises `UnsupportedMediaType` or `BadParameter`."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType(NO_JSON)
    content = received(parse_json)
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        wrong = str(error).rpartition("$.")[2].rstrip("`")
        raise BadParameter(f"“{wrong}” must be {RULES.get(wrong, 'of its type')}.") from error


def _checked(given: Report) -> str:
    """The answer's name, with its subject's place; raises the problem of an incomplete report."""
    if not given.consent:
        raise BadParameter(NO_CONSENT)
    if not ANSWER.fullmatch(given.answer):
        raise BadParameter(f"“answer” must be {RULES['answer']}.")
    if given.kind == "report" and given.label is UNSET:
        raise BadParameter("“label” must be there: a label, a word, or null for none of these.")
    if given.seen is UNSET and given.picture is UNSET:
        raise MissingImage(NO_PICTURE)
    place = "" if given.subject is UNSET else f".{given.subject}"
    return given.answer if given.answer.endswith(place) else f"{given.answer[:75]}{place}"


def _model(name: str) -> Model:
    """The model that answered; the present version where the one that did has been removed."""
    try:
        return models().get(name)
    except UnknownModel:
        return models().get(name.partition("@")[0])


def _said(label: str | UnsetType | None, labels: list[str]) -> str | None:
    """The label that is right, as the model writes it, or a word; raises `BadParameter`."""
    if not isinstance(label, str):
        return None
    if label in labels and len(label) <= LONGEST_LABEL:
        return label
    if len(label) > 4 * LONGEST_WORD:  # of which nothing is to be read
        raise _no_word(len(label))
    readable = (" " if unicodedata.category(sign)[0] == "C" else sign for sign in label)
    word = " ".join("".join(readable).split())
    if not 0 < len(word) <= LONGEST_WORD:
        raise _no_word(len(word))
    alike = [each for each in labels if each.casefold() == word.casefold()]
    return alike[0] if len(alike) == 1 else word


def _no_word(length: int) -> BadParameter:
    return BadParameter(
        f"“label” has {length} characters. Send one of the model’s labels, a word of 1 to "
        f"{LONGEST_WORD} characters, or null for none of these."
    )


def _sent(given: Report, name: str, model: Model, said: str | None) -> Sent:
    """The report with what the model says, as it is kept."""
    from reports import Sent  # noqa: PLC0415

    config = current_app.config
    picture = given.picture if given.picture is UNSET else _content(given.picture, "picture")
    pixels = UNSET if given.seen is UNSET else _pixels(_content(given.seen, "seen"), model)
    light = picture is UNSET or (pixels is not UNSET and header(picture)[1] <= FEW)
    with work(light=light, seconds=config["MAX_SECONDS"], patience=config["MAX_WAIT"]) as turn:
        whole = UNSET if picture is UNSET else decode(picture, config["MAX_PIXELS"])
        if pixels is UNSET:
            subject = _found(given, model, cast(Picture, whole))
            whole = UNSET
        else:
            _, height, width = pixels.shape
            subject = Subject(pixels, Box(0, 0, width, height))
        probabilities, none = classify(model, np.stack([subject.pixels]), turn)
        stored = None if whole is UNSET else _stored(whole.image)
    card = model.card
    answer = model.task.answer([subject], probabilities, card.labels, card.thresholds, none=none)
    best = answer.predictions[0]
    return Sent(
        answer=name,
        kind=given.kind,
        model=card.name,
        version=card.version,
        task=card.task,
        predicted=best.label,
        score=best.score,
        verdict=answer.verdict,
        entropy=_entropy(probabilities[0]),
        said=said,
        picture=_png(subject.pixels),
        whole=stored,
        whole_name=filename(given.filename or None) if stored else None,
    )


def _content(text: str, field: str) -> bytes:
    content = from_base64(text, field)
    if isinstance(content, Problem):
        raise content
    return content


def _pixels(content: bytes, model: Model) -> Pixels:
    """What the network saw, out of its PNG; raises `UnreadableImage` or `BadParameter`."""
    channels, height, width = model.spec.shape
    mode, size = "L" if channels == 1 else "RGB", (width, height)
    try:
        with Image.open(io.BytesIO(png.needed(content)), formats=["PNG"]) as image:
            fits = (image.mode, image.size) == (mode, size)
            values = np.array(image) if fits else None
    except Exception as error:  # decoders raise all kinds of errors on untrusted data
        raise UnreadableImage(NO_PNG) from error
    if values is None:
        colours = "grey" if channels == 1 else "colour"
        raise BadParameter(
            f"“seen” must be a PNG of {width} × {height} pixels in {colours}, as /api/predict "
            f"gives it with seen=true and model={model.card.name}."
        )
    return np.ascontiguousarray(values.reshape(height, width, channels).transpose(2, 0, 1))


def _found(given: Report, model: Model, picture: Picture) -> Subject:
    """The subject of a picture that is reported; raises `BadParameter` or what `find` raises."""
    subjects = model.task.find(picture, model.spec, whole=given.faces == "whole")
    place = given.subject or 0
    if place >= len(subjects):
        raise BadParameter(
            f"“subject” must be a whole number from 0 to {len(subjects) - 1}: so many subjects "
            "were found in the picture."
        )
    return subjects[place]


def _stored(image: Image.Image) -> bytes:
    """A picture as it is kept: without its metadata, such as where it was taken."""
    image = on_white(image).copy()
    image.info = {}
    image.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    if image.width * image.height <= SMALL:
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def _entropy(probabilities: NDArray[np.float64]) -> float:
    """The entropy of probabilities (K,) in nats: 0 for a certain one, log K where all are equal."""
    some = probabilities[probabilities > 0]
    return max(0.0, float(-(some * np.log(some)).sum()))


def _add(kept_by: Database, sent: Sent) -> Kept:
    import reports  # noqa: PLC0415

    try:
        return kept_by.add(sent, sender(), most=current_app.config["REPORTS_EACH"])
    except reports.Differs as error:
        raise ReportedOtherwise from error
    except reports.TooMany as error:
        raise TooManyReports(str(error)) from error
    except reports.Away as away:
        raise ReportsAway(away.wait) from away

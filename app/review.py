"""The page /review, for the owner alone: reports, to be accepted, relabelled or rejected."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    g,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

from app.errors import BadParameter, answer
from app.models import models
from app.reporting import database
from app.sign_in import Session, SignedOut, SignIn
from app.texts import keep_language, t
from tasks.decode import decode
from tasks.problems import Problem

if TYPE_CHECKING:
    from reports import Away, Count, Kind, Outline, Report, Status

TABS = ("new", "unsure", "accepted", "rejected")
EACH = 60  # groups of near copies on a page
ALIKE = 4  # bits of 64 in which the hashes of near copies differ
MOST = 5000  # reports of a tab that are sorted and grouped at once
SHOWN = 100  # near copies of a group that are shown
MOST_WORD = 60  # characters of a label that is a word
SMALL = 8192  # bytes of a picture that is sent within the page
WIDE = 1600  # pixels of the longer side of a whole picture
DIGITS = frozenset("0123456789")
NONE, WORD = "none", ":"  # a label in a form: none of these, or this before the label

review = Blueprint("review", __name__, url_prefix="/review")
review.url_defaults(keep_language)


class ReviewAway(Problem):
    """A database of reports that cannot be used now."""

    status, slug, title = 503, "reports-away", "Reports away"

    def __init__(self, wait: int) -> None:
        super().__init__(
            f"The database of reports does not answer. Wait {wait} s, then load the page anew.",
            {"Retry-After": str(wait)},
        )


def register(app: Flask) -> None:
    """Adds the page to `app` if it has keys for it, and reports."""
    if not app.config["REVIEW_KEYS"]:
        return
    sign_in = SignIn(
        app.config["REVIEW_KEYS"], app.config["RATE_STORAGE"], lambda: app.extensions["reports"]
    )
    if app.extensions["reports"] is not None:
        from reports import Away  # noqa: PLC0415  # without reports, nothing of it is needed

        app.extensions["sign_in"] = sign_in
        app.register_blueprint(review)
        app.register_error_handler(Away, _answer_away)


def _answer_away(away: Away) -> Response:
    return answer(ReviewAway(away.wait))


def signing() -> SignIn:
    """Who may sign in."""
    found: SignIn = current_app.extensions["sign_in"]
    return found


@review.before_request
def _let_in() -> AnyResponse | None:
    """The owner alone, and from forms only those of these pages."""
    g.session = signing().session()
    is_form = request.method == "POST"
    if request.endpoint != "review.enter" and not g.session.key:
        if is_form or request.endpoint == "review.whole":
            raise SignedOut
        return redirect(url_for("review.enter"), 303)
    if is_form and signing().has_cookie():
        signing().check_form(g.session)
    return None


@review.after_request
def _keep_out_of_caches(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


@review.route("/sign-in", methods=["GET", "POST"])
def enter() -> AnyResponse:
    """The form for the key."""
    if request.method == "POST":
        if not signing().has_cookie():
            return _form(g.session, t("review.no_cookie"), 403)
        session = signing().admit(request.form.get("key", ""))
        if session:
            response: AnyResponse = redirect(url_for("review.show"), 303)
            signing().keep(session, response)
            return response
        return _form(g.session, t("review.wrong_key"), 403)
    if g.session.key:
        return redirect(url_for("review.show"), 303)
    return _form(g.session)


def _form(session: Session, problem: str = "", status: int = 200) -> Response:
    page = render_template("sign_in.html", token=signing().token(session), problem=problem)
    response = make_response(page, status)
    signing().keep(session, response)
    return response


@review.post("/sign-out")
def sign_out() -> AnyResponse:
    """Ends the session, and all others of the same key."""
    signing().end(g.session)
    response = redirect(url_for("review.enter"), 303)
    signing().forget(response)
    return response


@dataclass(frozen=True)
class View:
    """What the address asks for: a tab, a model, a label of a form (all if ""), a page from 1."""

    tab: str
    model: str
    label: str
    page: int
    apart: bool  # near copies one by one

    @classmethod
    def asked_for(cls) -> View:
        """That of the request; what is none becomes the first or all of its kind."""
        asked = request.args
        tab = asked.get("tab", "")
        return cls(
            tab if tab in TABS else TABS[0],
            asked.get("model", ""),
            asked.get("label", ""),
            max(1, asked.get("page", 1, int)),
            bool(asked.get("apart")),
        )

    def address(self, endpoint: str = "review.show", **changes: Any) -> str:
        """That of this view, or of one that differs in some fields."""
        view = replace(self, **changes)
        values: dict[str, Any] = {"tab": view.tab, "model": view.model, "label": view.label}
        values |= {"page": view.page if view.page > 1 else "", "apart": "1" if view.apart else ""}
        given = {name: value for name, value in values.items() if value}
        return url_for(endpoint, **given)


@dataclass(frozen=True)
class Group:
    """Near copies: the numbers of their reports, the first one's report, the label they share."""

    ids: list[int]
    first: Report
    label: str | None

    @property
    def value(self) -> str:
        """The label in a form."""
        return in_form(self.label)

    @property
    def shown(self) -> str | None:
        """The numbers of near copies that the page of the report shows."""
        return ",".join(map(str, self.ids[:SHOWN])) if len(self.ids) > 1 else None


@review.get("")
def show() -> str:
    """The grid of a tab."""
    view = View.asked_for()
    counts = database().counts()
    names = _models(counts, view.tab)
    if view.model not in names and names:
        preferred = current_app.config["DEFAULT_MODEL"]
        best = max(names, key=lambda name: (names[name] > 0, name == preferred, names[name]))
        view = replace(view, model=best)
    tabs = _tabs(counts, view.model)
    status, kind = _queue(view.tab)
    rows = database().queue(view.model, status, kind, MOST)
    choices = _choices(view.model, rows)
    of_labels = Counter(in_form(_label(row)) for row in rows)
    if view.label:
        rows = [row for row in rows if in_form(_label(row)) == view.label]
    order = {value: place for place, (value, _, _) in enumerate(choices)}
    if view.tab != "unsure":  # those are by entropy
        rows = sorted(rows, key=lambda row: order[in_form(_label(row))])
    groups = alike(rows, -1 if view.apart else ALIKE)
    last = max(1, -(-len(groups) // EACH))
    view = replace(view, page=min(view.page, last))
    part = groups[EACH * (view.page - 1) : EACH * view.page]
    return render_template(
        "review.html",
        view=view,
        address=view.address,
        token=signing().token(g.session),
        tabs=tabs,
        models=names,
        task=_task(view.model),
        labels=[
            (value, label, of_labels[value]) for value, label, _ in choices if of_labels[value]
        ],
        choices=choices,
        sections=_sections(_groups(part), of_labels, by_label=view.tab != "unsure"),
        last=last,
        source=source,
        most_word=MOST_WORD,
        accepted=tabs["accepted"],
        update=_told_of_update(tabs["accepted"], view.model),
    )


@review.get("/<int:number>")
def report(number: int) -> str:
    """A report by itself, and its near copies."""
    named = request.args.get("alike", "")
    found = {each.id: each for each in database().reports([number, *_numbers(named.split(","))])}
    if number not in found:
        abort(404)
    one = found.pop(number)
    return render_template(
        "reported.html",
        one=one,
        task=_task(one.model),
        copies=[one, *found.values()] if found else [],
        source=source,
    )


@review.get("/<int:number>/picture.png")
def picture(number: int) -> Response:
    """What the network saw."""
    found = database().report(number)
    if found is None:
        abort(404)
    return Response(found.picture, mimetype="image/png")


@review.get("/<int:number>/whole.jpg")
def whole(number: int) -> Response:
    """The whole picture, made anew: nothing of the file that was sent but what it shows."""
    content = database().whole(number)
    if content is None:
        abort(404)
    image = decode(content, current_app.config["MAX_PIXELS"]).image.convert("RGB")
    image.thumbnail((WIDE, WIDE))
    image.info.clear()  # Pillow would write the file's own comment again
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return Response(buffer.getvalue(), mimetype="image/jpeg")


@review.post("/decide")
def decide() -> AnyResponse:
    """Does what the form says with the reports that it names."""
    numbers = _numbers(",".join(request.form.getlist("ids")).split(","))
    action = request.form.get("action", "")
    if not numbers:
        raise BadParameter(t("review.choose_first"))
    if action == "accept":
        database().decide(numbers, "accepted")  # each with the label that was said
    elif action == "relabel":
        database().decide(numbers, "accepted", _given_label())
    elif action in ("reject", "new"):
        database().decide(numbers, "rejected" if action == "reject" else "new")
    elif action == "delete":
        if not request.form.get("sure"):
            raise BadParameter(t("review.not_sure"))
        database().delete(numbers)
    else:
        raise BadParameter(f"The form's action is {action!r}. Load the page anew.")
    view = View.asked_for()
    if request.accept_mimetypes.best_match(["text/html", "application/json"]) == "text/html":
        return redirect(view.address(), 303)
    counts = database().counts()
    told = _told_of_update(_tabs(counts, view.model)["accepted"], view.model)
    return jsonify(tabs=_tabs(counts, view.model), update=told)


def _told_of_update(accepted: int, model: str) -> str:
    """What an update of the model would learn from."""
    return t("review.update_text", count=accepted, model=model)


def _given_label() -> str | None:
    """The label that the form gives; raises `BadParameter` for one that is none."""
    value = request.form.get("label", "")
    if value == NONE:
        return None
    given = request.form.get("word", "") if value == "word" else value.removeprefix(WORD)
    label = " ".join(given.split())
    if not 0 < len(label) <= MOST_WORD or not label.isprintable():
        raise BadParameter(t("review.no_word", most=MOST_WORD))
    return label


def _numbers(texts: Iterable[str]) -> list[int]:
    return [int(text) for text in texts if text.isascii() and text.isdigit() and len(text) < 19]


def in_form(label: str | None) -> str:
    """A label as the value of a form's field."""
    return NONE if label is None else WORD + label


def _label(row: Outline) -> str | None:
    """What review decided, or else was said; of an unsure answer without either, the answer."""
    if row.status == "accepted":
        return row.label
    return row.predicted if row.kind == "unsure" and row.said is None else row.said


def alike(rows: Sequence[Outline], most: int) -> list[list[Outline]]:
    """The rows in groups of one label and of hashes that differ from the first's in `most` bits.

    A group stands where its first row stood.
    """
    of_label: dict[str | None, list[Outline]] = {}
    for row in rows:
        of_label.setdefault(_label(row), []).append(row)
    groups: dict[int, list[Outline]] = {}
    for same in of_label.values():
        hashes = np.array([row.likeness for row in same], np.uint64)
        left = np.ones(len(same), bool)
        for place, row in enumerate(same):
            if left[place]:
                near = left & (np.bitwise_count(hashes ^ hashes[place]) <= most)
                near[place] = True
                left &= ~near
                groups[row.id] = [same[each] for each in np.flatnonzero(near)]
    return [groups[row.id] for row in rows if row.id in groups]


def source(report: Report) -> str:
    """The address of what the network saw: within the page if it is small."""
    if len(report.picture) > SMALL:
        return url_for("review.picture", number=report.id)
    return f"data:image/png;base64,{base64.b64encode(report.picture).decode()}"


def _queue(tab: str) -> tuple[Status, Kind | None]:
    """The status and the kind of a tab's reports, no kind for all."""
    if tab == "unsure":
        return "new", "unsure"
    return ("new", "report") if tab == "new" else (cast("Status", tab), None)


def _tab(count: Count) -> str:
    return "unsure" if (count.status, count.kind) == ("new", "unsure") else count.status


def _tabs(counts: Iterable[Count], model: str) -> dict[str, int]:
    """How many reports of a model each tab has."""
    found = Counter(dict.fromkeys(TABS, 0))
    for count in counts:
        if count.model == model:
            found[_tab(count)] += count.count
    return found


def _models(counts: Iterable[Count], tab: str) -> dict[str, int]:
    """The models of which there are reports, and how many in a tab."""
    found: Counter[str] = Counter()
    for count in counts:
        found[count.model] += count.count if _tab(count) == tab else 0
    return dict(sorted(found.items()))


def _task(model: str) -> str:
    """The task of a model; "" if it is not served any more."""
    found = models().ready.get(model)
    return found.card.task if found else ""


def _choices(model: str, rows: Iterable[Outline]) -> list[tuple[str, str | None, str]]:
    """The labels to choose from, as (value in a form, label, key or ""): a model's, other words
    that were said, and none of these.
    """
    found = models().ready.get(model)
    labels = list(found.card.labels) if found else []
    words = sorted({label for row in rows if (label := _label(row)) is not None} - {*labels})
    digits = all(label in DIGITS for label in labels)  # each its own key; else by its place
    choices: list[tuple[str, str | None, str]] = [
        (in_form(label), label, label if digits else str(place) if place < 10 else "")
        for place, label in enumerate(labels, 1)
    ]
    choices += [(in_form(word), word, "") for word in words]
    return [*choices, (NONE, None, "n")]


def _sections(
    groups: Iterable[Group], counts: Mapping[str, int], *, by_label: bool
) -> list[tuple[str | None, int, list[Group]]]:
    """The groups of each label, and how many reports of it the tab has; or all in one."""
    found: dict[str | None, list[Group]] = {}
    for group in groups:
        found.setdefault(group.label if by_label else None, []).append(group)
    return [(label, counts[in_form(label)], part) for label, part in found.items()]


def _groups(parts: Sequence[Sequence[Outline]]) -> list[Group]:
    """The groups of rows with the report that each shows."""
    firsts = {each.id: each for each in database().reports([rows[0].id for rows in parts])}
    return [
        Group([row.id for row in rows], firsts[rows[0].id], _label(rows[0]))
        for rows in parts
        if rows[0].id in firsts  # it may have been withdrawn meanwhile
    ]

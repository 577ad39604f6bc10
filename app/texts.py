"""The pages' texts, one JSON file per language in app/languages, and the language of a request.

A text is a string, or {"one": …, "other": …} to choose from by `count`. In it `{name}` stands for a
value. A key that ends in `_html` holds markup; every other text is plain and gets escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any
from urllib.parse import quote, urlencode

from flask import Flask, Response, g, has_app_context, request
from markupsafe import Markup

Text = str | dict[str, str]
Catalogue = dict[str, Text]

FOLDER = Path(__file__).with_name("languages")
DEFAULT = "en"  # for readers of other languages, and for commands
NO_BREAK = "\u00a0"


def load(folder: Path) -> dict[str, Catalogue]:
    """The catalogues by language, the default one first; raises `ValueError` if they differ."""
    names = sorted((file.stem for file in folder.glob("*.json")), key=lambda name: name != DEFAULT)
    found = {name: json.loads((folder / f"{name}.json").read_text("utf-8")) for name in names}
    for name, catalogue in found.items():
        _check(name, catalogue, found[DEFAULT])
    return found


def _check(language: str, catalogue: Catalogue, model: Catalogue) -> None:
    if odd := catalogue.keys() ^ model.keys():
        raise ValueError(f"{DEFAULT}.json and {language}.json must both hold {min(odd)}")
    for key, text in catalogue.items():
        told, known = forms(text), forms(model[key])
        if told.keys() != known.keys():
            raise ValueError(f"{language}.json: {key} must have the forms of {DEFAULT}.json")
        for form, sentence in told.items():
            odd = placeholders(sentence) ^ placeholders(known["other"])
            if odd - ({"count"} if form == "one" else set()):
                raise ValueError(f"{language}.json: {key} must have the values of {DEFAULT}.json")


def forms(text: Text) -> dict[str, str]:
    """The forms of a text by their name, "other" if it has only one."""
    return text if isinstance(text, dict) else {"other": text}


def placeholders(text: str) -> set[str]:
    """The names of the values that a text takes."""
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


LANGUAGES = load(FOLDER)


def register(app: Flask) -> None:
    """Makes `app` choose a language for each request and use it in templates."""
    app.before_request(_choose)
    app.after_request(_tell)
    app.jinja_env.globals.update(
        t=t,
        named=named,
        of_task=of_task,
        described=described,
        said=said,
        language=language,
        languages=languages,
        texts=texts,
    )
    app.jinja_env.filters.update(number=number, percent=percent, points=points, label=label)


def _choose() -> None:
    asked = request.args.get("lang")
    g.chosen_language = asked if asked in LANGUAGES else None
    liked = request.accept_languages.best_match(LANGUAGES, DEFAULT)
    g.language = g.chosen_language or liked


def _tell(response: Response) -> Response:
    if response.mimetype == "text/html":
        response.headers["Content-Language"] = language()
        response.vary.add("Accept-Language")
    return response


def keep_language(endpoint: str, values: dict[str, Any]) -> None:
    """For `url_defaults` of a blueprint of pages: keeps a requested language in links."""
    if chosen := g.get("chosen_language"):
        values.setdefault("lang", chosen)


def language() -> str:
    """The language of the request; the default one outside of requests."""
    return g.get("language", DEFAULT) if has_app_context() else DEFAULT


def languages() -> list[tuple[str, str, str]]:
    """Every language: its tag, its own name, and the link to this page in it."""
    # One slash alone: two would begin the address of another host.
    here = f"{request.script_root}/{quote(request.path.lstrip('/'))}"
    asked = request.args.to_dict(flat=False)
    queries = {tag: urlencode({**asked, "lang": tag}, doseq=True) for tag in LANGUAGES}
    return [
        (tag, str(catalogue["language.name"]), f"{here}?{queries[tag]}")
        for tag, catalogue in LANGUAGES.items()
    ]


def t(key: str, **values: object) -> str:
    """The text of `key` in the request's language; markup, with the values escaped, for `_html`."""
    text = LANGUAGES[language()][key]
    if isinstance(text, dict):
        text = text["one" if values["count"] == 1 else "other"]
    shown = {name: number(it) if type(it) is int else it for name, it in values.items()}
    return (Markup(text) if key.endswith("_html") else text).format(**shown)


def named(family: str, name: str, otherwise: str) -> str:
    """The text of `family.name`, where `name` comes from data; `otherwise` if there is none."""
    text = LANGUAGES[language()].get(f"{family}.{name}")
    return text if isinstance(text, str) else otherwise


def of_task(task: str, key: str, **values: object) -> str:
    """The text of `key` for a task; that of the task `image` if it has none."""
    own = f"task.{task}.{key}"
    return t(own if own in LANGUAGES[language()] else f"task.image.{key}", **values)


def described(name: str, description: str) -> tuple[str, str]:
    """A shipped model's description in the request's language, any other's own; and which it is."""
    if LANGUAGES[DEFAULT].get(f"description.{name}") != description:
        return description, DEFAULT
    return named("description", name, description), language()


def said(sentence: str) -> str:
    """What `/openapi.json` says in English, in the request's language; as it is if it has no text.

    The text is the one of the family `api` whose English is the sentence.
    """
    sentence = plain(sentence)
    for name, pattern in _api().items():
        if found := pattern.fullmatch(sentence):
            values = found.groupdict()
            shown = {key: number(int(it)) if it.isdigit() else it for key, it in values.items()}
            return named("api", name, sentence).format(**shown)
    return sentence


@cache
def _api() -> dict[str, re.Pattern[str]]:
    """How to know what `/openapi.json` says: a pattern for each text of the family `api`."""
    family = {key: str(text) for key, text in LANGUAGES[DEFAULT].items() if key.startswith("api.")}
    return {
        key.removeprefix("api."): re.compile(
            "".join(
                re.escape(part) + (f"(?P<{name}>.+?)" if name else "")
                for part, name, _, _ in Formatter().parse(text)
            )
        )
        for key, text in family.items()
    }


def plain(text: str) -> str:
    """A text of the code on one line, with typographic apostrophes, and quotes for backticks."""
    return re.sub("`+([^`]+)`+", r"“\1”", " ".join(text.split())).replace("'", "’")


def label(name: str) -> str:
    """A label as pages show it; the API's own if it is unknown."""
    return named("label", name, name)


def texts(*families: str) -> Mapping[str, Text]:
    """The texts whose keys begin with one of `families`, for a page's scripts."""
    catalogue, beginnings = LANGUAGES[language()], tuple(f"{each}." for each in families)
    return {key: text for key, text in catalogue.items() if key.startswith(beginnings)}


def number(value: float, digits: int = 0, *, signed: bool = False) -> str:
    """A number in the language's format, with thousands separators."""
    form = ",d" if isinstance(value, int) and not digits else f",.{digits}f"
    signs = str.maketrans({",": t("number.group"), ".": t("number.decimal"), "-": "−"})
    return format(value, f"{'+' if signed else ''}{form}").translate(signs)


def percent(share: float, digits: int = 2) -> str:
    """A share of 0..1 as a percentage: 0.9966 is 99.66 %."""
    return f"{number(100 * share, digits)}{NO_BREAK}%"


def points(difference: float) -> str:
    """A difference of shares in percentage points, signed."""
    return number(100 * difference, 2, signed=True) if round(100 * difference, 2) else "0"

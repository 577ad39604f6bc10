"""The pages' texts: every one in every language, and which language a request gets."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from samples import ByInk, ByLight, card, face_card, script

import tasks
from app import charts, create_app, texts
from model_store import ROOT, read_card, save

TOP = Path(__file__).resolve().parent.parent
BROWSER = {"Accept": "text/html,*/*;q=0.8"}
GERMAN = {**BROWSER, "Accept-Language": "de-AT,de;q=0.9,en;q=0.8"}
PATHS = [
    "/",
    "/faces",
    "/inside",
    "/batch",
    "/docs",
    "/models",
    "/models/digits",
    "/models/emotions",
    "/models/broken",
    "/models/compare",
    "/models/compare?a=digits&b=emotions",
    "/models/compare?a=digits&b=digits",
    "/nothing-here",
    "/models/cats",
]
KEY = re.compile(r"""\bt\(\s*["']([\w.-]+)["']""")
OF_TASK = re.compile(r"""\bof_task\([\w.]+, ["'](\w+)["']""")
OF_BENCH = re.compile(r"""\bfamily ~ ["'](\.\w+)["']""")
BENCH = re.compile(r"""set family = ["'](\w+)["']""")
FAMILY = re.compile(r"""\bnamed\(\s*["']([\w-]+)["']""")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """The app with shipped models, and one that is broken."""
    shelf = tmp_path_factory.mktemp("shelf")
    for name in ("digits", "digits-baseline", "emotions"):
        (shelf / name).symlink_to(ROOT / name)
    save(script(ByInk()), card("broken"), shelf / "broken")
    (shelf / "broken" / "model.pt").write_bytes(b"none")
    return create_app({"MODEL_STORE": str(shelf)}).test_client()


@pytest.fixture
def bare(tmp_path):
    """The app without a model."""
    return create_app({"MODEL_STORE": str(tmp_path)}).test_client()


# The catalogues.


def sources(*patterns):
    files = [file for pattern in patterns for file in sorted(TOP.glob(pattern))]
    return {file: file.read_text("utf-8") for file in files}


def test_every_text_is_used_and_every_text_used_is_there():
    code = "\n".join(sources("app/*.py", "templates/*.html", "static/js/*.js").values())
    families = {f"{family}." for family in FAMILY.findall(code)}
    used = {*KEY.findall(code), "language.name"}
    used |= {bench + key for bench in BENCH.findall(code) for key in OF_BENCH.findall(code)}
    known = texts.LANGUAGES["en"].keys()
    for key in OF_TASK.findall(code):
        assert f"task.image.{key}" in known
        used |= {f"task.{task}.{key}" for task in tasks.names()}
    assert used - known == set()
    unused = {key for key in known - used if not key.startswith(tuple(families))}
    assert unused == set()
    assert all(any(key.startswith(family) for key in known) for family in families)


def modules(name):
    """The scripts that a script loads, itself among them."""
    code = (TOP / "static" / "js" / name).read_text("utf-8")
    found = {name: code}
    for inner in re.findall(r'from "\./([\w-]+\.js)"', code):
        found |= {} if inner == "texts.js" else modules(inner)
    return found


@pytest.mark.parametrize("page", sources("templates/*.html"), ids=lambda file: file.stem)
def test_a_page_gives_its_scripts_the_texts_that_they_use(page):
    html = page.read_text("utf-8")
    given = re.search(r"\{\{ texts\((.*?)\)\|tojson \}\}", html)
    families = re.findall(r'"([\w.-]+)"', given[1]) if given else []
    entries = re.findall(r"<script[^>]*filename='js/([\w-]+\.js)'", html)
    code = "\n".join("\n".join(modules(entry).values()) for entry in entries)
    needed = {key.rpartition(".")[0] for key in KEY.findall(code)} | set(FAMILY.findall(code))
    needed |= {"label"} if "labelled(" in code else set()
    assert needed == set(families)


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_quotes_and_apostrophes_are_typographic(language):
    for key, text in texts.LANGUAGES[language].items():
        for form in texts.forms(text).values():
            assert not re.search("[\"'`]", form), key
            assert form == form.strip(), key
            assert "<" not in form or key.endswith("_html"), key


def test_german_says_du_and_has_its_own_quotes():
    for key, text in texts.LANGUAGES["de"].items():
        for form in texts.forms(text).values():
            assert form.count("„") == form.count("“") and "”" not in form, key
            assert not re.search(r"(?<=[\w,] )(Sie|Ihnen|Ihre?\w?)\b", form), key


ODD = {
    "a text too few": ({"a": "x", "b": "y"}, {"a": "x"}, "both hold b"),
    "a text too many": ({"a": "x"}, {"a": "x", "b": "y"}, "both hold b"),
    "another value": ({"a": "{x}"}, {"a": "{y}"}, "values"),
    "no forms": ({"a": {"one": "x", "other": "{count}"}}, {"a": "{count}"}, "forms"),
    "a value lost": (
        {"a": {"one": "x", "other": "{count} {y}"}},
        {"a": {"one": "x", "other": "{count} {y}"}},
        "values",
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_languages_that_differ_are_told_at_the_start(tmp_path, case):
    english, other, told = ODD[case]
    (tmp_path / "en.json").write_text(json.dumps(english))
    (tmp_path / "fr.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match=told):
        texts.load(tmp_path)


# Which language.


@pytest.mark.parametrize(
    ("headers", "query", "language"),
    [
        ({}, "", "en"),
        ({"Accept-Language": "de"}, "", "de"),
        ({"Accept-Language": "de-CH"}, "", "de"),
        ({"Accept-Language": "fr,de;q=0.5"}, "", "de"),
        ({"Accept-Language": "fr"}, "", "en"),
        ({"Accept-Language": "en-US,en;q=0.9,de;q=0.8"}, "", "en"),
        ({"Accept-Language": "*;q=0,;;;"}, "", "en"),
        ({"Accept-Language": "de"}, "?lang=en", "en"),
        ({}, "?lang=de", "de"),
        ({"Accept-Language": "de"}, "?lang=tlh", "de"),
        ({}, "?lang=../de", "en"),
    ],
)
def test_the_language_is_what_is_asked_for(client, headers, query, language):
    for path in ("/", "/nothing-here"):
        response = client.get(path + query, headers={**BROWSER, **headers})
        assert f'<html lang="{language}">' in response.text
        assert response.headers["Content-Language"] == language
        assert "Accept-Language" in response.vary
        assert "Set-Cookie" not in response.headers


def test_the_api_stays_as_it_is(client, png):
    plain = client.post("/api/predict?lang=de", data=b"x", headers={"Content-Type": "image/png"})
    german = client.post("/api/predict", data=b"x", headers={**GERMAN, "Content-Type": "image/png"})
    assert plain.json == german.json
    assert "not an image" in german.json["detail"]
    assert "Content-Language" not in german.headers and "Accept-Language" not in german.vary


def test_a_language_that_was_chosen_stays_in_the_links_of_pages(client):
    page = client.get("/models/compare?a=digits&b=emotions&lang=de").text
    for link in ("/?lang=de", "/faces?lang=de", "/models?lang=de", "/models/digits?lang=de"):
        assert f'href="{link}"' in page
    assert '<input type="hidden" name="lang" value="de">' in page
    assert 'href="/models/compare?a=digits&amp;b=emotions&amp;lang=en"' in page
    assert not re.search(r'(src|href)="/static/[^"]*lang=', page)
    draws = client.get("/?lang=de").text
    assert "/api/predict?model=digits&amp;seen=true" in draws


def test_a_language_of_the_browser_needs_no_place_in_links(client):
    page = client.get("/models", headers=GERMAN).text
    assert 'href="/faces"' in page and 'href="/models?lang=en"' in page
    assert 'name="lang"' not in client.get("/models/compare", headers=GERMAN).text


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", '/"><b>'])
def test_the_links_to_languages_stay_on_the_host(client, path):
    page = client.get("/", headers=BROWSER, environ_overrides={"PATH_INFO": path}).text
    links = re.findall(r'<a href="([^"]*)" lang=', page)
    assert len(links) == len(texts.LANGUAGES)
    assert all(re.match(r"/[\w%]", link) for link in links) and "<b>" not in page


def test_two_requests_do_not_share_a_language(client):
    with client.application.app_context():
        assert 'lang="de"' in client.get("/?lang=de").text
        assert '<html lang="en">' in client.get("/").text


# What is said in it.


def test_numbers_are_written_as_the_language_does(client):
    german, english = (client.get("/models/digits", headers=each).text for each in (GERMAN, {}))
    told = read_card(ROOT / "digits")
    accuracy = charts.percent(told.metrics["test_accuracy"])
    count = f"{told.parameters:,}"
    assert accuracy in english and count in english
    assert accuracy.replace(".", ",") in german and count.replace(",", ".") in german
    assert accuracy not in german and count not in german
    with client.application.test_request_context("/?lang=de"):
        client.application.preprocess_request()
        assert texts.points(-0.0125) == "−1,25"
        assert texts.number(1234567.891, 2) == "1.234.567,89"
        assert texts.number(10**30) == "1" + ".000" * 10
        assert texts.of_task("digit", "count", count=1) == "1 Ziffer"
        assert texts.of_task("digit", "count", count=1000) == "1.000 Ziffern"


def test_labels_have_names_and_the_card_says_the_apis_too(client):
    page = client.get("/models/emotions", headers=GERMAN).text
    classes = re.search(r'<table[^>]* data-testid="classes">.*?</table>', page, re.S)[0]
    assert (
        '<th scope="row">Freude</th>' in classes and "happy" not in page.split("Freude (happy)")[0]
    )
    assert "happy" not in page.split("Freude (happy)")[1]
    assert "Freude" not in client.get("/models/emotions").text
    faces = client.get("/faces", headers=GERMAN).text
    assert '<tr data-label="happy">' in faces and '<th scope="row">Freude</th>' in faces


def test_a_label_that_nobody_translated_is_shown_as_it_is(tmp_path):
    save(script(ByLight()), face_card(), tmp_path / "emotions")
    client = create_app({"MODEL_STORE": str(tmp_path)}).test_client()
    assert '<th scope="row">dark</th>' in client.get("/faces", headers=GERMAN).text


def test_a_cards_own_texts_stay_english_and_say_so(client):
    told = read_card(ROOT / "digits")
    page = client.get("/models/digits", headers=GERMAN).text
    assert all(f'<li lang="en">{limit}</li>' in page for limit in told.limits)


def test_values_in_markup_are_escaped(client):
    with client.application.test_request_context("/"):
        told = texts.t("faces.no_model_html", name="<script>")
    assert "<script>" not in told and "&lt;script&gt;" in told and "<code>" in told


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/nothing-here", ("Nicht gefunden", "Diese Seite gibt es nicht", "There is no page")),
        ("/models/cats", ("Unbekanntes Modell", "Ein Modell dieses Namens", "no model of that")),
    ],
)
def test_a_problem_is_told_in_the_pages_language_with_ways_on(client, path, told):
    title, sentence, detail = told
    page = client.get(path, headers=GERMAN).text
    assert f"<h1>{title}</h1>" in page
    assert sentence in page
    assert detail not in page
    assert all(f'<a class="button" href="{way}">' in page for way in ("/", "/faces", "/models"))
    english = client.get(path, headers=BROWSER).text
    assert detail in english and sentence not in english


def test_a_problem_without_words_of_ours_has_general_ones(client, monkeypatch):
    monkeypatch.delitem(texts.LANGUAGES["de"], "problem.not-found")
    monkeypatch.delitem(texts.LANGUAGES["de"], "page-problem.not-found")
    monkeypatch.delitem(texts.LANGUAGES["de"], "problem-title.not-found")
    page = client.get("/nothing-here", headers=GERMAN).text
    assert "<h1>Fehler</h1>" in page and "Der Server konnte" in page


# A language that shows what is not translated.


class Visible(HTMLParser):
    """What people see or hear of a page, but for code and what is marked as of another language."""

    SAID = frozenset({"alt", "aria-label", "data-alt", "placeholder", "title"})
    VOID = frozenset({"br", "img", "input", "link", "meta"})

    def __init__(self, page):
        super().__init__()
        self.found, self.stack = [], []
        self.feed(page)
        assert self.stack == []

    def handle_starttag(self, tag, attributes):
        names = dict(attributes)
        hidden = (
            tag in ("code", "script")
            or names.get("lang", "xx") != "xx"
            or names.get("translate") == "no"
        )
        if tag == "meta" and names.get("name") == "description":
            self.found.append(names["content"])
        if tag not in self.VOID:
            self.stack.append(hidden or bool(self.stack and self.stack[-1]))
        if not (self.stack and self.stack[-1]):
            self.found += [names[name] for name in self.SAID & names.keys()]

    def handle_endtag(self, tag):
        self.stack.pop()

    def handle_data(self, data):
        if not (self.stack and self.stack[-1]):
            self.found.append(data)


PROPER = {
    "Glimpse",
    "TorchScript",
    "ONNX",
    "JSON",
    "MB",
    "kB",
    "curl",
    "Python",
    "JavaScript",
    "broken",
}


def data_of(told):
    """The words that pages take from a card as they are."""
    parts = [told.recipe, *(told.recipe.get(part, {}) for part in ("network", "optimiser"))]
    names = [part["name"] for part in (*parts, told.data) if "name" in part]
    libraries = [f"{name} {version}" for name, version in told.libraries.items()]
    return {told.name, told.version, told.date, *told.labels, *libraries, *names}


@pytest.fixture
def pseudo(monkeypatch):
    """A language whose every text stands in brackets; a query that asks for it."""

    def wrapped(text):
        return f"⟦{text}⟧"

    catalogue = {
        key: text
        if key.startswith("number.")
        else {form: wrapped(told) for form, told in text.items()}
        if isinstance(text, dict)
        else wrapped(text)
        for key, text in texts.LANGUAGES["en"].items()
    }
    monkeypatch.setitem(texts.LANGUAGES, "xx", catalogue)
    return "lang=xx"


def left_over(page, data):
    text = "\n".join(" ".join(each.split()) for each in Visible(page).found)
    while "⟦" in text:
        text, count = re.subn("⟦[^⟦⟧]*⟧", "", text)
        assert count, text
    for word in sorted(data, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "", text)
    return [line.strip() for line in text.splitlines() if re.search(r"[^\W\d_]", line)]


@pytest.mark.parametrize("path", PATHS)
def test_no_text_of_a_page_is_outside_the_catalogue(client, pseudo, path):
    page = client.get(f"{path}{'&' if '?' in path else '?'}{pseudo}", headers=BROWSER).text
    assert '<html lang="xx">' in page
    cards = [read_card(ROOT / name) for name in ("digits", "digits-baseline", "emotions")]
    data = set().union(*map(data_of, cards))
    assert left_over(page, data | PROPER) == []


@pytest.mark.parametrize("path", ["/faces", "/batch", "/models", "/models/compare"])
def test_no_text_of_an_empty_server_is_outside_the_catalogue(bare, pseudo, path):
    assert left_over(bare.get(f"{path}?{pseudo}", headers=BROWSER).text, PROPER) == []


def test_a_text_outside_the_catalogue_is_seen(client, pseudo):
    page = client.get(f"/?{pseudo}").text
    assert left_over(page.replace("<h1>", "<h1>Left "), PROPER) == ["Left"]
    assert left_over(page.replace('alt="⟦', 'alt="Forgotten ⟦', 1), PROPER) == ["Forgotten"]


def test_a_shipped_model_is_described_in_the_pages_language_and_any_other_in_its_own_words(client):
    page = client.get("/models/digits-baseline", headers=GERMAN).text
    assert '<p class="lead" lang="de">MNIST wie veröffentlicht' in page
    assert texts.described("digits", "Mine.") == ("Mine.", "en")

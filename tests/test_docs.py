"""`/docs` shows all that `/openapi.json` says."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from app import create_app, texts
from app.pages import pretty


class Reader(HTMLParser):
    """The ids, links and text of a page."""

    def __init__(self, page):
        super().__init__()
        self.ids, self.links, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        assert not set(given) & {"style", "onclick"}, "the security policy forbids it"
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "a":
            self.links.append(given["href"])

    def handle_data(self, text):
        self.text += text


@pytest.fixture
def page(client):
    return Reader(client.get("/docs").text)


@pytest.fixture
def document(client):
    return client.get("/openapi.json").get_json()


def test_every_operation_is_shown_with_its_parameters_and_answers(page, document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["operationId"] in page.ids
            assert f"#{operation['operationId']}" in page.links
            assert path in page.text and method.upper() in page.text
            texts = [each["description"] for each in operation.get("parameters", [])]
            texts += [each["description"] for each in operation["responses"].values()]
            texts += operation.get("requestBody", {}).get("content", {})
            assert all(text in page.text for text in [operation["summary"], *texts])


def test_every_kind_of_problem_is_shown(page, document):
    kinds = re.findall(r"urn:glimpse:problem:[a-z-]+", str(document["paths"]))
    assert len(set(kinds)) == 16
    assert all(kind in page.text for kind in kinds)


def test_every_schema_is_shown_with_its_properties(page, document):
    for name, schema in document["components"]["schemas"].items():
        assert f"schema-{name}" in page.ids
        assert all(each in page.text for each in schema["properties"])


def sentences(part):
    """What a part of the document says to people."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key in ("description", "summary") and isinstance(value, str):
                yield value
            elif key not in ("example", "examples"):
                yield from sentences(value)
    elif isinstance(part, list):
        for each in part:
            yield from sentences(each)


def test_all_that_the_document_says_is_a_text_and_shown_in_german(client, document, monkeypatch):
    page = " ".join(Reader(client.get("/docs?lang=de").text).text.split())
    keys = {key for key in texts.LANGUAGES["en"] if key.startswith("api.")}
    said = [*sentences(document), *(tag["name"] for tag in document["tags"])]
    with client.application.test_request_context("/docs?lang=de"):
        client.application.preprocess_request()
        assert all(texts.said(each) in page for each in said)
        by_key = {**texts.LANGUAGES["de"], **{key: key for key in keys}}
        monkeypatch.setitem(texts.LANGUAGES, "de", by_key)
        assert {texts.said(each) for each in said} == keys


def test_numbers_in_what_the_document_says_are_written_as_the_language_does(client):
    pixels = client.application.config["MAX_PIXELS"]
    assert f"darf {pixels:,} Pixel".replace(",", ".") in client.get("/docs?lang=de").text
    assert f"may have {pixels:,} pixels" in client.get("/docs").text


def test_no_link_leads_nowhere_and_no_id_is_there_twice(page):
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_the_field_for_a_key_is_there_where_the_server_asks_for_keys(store, client):
    asking = create_app({"MODEL_STORE": str(store), "API_KEYS": "0" * 64}).test_client()
    assert "data-stays" in asking.get("/docs").text
    assert "key-input" not in client.get("/docs").text


def test_the_page_is_there_without_a_model(tmp_path):
    assert create_app({"MODEL_STORE": str(tmp_path)}).test_client().get("/docs").status_code == 200


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, None, "x"]}, '{"a": [1, null, "x"]}'),
        ({}, "{}"),
        ({"a": "x y" * 40, "b": 1}, '{\n  "a": "' + "x y" * 40 + '",\n  "b": 1\n}'),
        ("x" * 200, '"' + "x" * 48 + '… 200 characters"'),
        ([0] * 784, "[0, 0, 0, 0, 0, 0, 0, 0, … 784 in all]"),
    ],
)
def test_json_is_laid_out_for_people(value, text):
    assert pretty(value) == text

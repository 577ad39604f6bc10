"""`/docs` shows all that `/openapi.json` says."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from app import create_app
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
    assert len(set(kinds)) == 11
    assert all(kind in page.text for kind in kinds)


def test_every_schema_is_shown_with_its_properties(page, document):
    for name, schema in document["components"]["schemas"].items():
        assert f"schema-{name}" in page.ids
        assert all(each in page.text for each in schema["properties"])


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

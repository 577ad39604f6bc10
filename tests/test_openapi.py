"""The published document says what the app does, and its examples are true."""

from __future__ import annotations

import jsonschema
import pytest
from samples import validate

from app import create_app
from tasks.problems import Problem

FOR_PEOPLE = ("models", "pages", "static")


@pytest.fixture
def document(client):
    return client.get("/openapi.json").get_json()


def operations(document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def test_every_route_for_programs_is_described_with_its_methods(app, document):
    served = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.endpoint.split(".")[0] not in FOR_PEOPLE
        for method in rule.methods & {"GET", "POST", "DELETE"}
    }
    assert {(path, method) for path, method, _ in operations(document)} == served


def test_every_operation_has_its_own_name_and_a_known_tag(document):
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    known = {tag["name"] for tag in document["tags"]}
    assert all(set(operation["tags"]) <= known for _, _, operation in operations(document))


def test_every_parameter_of_a_path_is_described(document):
    for path, _, operation in operations(document):
        described = {
            each["name"] for each in operation.get("parameters", []) if each["in"] == "path"
        }
        assert described == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def test_schemas_are_schemas(document):
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_example_keeps_to_its_schema(app, document):
    count = 0
    for _, _, operation in operations(document):
        sides = [operation.get("requestBody", {}), *operation["responses"].values()]
        for media in [media for side in sides for media in side.get("content", {}).values()]:
            named = [each["value"] for each in media.get("examples", {}).values()]
            for example in named + ([media["example"]] if "example" in media else []):
                validate(app, example, media["schema"])
                count += 1
    assert count > 30


def test_the_limits_of_pixels_are_told(app, document):
    told = document["paths"]["/api/predict"]["post"]["description"]
    assert f"{app.config['MAX_PIXELS']} pixels" in told
    assert f"together {app.config['MAX_PIXELS_IN_ALL']}" in told


def test_every_kind_of_problem_is_told_with_its_status(document):
    told = {
        (status, kind)
        for path in ("/api/predict", "/api/reports", "/api/reports/{code}")
        for operation in document["paths"][path].values()
        for status, response in operation["responses"].items()
        for kind in response["content"].get("application/problem+json", {}).get("examples", {})
    }
    places = ("app.errors", "tasks.problems")  # others are of pages alone
    kinds = {kind for kind in Problem.__subclasses__() if kind.__module__ in places}
    assert told == {(str(kind.status), kind.slug) for kind in kinds}


@pytest.mark.parametrize("path", ["/api/predict", "/models/{name}", "/v2/models/{name}/infer"])
def test_the_example_of_a_request_is_answered(app, client, document, path):
    content = document["paths"][path]["post"]["requestBody"]["content"]
    example = content["application/json"]["example"]
    response = client.post(path.replace("{name}", "digits"), json=example)
    assert response.status_code == 200
    schema = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]
    validate(app, response.get_json(), schema["schema"])


@pytest.fixture
def taking(store, tmp_path):
    """A client of an app that takes reports."""
    reports = f"sqlite:///{tmp_path}/reports.db"
    return create_app({"MODEL_STORE": str(store), "REPORTS": reports}).test_client()


def test_the_examples_of_reports_are_answered(app, taking, document):
    for path, status in (("/api/reports", "201"), ("/api/reports", "200")):
        operation = document["paths"][path]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        response = taking.post(path, json=example)
        assert str(response.status_code) == status, response.text
        described = operation["responses"][status]["content"]["application/json"]
        validate(app, response.get_json(), described["schema"])
    gone = taking.delete(f"/api/reports/{response.get_json()['code']}")
    validate(app, gone.get_json(), "Withdrawn")


def test_every_get_answers_as_described(app, client, document):
    for path, method, operation in operations(document):
        if method != "get":
            continue
        for parameter in operation.get("parameters", []):
            path = path.replace("{" + parameter["name"] + "}", parameter["example"])  # noqa: PLW2901
        response = client.get(path)
        described = operation["responses"][str(response.status_code)]
        assert response.mimetype in described["content"]
        if response.is_json:
            schema = described["content"]["application/json"]["schema"]
            validate(app, response.get_json(), schema)
        assert set(described["headers"]) <= set(response.headers.keys())


def test_an_unready_server_answers_as_described(tmp_path):
    app = create_app({"MODEL_STORE": str(tmp_path)})
    for path in ("/readyz", "/v2/health/ready"):
        response = app.test_client().get(path)
        assert response.status_code == 503
        document = app.test_client().get("/openapi.json").get_json()
        described = document["paths"][path]["get"]["responses"]["503"]
        validate(app, response.get_json(), described["content"]["application/json"]["schema"])


def test_a_problem_of_the_protocol_is_as_described(app, client):
    validate(app, client.get("/v2/models/none").get_json(), "ProtocolProblem")


def test_keys_are_asked_for_where_the_server_does(store, document):
    assert not any("security" in operation for _, _, operation in operations(document))
    asking = create_app({"MODEL_STORE": str(store), "API_KEYS": "0" * 64})
    document = asking.test_client().get("/openapi.json").get_json()
    guarded = {path for path, _, operation in operations(document) if "security" in operation}
    changing = {path for path, method, _ in operations(document) if method != "get"}
    assert guarded == changing - {"/v2/repository/index"}


def test_the_document_names_where_the_app_is_mounted(client):
    document = client.get("/openapi.json", environ_overrides={"SCRIPT_NAME": "/glimpse"}).get_json()
    assert document["servers"] == [{"url": "/glimpse"}]

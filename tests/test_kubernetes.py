"""The objects for Kubernetes fit its schemas, the image and the app."""

from __future__ import annotations

from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")
kubernetes_validate = pytest.importorskip("kubernetes_validate")

TOP = Path(__file__).resolve().parent.parent
OBJECTS = list(yaml.safe_load_all((TOP / "deploy" / "kubernetes" / "glimpse.yaml").read_text()))
BY_KIND = {each["kind"]: each for each in reversed(OBJECTS)}  # the first of each kind
POD = BY_KIND["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("found", OBJECTS, ids=lambda found: found["kind"])
def test_an_object_fits_its_schema(found, version):
    kubernetes_validate.validate(found, version, strict=True)


def test_a_wrong_object_does_not():
    wrong = {**BY_KIND["Service"], "spec": {"ports": [{"prt": 80}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.30", strict=True)


def test_all_select_the_same_pods():
    labels = POD["metadata"]["labels"]
    assert BY_KIND["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert BY_KIND["Service"]["spec"]["selector"] == labels
    assert BY_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert BY_KIND["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "glimpse"


def test_probes_ask_routes_of_the_app(client):
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert client.get(CONTAINER[probe]["httpGet"]["path"]).status_code == 200


def test_the_autoscaler_asks_for_what_the_adapter_makes():
    file = TOP / "deploy" / "kubernetes" / "prometheus-adapter.yaml"
    made = {rule["name"]["as"] for rule in yaml.safe_load(file.read_text())["rules"]["custom"]}
    asked = BY_KIND["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert {each["pods"]["metric"]["name"] for each in asked} == made


def test_nothing_is_kept_on_a_machine_and_nothing_runs_as_root():
    assert all("Memory" in str(volume["emptyDir"]) for volume in POD["spec"]["volumes"])
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"]
    assert POD["spec"]["securityContext"]["runAsNonRoot"]

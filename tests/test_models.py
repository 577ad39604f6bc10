"""Start-up: good checkpoints serve, and bad ones are named with their reason."""

from __future__ import annotations

import pytest
import torch
from samples import ByInk, card, encode, script, seven

from app import create_app
from model_store import save


class NotNumbers(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.full((pictures.size(0), 10), float("nan"))


class NotNumbersWhereThereIsInk(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        answer = torch.full((pictures.size(0), 10), 0.1)
        return answer * float("nan") if bool(pictures.max() > 0) else answer


class Raises(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        if pictures.size(0) > 0:
            raise ValueError("no")
        return pictures


def corrupt(folder):
    checkpoint = folder / "model.pt"
    content = bytearray(checkpoint.read_bytes())
    content[100] ^= 1
    checkpoint.write_bytes(content)


BAD = {
    "raises": (Raises(), {}, "fails"),
    "not numbers": (NotNumbers(), {}, "not return probabilities"),
    "other labels": (ByInk(), {"labels": ["a", "b"]}, "labels"),
    "other shape": (ByInk(), {"input": {"shape": [3, 32, 32]}}, "[3, 32, 32]"),
    "oblong faces": (ByInk(), {"task": "face", "input": {"shape": [1, 48, 40]}}, "[1, 48, 40]"),
    "other name": (ByInk(), {"name": "else"}, "rename"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_checkpoint_is_left_out_with_its_reason(tmp_path, name):
    module, changes, reason = BAD[name]
    save(script(ByInk()), card(), tmp_path / "digits")
    save(script(module), card(**{"name": "bad", **changes}), tmp_path / "bad")
    client = create_app({"MODEL_STORE": str(tmp_path)}).test_client()
    (left_out,) = client.get("/api/models").get_json()["unavailable"]
    assert left_out["name"] == "bad"
    assert reason in left_out["reason"]
    assert client.get("/readyz").get_json()["unavailable"] == {"bad": left_out["reason"]}
    picture = {"data": encode(seven()), "content_type": "image/png"}
    assert client.post("/api/predict", **picture).status_code == 200
    response = client.post("/api/predict?model=bad", **picture)
    assert response.status_code == 503
    assert reason in response.get_json()["detail"]


def test_it_is_not_ready_without_its_default_model(tmp_path):
    save(script(ByInk()), card(), tmp_path / "digits")
    corrupt(tmp_path / "digits")
    client = create_app({"MODEL_STORE": str(tmp_path)}).test_client()
    assert client.get("/healthz").status_code == 200
    response = client.get("/readyz")
    assert response.status_code == 503
    assert "SHA-256" in response.get_json()["unavailable"]["digits"]


def test_a_store_s_only_model_is_its_default(tmp_path):
    save(script(ByInk()), card("garden"), tmp_path / "garden")
    client = create_app({"MODEL_STORE": str(tmp_path)}).test_client()
    assert client.get("/readyz").status_code == 200
    picture = {"data": encode(seven()), "content_type": "image/png"}
    assert client.post("/api/predict", **picture).get_json()["model"] == "garden"
    chosen = create_app({"MODEL_STORE": str(tmp_path), "DEFAULT_MODEL": "letters"}).test_client()
    assert chosen.get("/readyz").status_code == 503


def test_an_empty_store_starts_and_says_so(tmp_path):
    client = create_app({"MODEL_STORE": str(tmp_path)}).test_client()
    told = client.get("/readyz").get_json()
    assert (told["ready"], told["models"]) == (False, [])
    assert told["unavailable"] == {"digits": "not in the store; set GLIMPSE_DEFAULT_MODEL"}


def test_an_answer_that_is_no_number_is_never_sent(tmp_path):
    save(script(NotNumbersWhereThereIsInk()), card(), tmp_path / "digits")
    client = create_app({"MODEL_STORE": str(tmp_path)}).test_client()
    picture = {"data": encode(seven()), "content_type": "image/png"}
    response = client.post("/api/predict", **picture)
    assert response.status_code == 503
    assert response.mimetype == "application/problem+json"

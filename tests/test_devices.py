"""Training on the devices of this machine: `pytest -m device`."""

from __future__ import annotations

import pytest
import torch
from training_data import recipe, shades

from app.engines import engine
from training import checkpoint, devices, loop
from training.errors import TrainingError

DEVICES = ["cpu"]
DEVICES += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
DEVICES += ["mps"] * torch.backends.mps.is_available()
CHANGES = {
    "rotation": 5.0,
    "elastic": 0.3,
    "flip": 0.5,
    "thickness": 0.1,
    "blur": 0.2,
    "contrast": 0.1,
    "noise": 0.02,
    "erase": 0.2,
}


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def train(folder, device, *, resume=False, **changes):
    folder.mkdir(exist_ok=True)
    said = []
    result = loop.train(
        recipe(average=0.5, augmentation=CHANGES, **changes),
        shades(),
        folder,
        resume=resume,
        say=said.append,
        device=device,
    )
    return result, said


@pytest.mark.device
def test_what_a_device_trained_is_exported_and_served_on_the_cpu(device, tmp_path):
    result, said = train(tmp_path, device, epochs=4)
    assert next(result.classifier.parameters()).device == torch.device(device)
    assert said[0].startswith(f"Device: {device}")
    pictures = shades().test.pictures
    expected = loop.predict(result.classifier, pictures).numpy()
    card = checkpoint.export(result, result.recipe, shades(), {}, tmp_path)
    assert card.libraries["device"] == said[0].removeprefix("Device: ")
    for name in ("torch", "onnx"):
        told = engine(name).load(tmp_path)[0](pictures.numpy())
        assert abs(told - expected).max() < 1e-3
    assert (expected.argmax(1) == shades().test.labels.numpy()).mean() > 0.8


@pytest.mark.device
def test_a_resumed_run_ends_as_an_uninterrupted_one_on_every_device(device, tmp_path):
    whole, _ = train(tmp_path / "whole", device, epochs=3)
    train(tmp_path / "resumed", device, epochs=2)
    resumed, _ = train(tmp_path / "resumed", device, epochs=3, resume=True)
    ours, theirs = resumed.classifier.state_dict(), whole.classifier.state_dict()
    closeness = 0 if device == "cpu" else 1e-3  # sums on a GPU have no fixed order
    torch.testing.assert_close(ours, theirs, rtol=0, atol=closeness)


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.choose("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["tpu", "xpu", "cpu:1"])
def test_an_unknown_device_is_said(name):
    with pytest.raises(TrainingError, match=r"give.* auto"):
        devices.choose(name)


def test_a_device_that_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(TrainingError, match="this machine has no device “cuda:1”"):
        devices.choose("cuda:1")


@pytest.mark.parametrize(
    ("capability", "has_bf16", "expected"),
    [((6, 1), False, None), ((7, 5), False, torch.float16), ((8, 0), True, torch.bfloat16)],
)
def test_16_bits_are_for_gpus_with_tensor_cores(monkeypatch, capability, has_bf16, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    assert devices.half_precision(torch.device("cuda:0")) == expected


def test_16_bits_on_a_cpu_are_asked_for(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.delenv("GLIMPSE_BFLOAT16", raising=False)
    assert devices.half_precision(cpu) is None
    monkeypatch.setenv("GLIMPSE_BFLOAT16", "1")
    assert devices.half_precision(cpu) == torch.bfloat16
    assert "16 bits" in devices.describe(cpu)


def test_a_network_learns_in_16_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "half_precision", lambda _: torch.bfloat16)
    result, _ = train(tmp_path, "cpu", epochs=6)
    assert result.history[-1]["validation_accuracy"] > 0.8
    assert next(result.classifier.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to"), MemoryError()]
)
def test_out_of_memory_says_what_to_lower(tmp_path, monkeypatch, error):
    def greedy(self):
        raise error

    monkeypatch.setattr(loop.Run, "epoch", greedy)
    with pytest.raises(TrainingError, match=r"lower the recipe's “batch_size” or “data.size”"):
        train(tmp_path, "cpu")


def test_no_step_waits_for_the_device(monkeypatch):
    """The figures of an epoch are read once, however many batches it has."""
    run = loop.Run(recipe(), shades())
    reads, item, tolist = [], torch.Tensor.item, torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "item", lambda self: reads.append(1) or item(self))
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: reads.append(1) or tolist(self))
    monkeypatch.setattr(torch.Tensor, "__float__", lambda self: reads.append(1) or item(self))
    monkeypatch.setattr(torch.Tensor, "__int__", lambda self: reads.append(1) or int(item(self)))
    monkeypatch.setattr(loop, "evaluate", lambda *_: (1.0, 0.5))
    run.epoch()
    assert run.steps == 5
    assert len(reads) == 1

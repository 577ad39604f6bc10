"""The heat that training puts into a checkpoint: autograd's LayerCAM, by ordinary operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from samples import card, script
from torch import nn

from model_store import load_onnx, load_onnx_heat, save
from training.architectures import ACTIVATIONS, Classifier, Columns, build
from training.explain import Explained, explained, folded
from training.onnx_export import save_onnx

SMALL = {"widths": [8, 8, 16], "depths": [1, 2, 1], "drop_rate": 0.1}
NETWORKS = {
    "baseline": ("baseline", 28, {}),
    "unpadded": ("unpadded", 28, {"width": 8}),
    "columns": ("unpadded", 28, {"width": 8, "columns": 3}),
    "vgg, odd": ("vgg", 23, SMALL),
    "vgg, all too coarse": ("vgg", 9, SMALL),
}
NETWORKS["resnet"] = ("resnet", 28, {"widths": [4, 8, 8], "depths": [1, 1, 1]})
NETWORKS["resnet, odd"] = ("resnet", 23, {"widths": [4, 8], "depths": [0, 1]})
NETWORKS["lite0"] = ("efficientnet_lite0", 64, {"pretrained": False})
NETWORKS["lite0, odd"] = ("efficientnet_lite0", 83, {"pretrained": False})
for activation in ACTIVATIONS:
    NETWORKS[f"vgg, {activation}"] = ("vgg", 48, {**SMALL, "activation": activation})
    options = {"widths": [8, 8, 16, 16], "dense": 16, "activation": activation}
    NETWORKS[f"four convolutions, {activation}"] = ("four_convolutions", 48, options)


def trained(name, size, options):
    """A classifier whose batch norms have seen pictures, and pictures with flat parts."""
    torch.manual_seed(0)
    classifier = Classifier(build(name, 10, 1, options), 0.1, 0.3, by_picture=size > 28)
    for layer in classifier.train().modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the mean of what it has seen
    for _ in range(3):
        classifier.logits(torch.rand(32, 1, size, size))
    pictures = torch.randint(0, 256, (6, 1, size, size), dtype=torch.uint8)
    pictures[:3, :, : size // 2] = 0
    return classifier.eval(), pictures


def by_autograd(column, values, labels):
    """LayerCAM of the last layer or block whose side is 10 pixels or more."""
    parts = list(column)
    fine, after = values, parts
    with torch.no_grad():
        for index, part in enumerate(parts):
            values = part(values.clone())
            if values.dim() < 4 or values.shape[3] < 10:
                break
            fine, after = values, parts[index + 1 :]
    fine = fine.clone().requires_grad_()
    values = fine.clone()
    for part in after:
        values = part(values)
    values.gather(1, labels[:, None]).sum().backward()
    return (fine.grad.relu() * fine).sum(1).relu().detach()


@pytest.mark.parametrize("which", NETWORKS)
def test_heat_is_layer_cam_in_torchscript_and_in_onnx(which, tmp_path):
    name, size, options = NETWORKS[which]
    classifier, pictures = trained(name, size, options)
    labels = torch.tensor([0, 1, 2, 3, 9, 9])
    network = classifier.network
    values = classifier.normalised(pictures.float() / 255).detach()
    columns = network.columns if isinstance(network, Columns) else [network]
    expected = sum(by_autograd(column, values, labels) for column in columns)
    assert expected.amax(dim=(1, 2)).min() > 1e-5  # there is something to be compared
    closeness = {"rtol": 1e-4, "atol": float(expected.max()) * 1e-5}
    with torch.no_grad():
        module = script(explained(classifier, pictures.shape[1:]))
        torch.testing.assert_close(module.heat(pictures, labels), expected, **closeness)
        assert torch.equal(module(pictures), classifier(pictures))

    written = card(input={"shape": [1, size, size]})
    written = save(module, written, tmp_path)
    written = save_onnx(
        script(explained(folded(classifier), pictures.shape[1:])), written, tmp_path
    )
    session, _ = load_onnx(tmp_path)
    given = {"pictures": pictures.numpy(), "labels": labels.numpy()}
    (heat,) = load_onnx_heat(tmp_path, session, written).run(None, given)
    torch.testing.assert_close(torch.from_numpy(heat), expected, **closeness)


def test_weights_stand_in_each_file_once(tmp_path):
    classifier, pictures = trained("unpadded", 28, {})
    plain, heated = tmp_path / "plain", tmp_path / "heated"
    old = save_onnx(script(classifier), save(script(classifier), card(), plain), plain)
    module = script(explained(classifier, pictures.shape[1:]))
    for_onnx = script(explained(folded(classifier), pictures.shape[1:]))
    new = save_onnx(for_onnx, save(module, card(), heated), heated)
    weights = 4 * sum(parameter.numel() for parameter in classifier.parameters())
    assert new.onnx_size - old.onnx_size < weights / 3
    assert new.size - old.size < weights / 3


def with_layers(*layers):
    return Classifier(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 36, 3)), 0.1, 0.3).eval()


UNKNOWN = {
    "strided and padded": nn.Conv2d(4, 4, 3, stride=2, padding=1),
    "reflected": nn.Sequential(
        nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
    ),
    "mean of windows": nn.AvgPool2d(2),
    "wide windows": nn.MaxPool2d(3, stride=2, padding=1),
    "another activation": nn.Sequential(nn.MaxPool2d(2), nn.GELU()),
}


@pytest.mark.parametrize("which", UNKNOWN)
def test_a_layer_whose_gradient_is_not_known_leaves_out_the_heat(which):
    classifier = with_layers(nn.Conv2d(1, 4, 3, padding=1), UNKNOWN[which])
    assert explained(classifier, torch.Size([1, 12, 12])) is classifier
    known = with_layers(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2))
    assert isinstance(explained(known, torch.Size([1, 12, 12])), Explained)


def test_mobilenet_has_no_heat():
    classifier = Classifier(build("mobilenet_v2", 7, 3, {"pretrained": False}), 0.1, 0.3).eval()
    assert explained(classifier, torch.Size([3, 48, 48])) is classifier


def test_columns_are_explained_together():
    """Where one of two columns is blind, the heat is the other's."""
    both, pictures = trained("unpadded", 28, {"width": 4, "columns": 2})
    seeing, blind = both.network.columns
    with torch.no_grad():
        blind[-1].weight.zero_()
        labels = torch.arange(6)
        alone = explained(Classifier(seeing, 0.1, 0.3).eval(), pictures.shape[1:])
        together = explained(both, pictures.shape[1:])
        heat = together.heat(pictures, labels).numpy()
        np.testing.assert_allclose(heat, alone.heat(pictures, labels).numpy(), rtol=1e-4, atol=1e-7)
    assert heat.max() > 0

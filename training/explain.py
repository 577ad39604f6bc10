"""The heat maps of checkpoints: LayerCAM without automatic differentiation.

ONNX has no gradients, so each layer gets its gradient here as ordinary operations, which
TorchScript and ONNX both hold.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.architectures import Classifier, Columns, Residual

FINEST = 10  # minimum side of the activations that make the map, pixels


class Gradient(nn.Module):
    """The gradient of one logit of each picture with respect to the input of a layer.

    Takes that input, float32 (N, ...), and the logits' indices, int64 (N,); gives the shape of the
    input, which is `shape` without N. `rest` gives the gradient with respect to the layer's output.
    """

    def __init__(self, layer: nn.Module, rest: nn.Module, shape: torch.Size) -> None:
        super().__init__()
        self.rest = rest
        self.shape = [-1, *shape]


class OfLogits(nn.Module):
    """The gradient of a logit by all `classes` logits: 1 for itself."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, _: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        return functional.one_hot(labels, self.classes).float()


class OfConvolution(Gradient):
    """Conv2d, padded with zeros; or of a stride, not padded."""

    __constants__ = ("is_whole",)

    def __init__(self, layer: nn.Conv2d, rest: nn.Module, shape: torch.Size) -> None:
        super().__init__(layer, rest, shape)
        self.layer = layer
        self.padding = [int(side) for side in layer.padding]  # not "same"
        self.stride = list(layer.stride)
        # Lines that the strides leave over at the bottom and the right, which do not count.
        below, right = (
            (shape[1 + at] + 2 * self.padding[at] - layer.dilation[at] * (kernel - 1) - 1)
            % self.stride[at]
            for at, kernel in enumerate(layer.kernel_size)
        )
        self.left_over = [0, right, 0, below]
        self.is_whole = not (below or right)

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        gradient: Tensor = self.rest(self.layer(values), labels)
        spread = functional.conv_transpose2d(
            gradient,
            self.layer.weight,
            stride=self.stride,
            padding=self.padding,
            groups=self.layer.groups,
            dilation=self.layer.dilation,
        )
        return spread if self.is_whole else functional.pad(spread, self.left_over)


class OfBatchNorm(Gradient):
    """BatchNorm2d with its running mean and variance."""

    def __init__(self, layer: nn.BatchNorm2d, rest: nn.Module, shape: torch.Size) -> None:
        super().__init__(layer, rest, shape)
        self.layer = layer
        assert layer.running_var is not None
        factor = layer.weight / (layer.running_var + layer.eps).sqrt()
        self.register_buffer("factor", factor.detach().view(1, -1, 1, 1), persistent=False)

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        gradient: Tensor = self.rest(self.layer(values), labels)
        return gradient * self.factor  # type: ignore[operator]


class OfReLU(Gradient):
    """ReLU."""

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        gradient: Tensor = self.rest(functional.relu(values), labels)
        return gradient * (values > 0)


class OfReLU6(Gradient):
    """ReLU6."""

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        gradient: Tensor = self.rest(functional.relu6(values), labels)
        return gradient * ((values > 0) & (values < 6))


class OfLeakyReLU(Gradient):
    """LeakyReLU."""

    def __init__(self, layer: nn.LeakyReLU, rest: nn.Module, shape: torch.Size) -> None:
        super().__init__(layer, rest, shape)
        self.slope = layer.negative_slope

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        gradient: Tensor = self.rest(functional.leaky_relu(values, self.slope), labels)
        return torch.where(values > 0, gradient, gradient * self.slope)


class OfSiLU(Gradient):
    """SiLU, x · sigmoid(x)."""

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        share = torch.sigmoid(values)
        gradient: Tensor = self.rest(values * share, labels)
        return gradient * share * (1 + values * (1 - share))


class OfMish(Gradient):
    """Mish, x · tanh(log(1 + exp(x)))."""

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        share = torch.tanh(functional.softplus(values))
        gradient: Tensor = self.rest(values * share, labels)
        return gradient * (share + values * torch.sigmoid(values) * (1 - share * share))


class OfMaxPool(Gradient):
    """MaxPool2d(2): the first of the highest in each window gets its gradient."""

    def __init__(self, layer: nn.Module, rest: nn.Module, shape: torch.Size) -> None:
        super().__init__(layer, rest, shape)
        channels, height, width = shape
        self.height, self.width = height // 2 * 2, width // 2 * 2  # without an odd last line
        self.pooled = [-1, channels, height // 2, width // 2, 4]
        self.windows = [-1, channels, height // 2, 2, width // 2, 2]
        self.windowed = [-1, channels, height // 2, width // 2, 2, 2]
        self.whole = [-1, channels, self.height, self.width]
        self.left_out = [0, width % 2, 0, height % 2]

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        inside = values[:, :, : self.height, : self.width].reshape(self.windows)
        windows = inside.permute(0, 1, 2, 4, 3, 5).reshape(self.pooled)
        gradient: Tensor = self.rest(windows.amax(dim=4), labels)
        first = functional.one_hot(windows.argmax(dim=4), 4)
        spread = (gradient.unsqueeze(4) * first).reshape(self.windowed)
        whole = spread.permute(0, 1, 2, 4, 3, 5).reshape(self.whole)
        return functional.pad(whole, self.left_out)


class OfPadding(Gradient):
    """ZeroPad2d, of which no side is cut off."""

    def __init__(self, layer: nn.ZeroPad2d, rest: nn.Module, shape: torch.Size) -> None:
        super().__init__(layer, rest, shape)
        self.sides = list(layer.padding)
        self.height, self.width = shape[1], shape[2]

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        gradient: Tensor = self.rest(functional.pad(values, self.sides), labels)
        left, top = self.sides[0], self.sides[2]
        return gradient[:, :, top : top + self.height, left : left + self.width]


class Given(nn.Module):
    """The gradient with respect to a residual's output, which is known: given as `labels`."""

    def forward(self, _: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        return labels


class OfResidual(Gradient):
    """Residual: the gradient that comes in, and what its layers make of it."""

    def __init__(self, layer: Residual, rest: nn.Module, shape: torch.Size) -> None:
        super().__init__(layer, rest, shape)
        self.layer = layer
        chained = _chain(list(_flat(layer.body)), torch.zeros(1, *shape), Given())
        assert chained is not None, "checked by _is_known"
        self.inner = chained

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        gradient: Tensor = self.rest(self.layer(values), labels)
        changed: Tensor = self.inner(values, gradient)
        return gradient + changed


class OfMean(Gradient):
    """AdaptiveAvgPool2d(1): the mean of each channel."""

    def __init__(self, layer: nn.Module, rest: nn.Module, shape: torch.Size) -> None:
        super().__init__(layer, rest, shape)
        self.area = float(shape[1] * shape[2])

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        gradient: Tensor = self.rest(values.mean(dim=(2, 3), keepdim=True), labels)
        return (gradient / self.area).expand(self.shape)


class OfFlatten(Gradient):
    """Flatten."""

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        gradient: Tensor = self.rest(values.flatten(1), labels)
        return gradient.reshape(self.shape)


class OfLinear(Gradient):
    """Linear."""

    def __init__(self, layer: nn.Linear, rest: nn.Module, shape: torch.Size) -> None:
        super().__init__(layer, rest, shape)
        self.layer = layer

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """The gradient."""
        gradient: Tensor = self.rest(self.layer(values), labels)
        return gradient @ self.layer.weight


GRADIENTS: dict[type[nn.Module], type[Gradient]] = {
    nn.Conv2d: OfConvolution,
    nn.BatchNorm2d: OfBatchNorm,
    nn.ReLU: OfReLU,
    nn.ReLU6: OfReLU6,
    nn.LeakyReLU: OfLeakyReLU,
    nn.SiLU: OfSiLU,
    nn.Mish: OfMish,
    nn.MaxPool2d: OfMaxPool,
    nn.ZeroPad2d: OfPadding,
    Residual: OfResidual,
    nn.AdaptiveAvgPool2d: OfMean,
    nn.Flatten: OfFlatten,
    nn.Linear: OfLinear,
}
IDENTITIES = (nn.Dropout, nn.Dropout2d, nn.Identity)  # in evaluation


class LayerCam(nn.Module):
    """Heat, float32 (N, h, w), by LayerCAM (Jiang et al., 2021): each activation of a layer counts
    as much as the label's logit grows with it.

    `front` are the layers up to that one, `rest` gives the gradient by what it puts out.
    """

    def __init__(self, front: nn.Module, rest: nn.Module) -> None:
        super().__init__()
        self.front = front
        self.rest = rest

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """The heat of normalised pictures (N, C, H, W) for `labels` (N,)."""
        activations: Tensor = self.front(values)
        gradient: Tensor = self.rest(activations, labels)
        return (gradient.relu() * activations).sum(dim=1).relu()


class Explained(nn.Module):
    """A classifier with heat maps of the evidence for a label; this is what is exported.

    The heat is the sum of the columns', each for its own logit.
    """

    def __init__(self, classifier: Classifier, columns: list[LayerCam]) -> None:
        super().__init__()
        self.classifier = classifier
        self.columns = nn.ModuleList(columns)

    def forward(self, pictures: Tensor) -> Tensor:
        """Probabilities (N, K) of uint8 pictures."""
        probabilities: Tensor = self.classifier(pictures)
        return probabilities

    @torch.jit.export
    def heat(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """Heat, float32 (N, h, w), 0 or more, of uint8 pictures for `labels`, int64 (N,)."""
        values = self.classifier.normalised(pictures.float() / 255)
        return torch.stack([column(values, labels) for column in self.columns]).sum(dim=0)


def explained(classifier: Classifier, shape: torch.Size) -> nn.Module:
    """The classifier with its heat for pictures of `shape` (C, H, W), or the classifier as it is
    where it has layers whose gradient is not known here.
    """
    network = classifier.network
    columns = network.columns if isinstance(network, Columns) else [network]
    cams = [_layer_cam(column, shape) for column in columns]
    known = [cam for cam in cams if cam is not None]
    return Explained(classifier, known) if len(known) == len(cams) else classifier


@torch.no_grad()
def _layer_cam(network: nn.Module, shape: torch.Size) -> LayerCam | None:
    """LayerCAM by the last layer or block that is fine enough; None if a gradient is not known."""
    parts = list(network) if type(network) is nn.Sequential else [network]
    front, given = 0, torch.zeros(1, *shape)
    for part in parts:
        after = part(given.clone())  # some work in place
        if after.dim() != 4 or min(after.shape[2:]) < FINEST:
            break
        front, given = front + 1, after
    layers = list(_flat(nn.Sequential(*parts[front:])))
    rest = _chain(layers, given, None)
    return None if rest is None else LayerCam(nn.Sequential(*parts[:front]), rest)


def _chain(layers: list[nn.Module], given: Tensor, end: nn.Module | None) -> nn.Module | None:
    """The gradient by all `layers` in turn, of which the first takes `given`; None if one is not
    known. `end` gives that with respect to the last one's output, or without it the logits' own.
    """
    values = [given]  # the input of each layer, and the last one's output
    for layer in layers:
        values.append(layer(values[-1].clone()))  # some work in place
    rest = OfLogits(values[-1].shape[1]) if end is None else end
    for layer, value in reversed(list(zip(layers, values, strict=False))):
        if not _is_known(layer):
            return None
        rest = GRADIENTS[type(layer)](layer, rest, value.shape[1:])
    return rest


def _flat(network: nn.Module) -> Iterator[nn.Module]:
    """The layers of nested sequences, without those that do nothing in evaluation."""
    if type(network) is nn.Sequential:
        for layer in network:
            yield from _flat(layer)
    elif not isinstance(network, IDENTITIES):
        yield network


def _is_known(layer: nn.Module) -> bool:
    """Whether GRADIENTS holds for the layer with its options."""
    known = type(layer) in GRADIENTS
    if isinstance(layer, nn.Conv2d):
        known = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        if known and tuple(layer.stride) != (1, 1):
            known = tuple(layer.padding) == (0, 0)
    elif isinstance(layer, nn.BatchNorm2d):
        known = layer.affine and layer.track_running_stats
    elif isinstance(layer, nn.MaxPool2d):
        options = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        known = options == (2, 2, 0, 1) and not (layer.ceil_mode or layer.return_indices)
    elif isinstance(layer, nn.ZeroPad2d):
        known = min(layer.padding) >= 0
    elif isinstance(layer, Residual):
        known = all(map(_is_known, _flat(layer.body)))
    elif isinstance(layer, nn.AdaptiveAvgPool2d):
        known = layer.output_size in (1, (1, 1))
    elif isinstance(layer, nn.Flatten):
        known = (layer.start_dim, layer.end_dim) == (1, -1)
    return known


def folded(classifier: Classifier) -> Classifier:
    """A copy with each batch norm inside the convolution before it, as ONNX is to hold it.

    An answer and its heat then use the same weights there, which stand in the file once.
    """
    copied = copy.deepcopy(classifier).eval()
    if isinstance(copied.network, Columns):
        copied.network.columns = nn.ModuleList(_folded(each) for each in copied.network.columns)
    else:
        copied.network = _folded(copied.network)
    return copied


def _folded(network: nn.Module) -> nn.Module:
    if isinstance(network, Residual):
        return Residual(*_folded(network.body).children())
    if type(network) is not nn.Sequential:
        return network
    layers: list[nn.Module] = []
    for layer in map(_folded, network):
        if layers and isinstance(layer, nn.BatchNorm2d) and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)

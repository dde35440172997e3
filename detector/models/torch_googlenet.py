"""GoogLeNet in PyTorch, built from `detector.models.googlenet`, with heads for training.

Letters of shapes: N crops, C channels, H and W a feature map's sides, S the crop's side.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from detector.bundles.manifest import Architecture
from detector.models.googlenet import (
    BATCHNORM_EPSILON,
    LRN_ALPHA,
    LRN_SIZE,
    ConvolutionLayer,
    DepthwiseLayer,
    InceptionLayer,
    NormLayer,
    PoolLayer,
    channels_after,
    feature_map_sides,
    trunk_layers,
)
from detector.models.weights import Weights

SMALLEST_CROP = 64
"""Smallest side of crops, in pixels."""

SMALLEST_CROP_WITH_AUXILIARY = 96
"""Smallest side of crops in training with auxiliary heads, in pixels."""


class Trunk(nn.Module):
    """GoogLeNet up to its last Inception module.

    Args:
        architecture: Variant of the network.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.channels = channels_after(architecture, "5b")
        """Number of channels of the last feature map."""
        self._steps: list[str] = []  # names of the modules in their order, and "pool"

        batchnorm = architecture.normalisation == "batchnorm"
        for layer in trunk_layers(architecture):
            match layer:
                case ConvolutionLayer():
                    self._add(layer.name, Convolution(layer, batchnorm=batchnorm))
                case DepthwiseLayer():
                    self._add(layer.name, depthwise_convolution(layer))
                case NormLayer():
                    self._add(layer.name, LocalResponseNorm(layer.channels))
                case PoolLayer():
                    self._add(f"pool{len(self._steps)}", max_pool(layer))
                case InceptionLayer():
                    self._add(layer.name, Inception(layer, batchnorm=batchnorm))

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the feature maps after 5b, 4a and 4d for normalised crops `[N, 3, S, S]`.

        For the full-width network and S = 224 their shapes are `[N, 1024, 7, 7]`,
        `[N, 512, 14, 14]` and `[N, 528, 14, 14]`.
        """
        maps: dict[str, Tensor] = {}
        for name in self._steps:
            x = self.get_submodule(name)(x)
            if name in ("inception_4a", "inception_4d"):
                maps[name] = x
        return x, maps["inception_4a"], maps["inception_4d"]

    def _add(self, name: str, module: nn.Module) -> None:
        """Add a module as the next step; "conv1.7x7_s2" becomes the item "7x7_s2" of conv1."""
        group, dot, own_name = name.partition(".")
        if not dot:
            self.add_module(name, module)
        else:
            if not hasattr(self, group):
                self.add_module(group, nn.ModuleDict())
            self.get_submodule(group).add_module(own_name, module)
        self._steps.append(name)


class GoogLeNet(Trunk):
    """GoogLeNet as a classifier of crops of one size.

    Args:
        classes: Number of outputs.
        crop_size: S, the side of the square crops in pixels: at least 64, or 96 with auxiliary
            heads.
        architecture: Variant of the network.
        auxiliary: Whether to add the two heads after 4a and 4d that help training.

    Raises:
        ValueError: The crops are too small for the network.
    """

    def __init__(
        self,
        classes: int,
        *,
        crop_size: int = 224,
        architecture: Architecture | None = None,
        auxiliary: bool = False,
    ) -> None:
        smallest = SMALLEST_CROP_WITH_AUXILIARY if auxiliary else SMALLEST_CROP
        if crop_size < smallest:
            heads = "with auxiliary heads " if auxiliary else ""
            raise ValueError(f"crops must be {heads}at least {smallest} pixels, not {crop_size}")
        architecture = architecture or Architecture()
        super().__init__(architecture)

        self.auxiliary = auxiliary
        if auxiliary:
            channels_4a = channels_after(architecture, "4a")
            channels_4d = channels_after(architecture, "4d")
            self.loss1 = AuxiliaryHead(channels_4a, crop_size, classes, architecture)
            self.loss2 = AuxiliaryHead(channels_4d, crop_size, classes, architecture)
        self.dropout = nn.Dropout(0.2 if architecture.variant == "torchvision" else 0.4)
        self.classifier = nn.Linear(self.channels, classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, classes]` of normalised crops `[N, 3, S, S]`."""
        x, _, _ = self.features(x)
        return self._classify(x)

    def forward_with_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of the network and of its heads after 4a and 4d, each `[N, classes]`."""
        x, after_4a, after_4d = self.features(x)
        return self._classify(x), self.loss1(after_4a), self.loss2(after_4d)

    def _classify(self, x: Tensor) -> Tensor:
        x = x.mean(dim=(2, 3))  # [N, 1024], the average pooling over the whole map
        return cast(Tensor, self.classifier(self.dropout(x)))


def make_googlenet(weights: Weights, architecture: Architecture, crop_size: int) -> GoogLeNet:
    """Return a classifier with these weights, in float32 and in evaluation mode.

    Args:
        weights: Tensors by their names, without auxiliary heads.
        architecture: Variant of the network.
        crop_size: S, in pixels.
    """
    classes = len(weights["classifier.bias"])
    network = GoogLeNet(classes, crop_size=crop_size, architecture=architecture)
    network.load_state_dict({name: torch.tensor(tensor) for name, tensor in weights.items()})
    return network.eval()


class Convolution(nn.Conv2d):
    """A convolution with padding of half the kernel, then BatchNorm if wanted, then ReLU."""

    def __init__(self, layer: ConvolutionLayer, *, batchnorm: bool) -> None:
        super().__init__(
            layer.inputs,
            layer.outputs,
            layer.kernel,
            layer.stride,
            padding=layer.kernel // 2,
            bias=not batchnorm,
        )
        epsilon = BATCHNORM_EPSILON
        self.norm = nn.BatchNorm2d(layer.outputs, eps=epsilon) if batchnorm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return `[N, outputs, H / stride, W / stride]`, rounded up, for `[N, inputs, H, W]`."""
        return functional.relu(self.norm(super().forward(x)), inplace=True)


def depthwise_convolution(layer: DepthwiseLayer) -> nn.Conv2d:
    """Return a convolution of each channel by itself."""
    return nn.Conv2d(
        layer.channels,
        layer.channels * layer.multiplier,
        layer.kernel,
        layer.stride,
        padding=layer.kernel // 2,
        groups=layer.channels,
        bias=False,
    )


def max_pool(layer: PoolLayer) -> nn.MaxPool2d:
    """Return a max-pooling with stride 2 in ceil mode."""
    return nn.MaxPool2d(layer.kernel, stride=2, ceil_mode=True)


class Inception(nn.ModuleDict):
    """An Inception module: four parallel branches, whose outputs are concatenated."""

    def __init__(self, layer: InceptionLayer, *, batchnorm: bool) -> None:
        super().__init__(
            {
                convolution.name.rpartition(".")[2]: Convolution(convolution, batchnorm=batchnorm)
                for convolution in layer.convolutions
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `[N, outputs, H, W]` for `[N, inputs, H, W]`."""
        one = self["1x1"](x)
        three = self["3x3"](self["3x3_reduce"](x))
        five = self["5x5"](self["5x5_reduce"](x))
        pool = self["pool_proj"](functional.max_pool2d(x, 3, stride=1, padding=1))
        return torch.cat([one, three, five, pool], dim=1)


class AuxiliaryHead(nn.Module):
    """A classifier on an intermediate feature map, which is used only in training.

    Args:
        channels: Number of channels of the map.
        crop_size: S, in pixels.
        classes: Number of outputs.
        architecture: Variant of the network.
    """

    def __init__(
        self, channels: int, crop_size: int, classes: int, architecture: Architecture
    ) -> None:
        super().__init__()
        torchvision = architecture.variant == "torchvision"
        batchnorm = architecture.normalisation == "batchnorm"
        side, _ = feature_map_sides(crop_size, architecture)
        self.pool = nn.AdaptiveAvgPool2d(4) if torchvision else nn.AvgPool2d(5, stride=3)
        pooled = 4 if torchvision else (side - 5) // 3 + 1
        self.conv = Convolution(ConvolutionLayer("conv", channels, 128, 1), batchnorm=batchnorm)
        self.fc = nn.Linear(128 * pooled * pooled, 1024)
        self.dropout = nn.Dropout(0.7)
        self.classifier = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, classes]` of a feature map `[N, channels, H, W]`."""
        x = self.conv(self.pool(x)).flatten(1)  # [N, 128 * pooled * pooled]
        x = functional.relu(self.fc(x))  # [N, 1024]
        return cast(Tensor, self.classifier(self.dropout(x)))


class LocalResponseNorm(nn.Module):
    """Local response normalisation across 5 channels, as in Caffe's GoogLeNet.

    Computes `x / (1 + alpha / 5 * sum of squares) ** 0.75` with alpha 1e-4, which equals
    `torch.nn.LocalResponseNorm(5, 1e-4, 0.75, 1)`. torch's own pads, pools and raises to powers,
    for which there are no kernels in channels-last and bfloat16. Here the sum over neighbouring
    channels is a 1x1 convolution with a banded matrix, and the power is made of square roots.
    """

    band: Tensor
    k: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        index = torch.arange(channels)
        near = (index[:, None] - index[None, :]).abs() <= LRN_SIZE // 2  # [C, C]
        band = near.float() * (LRN_ALPHA / LRN_SIZE)
        self.register_buffer("band", band[:, :, None, None], persistent=False)  # [C, C, 1, 1]
        self.register_buffer("k", torch.ones(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, `[N, C, H, W]` as the input."""
        root = functional.conv2d(x * x, self.band, self.k).rsqrt()  # scale ** -0.5
        if torch.is_grad_enabled() and x.requires_grad:
            return x * root * root.sqrt()
        return root.sqrt().mul_(root).mul_(x)  # in place: a third of the memory traffic


def initialise(module: nn.Module) -> None:
    """Initialise a layer as Caffe's `bvlc_googlenet` does.

    Weights are drawn by "xavier", with the fan-in alone; biases of convolutions are 0.2.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        bound = math.sqrt(3 / module.weight[0].numel())
        nn.init.uniform_(module.weight, -bound, bound)
        if module.bias is not None:
            nn.init.constant_(module.bias, 0.2 if isinstance(module, nn.Conv2d) else 0.0)

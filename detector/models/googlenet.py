"""GoogLeNet: Table 1 of *Going deeper with convolutions* (arXiv 1409.4842).

Layers have the names of Caffe's `bvlc_googlenet`, so that its weights can be loaded; only the last
layer has another name, `classifier`. Details that the paper leaves open follow Caffe: the position
of local response normalisation, ceil-mode pooling, and ReLU after every convolution.

Letters of shapes: N crops, C channels, H and W a feature map's sides, S the crop's side.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from detector.bundles.manifest import Architecture


class Branches(NamedTuple):
    """Numbers of output channels in an Inception module, in the order of Table 1's columns."""

    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int


INCEPTIONS = {
    "3a": Branches(64, 96, 128, 16, 32, 32),
    "3b": Branches(128, 128, 192, 32, 96, 64),
    "4a": Branches(192, 96, 208, 16, 48, 64),
    "4b": Branches(160, 112, 224, 24, 64, 64),
    "4c": Branches(128, 128, 256, 24, 64, 64),
    "4d": Branches(112, 144, 288, 32, 64, 64),
    "4e": Branches(256, 160, 320, 32, 128, 128),
    "5a": Branches(256, 160, 320, 32, 128, 128),
    "5b": Branches(384, 192, 384, 48, 128, 128),
}
"""The Inception modules, by their names in Table 1."""

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
        batchnorm = architecture.normalisation == "batchnorm"
        lrn = architecture.normalisation == "lrn"
        torchvision = architecture.variant == "torchvision"
        c64 = architecture.channels(64)
        c192 = architecture.channels(192)

        # Stages 1 and 2
        if architecture.stem == "dense":
            conv1 = {"7x7_s2": Convolution(3, c64, 7, stride=2, batchnorm=batchnorm)}
            self.conv1 = nn.ModuleDict(conv1)
        else:
            depthwise = nn.Conv2d(3, 24, 7, stride=2, padding=3, groups=3, bias=False)
            pointwise = Convolution(24, c64, 1, batchnorm=batchnorm)
            self.conv1 = nn.ModuleDict({"7x7_s2_depthwise": depthwise, "7x7_s2": pointwise})
        self.norm1 = LocalResponseNorm(c64) if lrn else nn.Identity()
        conv2 = {
            "3x3_reduce": Convolution(c64, c64, 1, batchnorm=batchnorm),
            "3x3": Convolution(c64, c192, 3, batchnorm=batchnorm),
        }
        self.conv2 = nn.ModuleDict(conv2)
        self.norm2 = LocalResponseNorm(c192) if lrn else nn.Identity()

        # Stages 3 to 5
        self.channels = c192
        """Number of channels of the last feature map."""
        for name, table in INCEPTIONS.items():
            branches = Branches(*map(architecture.channels, table))
            five = 3 if torchvision else 5
            module = Inception(self.channels, branches, five=five, batchnorm=batchnorm)
            self.add_module(f"inception_{name}", module)
            self.channels = module.channels
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.pool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True) if torchvision else self.pool

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the feature maps after 5b, 4a and 4d for normalised crops `[N, 3, S, S]`.

        Shapes in the comments are those of the full-width network for S = 224.
        """
        for convolution in self.conv1.values():
            x = convolution(x)  # [N, 64, 112, 112]
        x = self.norm1(self.pool(x))  # [N, 64, 56, 56]
        for convolution in self.conv2.values():
            x = convolution(x)  # [N, 192, 56, 56] after the last one
        x = self.pool(self.norm2(x))  # [N, 192, 28, 28]

        x = self._inceptions(x, "3a", "3b")  # [N, 480, 28, 28]
        x = self.pool(x)  # [N, 480, 14, 14]

        after_4a = self._inceptions(x, "4a")  # [N, 512, 14, 14]
        after_4d = self._inceptions(after_4a, "4b", "4c", "4d")  # [N, 528, 14, 14]
        x = self._inceptions(after_4d, "4e")  # [N, 832, 14, 14]
        x = self.pool4(x)  # [N, 832, 7, 7]

        x = self._inceptions(x, "5a", "5b")  # [N, 1024, 7, 7]
        return x, after_4a, after_4d

    def _inceptions(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = self.get_submodule(f"inception_{name}")(x)
        return x


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
            channels_4a = cast(Inception, self.get_submodule("inception_4a")).channels
            channels_4d = cast(Inception, self.get_submodule("inception_4d")).channels
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


def feature_map_sides(size: int, architecture: Architecture) -> tuple[int, int]:
    """Return the sides of the feature maps of stages 4 and 5 for crops of a size in pixels.

    The first convolution halves a side and rounds up. Max-pooling of 3x3 with stride 2, in ceil
    mode as in Caffe, halves it and rounds down. Torchvision's last pooling, of 2x2, rounds up.
    """
    fourth = math.ceil(size / 2) // 2 // 2 // 2
    fifth = math.ceil(fourth / 2) if architecture.variant == "torchvision" else fourth // 2
    return fourth, fifth


class Convolution(nn.Conv2d):
    """A convolution with padding of half the kernel, then BatchNorm if wanted, then ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, batchnorm: bool
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2, bias=not batchnorm)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3) if batchnorm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return `[N, outputs, H / stride, W / stride]`, rounded up, for `[N, inputs, H, W]`."""
        return functional.relu(self.norm(super().forward(x)), inplace=True)


class Inception(nn.ModuleDict):
    """An Inception module: four parallel branches, whose outputs are concatenated.

    Args:
        inputs: Number of input channels.
        branches: Numbers of output channels.
        five: Kernel of the 5x5 branch, which is 3 in torchvision's network.
        batchnorm: Whether each convolution has BatchNorm.
    """

    def __init__(self, inputs: int, branches: Branches, *, five: int, batchnorm: bool) -> None:
        convolutions = {
            "1x1": (inputs, branches.one, 1),
            "3x3_reduce": (inputs, branches.three_reduce, 1),
            "3x3": (branches.three_reduce, branches.three, 3),
            "5x5_reduce": (inputs, branches.five_reduce, 1),
            "5x5": (branches.five_reduce, branches.five, five),
            "pool_proj": (inputs, branches.pool, 1),
        }
        super().__init__(
            {name: Convolution(*shape, batchnorm=batchnorm) for name, shape in convolutions.items()}
        )
        self.channels = branches.one + branches.three + branches.five + branches.pool

    def forward(self, x: Tensor) -> Tensor:
        """Return `[N, channels, H, W]` for `[N, inputs, H, W]`."""
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
        self.conv = Convolution(channels, 128, 1, batchnorm=batchnorm)
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

    SIZE = 5
    ALPHA = 1e-4
    K = 1.0

    band: Tensor
    k: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        index = torch.arange(channels)
        near = (index[:, None] - index[None, :]).abs() <= self.SIZE // 2  # [C, C]
        band = near.float() * (self.ALPHA / self.SIZE)
        self.register_buffer("band", band[:, :, None, None], persistent=False)  # [C, C, 1, 1]
        self.register_buffer("k", torch.full((channels,), self.K), persistent=False)

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

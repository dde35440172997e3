"""GoogLeNet: Table 1 of *Going deeper with convolutions* (arXiv 1409.4842).

Modules carry the names of Caffe's `bvlc_googlenet`, so its weights load as they are, but for the
last layer, which is `classifier` here. What the paper leaves open follows Caffe: where local
response normalisation stands, ceil-mode pooling, ReLU after every convolution.

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
    """Output channels of an Inception module's parts, in the columns of Table 1."""

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
SMALLEST_CROP = 64
SMALLEST_CROP_WITH_AUXILIARY = 96


class Trunk(nn.Module):
    """GoogLeNet up to its last Inception module.

    Args:
        architecture: which of the network's variants.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = net = architecture
        batchnorm = net.normalisation == "batchnorm"
        torchvision = net.variant == "torchvision"
        lrn = net.normalisation == "lrn"
        c64, c192 = net.channels(64), net.channels(192)

        if net.stem == "dense":
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

        self.channels = c192
        """Of the last map."""
        for name, table in INCEPTIONS.items():
            branches = Branches(*map(net.channels, table))
            five = 3 if torchvision else 5
            module = Inception(self.channels, branches, five=five, batchnorm=batchnorm)
            self.add_module(f"inception_{name}", module)
            self.channels = module.channels
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.pool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True) if torchvision else self.pool

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs of 5b, 4a and 4d for crops `[N, 3, S, S]`; sides are for S = 224."""
        for convolution in self.conv1.values():
            x = convolution(x)  # [N, 64, 112, 112]
        x = self.norm1(self.pool(x))  # [N, 64, 56, 56]
        for convolution in self.conv2.values():
            x = convolution(x)
        x = self.pool(self.norm2(x))  # [N, 192, 28, 28]
        x = self._inceptions(x, "3a", "3b")
        x = self.pool(x)  # [N, 480, 14, 14]
        after_4a = x = self._inceptions(x, "4a")
        after_4d = x = self._inceptions(x, "4b", "4c", "4d")
        x = self._inceptions(x, "4e")
        x = self.pool4(x)  # [N, 832, 7, 7]
        x = self._inceptions(x, "5a", "5b")  # [N, 1024, 7, 7]
        return x, after_4a, after_4d

    def _inceptions(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = self.get_submodule(f"inception_{name}")(x)
        return x


class GoogLeNet(Trunk):
    """GoogLeNet for crops of one size.

    Args:
        classes: number of outputs.
        crop_size: S, the side of the square crops in pixels: at least 64, with auxiliary heads 96.
        architecture: which of the network's variants.
        auxiliary: with the two heads after 4a and 4d that help training.

    Raises:
        ValueError: the crops are too small for the network.
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
        net = architecture or Architecture()
        super().__init__(net)
        self.auxiliary = auxiliary
        if auxiliary:
            after_4a, after_4d = (self.get_submodule(f"inception_{n}") for n in ("4a", "4d"))
            self.loss1 = Auxiliary(cast(Inception, after_4a).channels, crop_size, classes, net)
            self.loss2 = Auxiliary(cast(Inception, after_4d).channels, crop_size, classes, net)
        self.dropout = nn.Dropout(0.2 if net.variant == "torchvision" else 0.4)
        self.classifier = nn.Linear(self.channels, classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[N, classes]` of normalised crops `[N, 3, S, S]`."""
        x, _, _ = self.features(x)
        return self._classify(x)

    def forward_with_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the network and of its heads after 4a and 4d, each `[N, classes]`."""
        x, after_4a, after_4d = self.features(x)
        return self._classify(x), self.loss1(after_4a), self.loss2(after_4d)

    def _classify(self, x: Tensor) -> Tensor:
        x = x.mean(dim=(2, 3))  # [N, 1024]: the average pooling over the whole map
        return cast(Tensor, self.classifier(self.dropout(x)))


def map_sides(size: int, architecture: Architecture) -> tuple[int, int]:
    """The sides of the maps of stages 4 and 5 for crops of a size.

    The first convolution rounds up; Caffe's max-poolings, 3x3 with stride 2, count so that odd
    sides are halved rounding down.
    """
    fourth = math.ceil(size / 2) // 2 // 2 // 2
    fifth = math.ceil(fourth / 2) if architecture.variant == "torchvision" else fourth // 2
    return fourth, fifth


class Convolution(nn.Conv2d):
    """A convolution with "same" padding, BatchNorm if wanted, and ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, batchnorm: bool
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2, bias=not batchnorm)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3) if batchnorm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """`[N, inputs, H, W]` to `[N, outputs, H / stride, W / stride]`, rounded up."""
        return functional.relu(self.norm(super().forward(x)), inplace=True)


class Inception(nn.ModuleDict):
    """Four branches side by side, `[N, inputs, H, W]` to `[N, channels, H, W]`."""

    def __init__(self, inputs: int, branches: Branches, *, five: int, batchnorm: bool) -> None:
        b = branches
        convolutions = {
            "1x1": (inputs, b.one, 1),
            "3x3_reduce": (inputs, b.three_reduce, 1),
            "3x3": (b.three_reduce, b.three, 3),
            "5x5_reduce": (inputs, b.five_reduce, 1),
            "5x5": (b.five_reduce, b.five, five),
            "pool_proj": (inputs, b.pool, 1),
        }
        super().__init__(
            {name: Convolution(*shape, batchnorm=batchnorm) for name, shape in convolutions.items()}
        )
        self.channels = b.one + b.three + b.five + b.pool

    def forward(self, x: Tensor) -> Tensor:
        """The branches' outputs in the order of Table 1."""
        one = self["1x1"](x)
        three = self["3x3"](self["3x3_reduce"](x))
        five = self["5x5"](self["5x5_reduce"](x))
        pool = self["pool_proj"](functional.max_pool2d(x, 3, stride=1, padding=1))
        return torch.cat([one, three, five, pool], dim=1)


class Auxiliary(nn.Module):
    """A classifier on an intermediate map, with weight 0.3 in the loss and none in detection."""

    def __init__(self, channels: int, crop_size: int, classes: int, net: Architecture) -> None:
        super().__init__()
        torchvision = net.variant == "torchvision"
        side, _ = map_sides(crop_size, net)
        self.pool = nn.AdaptiveAvgPool2d(4) if torchvision else nn.AvgPool2d(5, stride=3)
        pooled = 4 if torchvision else (side - 5) // 3 + 1
        self.conv = Convolution(channels, 128, 1, batchnorm=net.normalisation == "batchnorm")
        self.fc = nn.Linear(128 * pooled * pooled, 1024)
        self.dropout = nn.Dropout(0.7)
        self.classifier = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[N, classes]` of a map `[N, channels, H, W]`."""
        x = self.conv(self.pool(x)).flatten(1)
        return cast(Tensor, self.classifier(self.dropout(functional.relu(self.fc(x)))))


class LocalResponseNorm(nn.Module):
    """Local response normalisation across 5 channels, as Caffe's GoogLeNet has it.

    `x / (1 + alpha / 5 * sum of squares) ** 0.75` with alpha 1e-4: equal to
    `torch.nn.LocalResponseNorm(5, 1e-4, 0.75, 1)`. The sum over neighbouring channels is written
    as a 1x1 convolution with a banded matrix, and the power by square roots, since torch's own
    pads, pools and raises to powers outside of the channels-last and bfloat16 kernels.
    """

    SIZE, ALPHA, K = 5, 1e-4, 1.0

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
        """`[N, C, H, W]` to the same shape."""
        root = functional.conv2d(x * x, self.band, self.k).rsqrt()  # scale ** -0.5
        if torch.is_grad_enabled() and x.requires_grad:
            return x * root * root.sqrt()
        return root.sqrt().mul_(root).mul_(x)  # a third of the memory traffic


def initialise(module: nn.Module) -> None:
    """As Caffe's `bvlc_googlenet` starts: "xavier" by the fan-in, biases of convolutions 0.2."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        bound = math.sqrt(3 / module.weight[0].numel())
        nn.init.uniform_(module.weight, -bound, bound)
        if module.bias is not None:
            nn.init.constant_(module.bias, 0.2 if isinstance(module, nn.Conv2d) else 0.0)

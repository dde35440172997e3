"""GoogLeNet's layers as data: Table 1 of *Going deeper with convolutions* (arXiv 1409.4842).

The PyTorch modules (`detector.models.torch_googlenet`) and OpenVINO's graph
(`detector.backends.openvino_graph`) are both built from these descriptions.

Layers have the names of Caffe's `bvlc_googlenet`, so that its weights can be loaded; only the last
layer has another name, `classifier`. Details that the paper leaves open follow Caffe: the position
of local response normalisation, ceil-mode pooling, and ReLU after every convolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from detector.bundles.manifest import Architecture

Shapes = dict[str, tuple[int, ...]]
"""The shapes of a network's tensors by their names."""


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

BATCHNORM_EPSILON = 1e-3
"""What BatchNorm adds to the variance."""

LRN_SIZE = 5
LRN_ALPHA = 1e-4
"""Local response normalisation: `x / (1 + LRN_ALPHA / LRN_SIZE * sum of squares) ** 0.75`, where
the sum is over `LRN_SIZE` neighbouring channels."""


@dataclass(frozen=True)
class ConvolutionLayer:
    """A convolution with padding of half the kernel, BatchNorm or a bias, and ReLU.

    Args:
        name: Name of its weights.
        inputs: Number of input channels.
        outputs: Number of output channels.
        kernel: Side of the kernel.
        stride: Step in both axes.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1


@dataclass(frozen=True)
class DepthwiseLayer:
    """A convolution of each channel by itself, without bias and ReLU.

    Args:
        name: Name of its weights.
        channels: Number of input channels.
        multiplier: Number of output channels for each input channel.
        kernel: Side of the kernel.
        stride: Step in both axes.
    """

    name: str
    channels: int
    multiplier: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class NormLayer:
    """Local response normalisation across `LRN_SIZE` channels."""

    name: str
    channels: int


@dataclass(frozen=True)
class PoolLayer:
    """Max-pooling with stride 2 in ceil mode.

    Args:
        kernel: Side of the kernel.
    """

    kernel: int


@dataclass(frozen=True)
class InceptionLayer:
    """An Inception module: four parallel branches, whose outputs are concatenated.

    Args:
        name: Name of the module.
        one: The 1x1 branch.
        three: The 3x3 branch: a reduction and a convolution.
        five: The 5x5 branch: a reduction and a convolution.
        pool: The projection after a 3x3 max-pooling with stride 1.
    """

    name: str
    one: ConvolutionLayer
    three: tuple[ConvolutionLayer, ConvolutionLayer]
    five: tuple[ConvolutionLayer, ConvolutionLayer]
    pool: ConvolutionLayer

    @property
    def convolutions(self) -> tuple[ConvolutionLayer, ...]:
        """The module's convolutions in the order of Table 1's columns."""
        return (self.one, *self.three, *self.five, self.pool)

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return self.one.outputs + self.three[1].outputs + self.five[1].outputs + self.pool.outputs


Layer = ConvolutionLayer | DepthwiseLayer | NormLayer | PoolLayer | InceptionLayer


def trunk_layers(architecture: Architecture) -> tuple[Layer, ...]:
    """Return the layers up to the last Inception module."""
    return tuple(_trunk_layers(architecture))


def _trunk_layers(architecture: Architecture) -> Iterator[Layer]:
    c64 = architecture.channels(64)
    c192 = architecture.channels(192)
    lrn = architecture.normalisation == "lrn"
    torchvision = architecture.variant == "torchvision"

    # Stages 1 and 2
    if architecture.stem == "dense":
        yield ConvolutionLayer("conv1.7x7_s2", 3, c64, 7, stride=2)
    else:
        yield DepthwiseLayer("conv1.7x7_s2_depthwise", 3, 8, 7, stride=2)
        yield ConvolutionLayer("conv1.7x7_s2", 24, c64, 1)
    yield PoolLayer(3)
    if lrn:
        yield NormLayer("norm1", c64)
    yield ConvolutionLayer("conv2.3x3_reduce", c64, c64, 1)
    yield ConvolutionLayer("conv2.3x3", c64, c192, 3)
    if lrn:
        yield NormLayer("norm2", c192)
    yield PoolLayer(3)

    # Stages 3 to 5
    channels = c192
    for name, table in INCEPTIONS.items():
        if name == "4a":
            yield PoolLayer(3)
        if name == "5a":
            yield PoolLayer(2 if torchvision else 3)
        branches = Branches(*map(architecture.channels, table))
        module = _inception(f"inception_{name}", channels, branches, 3 if torchvision else 5)
        yield module
        channels = module.channels


def _inception(name: str, inputs: int, branches: Branches, five: int) -> InceptionLayer:
    """Return an Inception module; `five` is the kernel of its 5x5 branch."""
    three_reduce = ConvolutionLayer(f"{name}.3x3_reduce", inputs, branches.three_reduce, 1)
    five_reduce = ConvolutionLayer(f"{name}.5x5_reduce", inputs, branches.five_reduce, 1)
    return InceptionLayer(
        name,
        one=ConvolutionLayer(f"{name}.1x1", inputs, branches.one, 1),
        three=(
            three_reduce,
            ConvolutionLayer(f"{name}.3x3", branches.three_reduce, branches.three, 3),
        ),
        five=(
            five_reduce,
            ConvolutionLayer(f"{name}.5x5", branches.five_reduce, branches.five, five),
        ),
        pool=ConvolutionLayer(f"{name}.pool_proj", inputs, branches.pool, 1),
    )


def convolutions(architecture: Architecture) -> list[ConvolutionLayer]:
    """Return the trunk's convolutions, except the depthwise one."""
    found: list[ConvolutionLayer] = []
    for layer in trunk_layers(architecture):
        if isinstance(layer, ConvolutionLayer):
            found.append(layer)
        elif isinstance(layer, InceptionLayer):
            found += layer.convolutions
    return found


def channels_after(architecture: Architecture, name: str) -> int:
    """Return the number of channels after an Inception module, such as "4d"."""
    return next(
        layer.channels
        for layer in trunk_layers(architecture)
        if isinstance(layer, InceptionLayer) and layer.name == f"inception_{name}"
    )


def classifier_shapes(architecture: Architecture, classes: int) -> Shapes:
    """Return the shapes of a classifier's tensors, without auxiliary heads."""
    channels = channels_after(architecture, "5b")
    return {**trunk_shapes(architecture), **linear_shapes("classifier", channels, classes)}


def trunk_shapes(architecture: Architecture) -> Shapes:
    """Return the shapes of the tensors up to the last Inception module."""
    shapes: Shapes = {}
    for layer in trunk_layers(architecture):
        if isinstance(layer, DepthwiseLayer):
            outputs = layer.channels * layer.multiplier
            shapes[f"{layer.name}.weight"] = (outputs, 1, layer.kernel, layer.kernel)
    for layer in convolutions(architecture):
        batchnorm = architecture.normalisation == "batchnorm"
        shapes |= convolution_shapes(layer, batchnorm=batchnorm)
    return shapes


def convolution_shapes(layer: ConvolutionLayer, *, batchnorm: bool) -> Shapes:
    """Return the shapes of a convolution's tensors, with those of its BatchNorm."""
    kernel = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)
    shapes: Shapes = {f"{layer.name}.weight": kernel}
    if not batchnorm:
        return {**shapes, f"{layer.name}.bias": (layer.outputs,)}
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        shapes[f"{layer.name}.norm.{tensor}"] = (layer.outputs,)
    return {**shapes, f"{layer.name}.norm.num_batches_tracked": ()}


def linear_shapes(name: str, inputs: int, outputs: int) -> Shapes:
    """Return the shapes of a fully connected layer's tensors."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def feature_map_sides(size: int, architecture: Architecture) -> tuple[int, int]:
    """Return the sides of the feature maps of stages 4 and 5 for crops of a size in pixels.

    The first convolution halves a side and rounds up. Max-pooling of 3x3 with stride 2, in ceil
    mode as in Caffe, halves it and rounds down. Torchvision's last pooling, of 2x2, rounds up.
    """
    fourth = math.ceil(size / 2) // 2 // 2 // 2
    fifth = math.ceil(fourth / 2) if architecture.variant == "torchvision" else fourth // 2
    return fourth, fifth

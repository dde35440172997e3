"""OpenVINO's graphs of the networks, built from the descriptions of their layers.

Letters of shapes: N crops or images, S their side, C channels, H and W a feature map's sides,
K priors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset14 as ops

from detector.bundles.manifest import Architecture, MultiBoxRecipe
from detector.models.googlenet import (
    BATCHNORM_EPSILON,
    LRN_ALPHA,
    LRN_SIZE,
    ConvolutionLayer,
    DepthwiseLayer,
    InceptionLayer,
    Layer,
    NormLayer,
    PoolLayer,
    feature_map_sides,
    trunk_layers,
)
from detector.models.multibox import SHARED_SAMPLES, SHARED_WINDOW, head_convolutions
from detector.models.quantization import (
    LARGEST_ACTIVATION,
    LARGEST_WEIGHT,
    ActivationRanges,
    activation_ends,
    weight_ends,
)
from detector.models.weights import Weights

Node = Any
"""A node of an OpenVINO graph."""


def classifier_graph(
    weights: Weights, architecture: Architecture, activation_ranges: ActivationRanges | None = None
) -> ov.Model:
    """Return the graph of a classifier, for any number and size of crops.

    Args:
        weights: Tensors by their names.
        architecture: Variant of the network.
        activation_ranges: Activation range of each convolution, if they compute in 8 bits.

    Returns:
        A graph from crops `float32 [N, S, S, 3]` to class probabilities `float32 [N, classes]`.
    """
    crops = ops.parameter([-1, -1, -1, 3], np.float32, name="crops")
    builder = _Builder(weights, architecture, activation_ranges)
    x = ops.transpose(crops, np.array([0, 3, 1, 2]))  # [N, 3, S, S]
    for layer in trunk_layers(architecture):
        x = builder.add(layer, x)

    x = ops.reduce_mean(x, np.array([2, 3]), keep_dims=False)  # [N, C]
    logits = builder.linear("classifier", x)  # [N, classes]
    return ov.Model([ops.softmax(logits, axis=1)], [crops], "classifier")


def multibox_graph(weights: Weights, recipe: MultiBoxRecipe) -> ov.Model:
    """Return the graph of MultiBox's network, for any number of images.

    Args:
        weights: Tensors by their names.
        recipe: Architecture, number of priors, and kind of head.

    Returns:
        A graph from images `float32 [N, S, S, 3]` to offsets from the priors `float32 [N, K, 4]`
        and logits of the confidences `float32 [N, K]`.
    """
    images = ops.parameter([-1, recipe.size, recipe.size, 3], np.float32, name="images")
    builder = _Builder(weights, recipe.architecture, activation_ranges=None)
    x = ops.transpose(images, np.array([0, 3, 1, 2]))  # [N, 3, S, S]
    after_4d = x
    for layer in trunk_layers(recipe.architecture):
        x = builder.add(layer, x)
        if isinstance(layer, InceptionLayer) and layer.name == "inception_4d":
            after_4d = x

    head = _dense_head if recipe.head == "dense" else _shared_head
    offsets, logits = head(builder, recipe, after_4d, x)
    return ov.Model([offsets, logits], [images], "multibox")


def _dense_head(
    builder: _Builder, recipe: MultiBoxRecipe, _: Node, last: Node
) -> tuple[Node, Node]:
    """Add the paper's head: a hidden layer over the whole last map."""
    (reduce,) = head_convolutions(recipe)
    x = builder.convolution(reduce, last)
    _, side = feature_map_sides(recipe.size, recipe.architecture)
    inputs = reduce.outputs * side**2
    x = ops.reshape(x, np.array([-1, inputs]), special_zero=False)  # [N, inputs]
    x = ops.relu(builder.linear("head.hidden", x))  # [N, hidden]
    offsets = builder.linear("head.locations", x)
    offsets = ops.reshape(offsets, np.array([-1, recipe.priors, 4]), special_zero=False)
    return offsets, builder.linear("head.confidences", x)


def _shared_head(
    builder: _Builder, recipe: MultiBoxRecipe, after_4d: Node, last: Node
) -> tuple[Node, Node]:
    """Add the head that samples two maps in and around each prior; see `SharedHead`."""
    priors = builder.weights["priors"]
    samples = []
    sides = feature_map_sides(recipe.size, recipe.architecture)
    for layer, x, side in zip(head_convolutions(recipe), (after_4d, last), sides, strict=True):
        x = builder.convolution(layer, x)
        samples.append(_sample(x, priors, layer.outputs, side))
    x = ops.concat(samples, axis=2)  # [N, K, inputs]
    x = ops.relu(builder.linear("head.hidden", x))  # [N, K, hidden]
    logits = builder.linear("head.confidences", x)  # [N, K, 1]
    return builder.linear("head.locations", x), ops.squeeze(logits, np.array([2]))


def _sample(x: Node, priors: NDArray[np.float32], channels: int, side: int) -> Node:
    """Return samples `[N, K, C * SHARED_SAMPLES²]` of a map `[N, C, side, side]`."""
    count = SHARED_SAMPLES**2
    rows = sample_weights(priors[:, 1::2], side)  # [K, samples, H]
    columns = sample_weights(priors[:, 0::2], side)  # [K, samples, W]
    weights = columns[:, :, None, None, :] * rows[:, None, :, :, None]  # [K, x, y, H, W]
    weights = weights.reshape(-1, side * side)  # [K * samples², H * W]

    flat = ops.reshape(x, np.array([0, channels, side * side]), special_zero=True)
    product = ops.matmul(flat, ops.constant(weights), transpose_a=False, transpose_b=True)
    shape = np.array([0, channels, len(priors), count])
    samples = ops.reshape(product, shape, special_zero=True)  # [N, C, K, samples²]
    samples = ops.transpose(samples, np.array([0, 2, 1, 3]))  # [N, K, C, samples²]
    return ops.reshape(samples, np.array([0, 0, channels * count]), special_zero=True)


def sample_weights(ends: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the weight of each position of a map's side in each sample; see `SharedHead`.

    Args:
        ends: Both ends of the priors along this side, `[K, 2]`, as shares of the side.
        side: Number of positions.

    Returns:
        Weights `float32 [K, SHARED_SAMPLES, side]`.
    """
    one = np.float32(1)
    first, last = (ends * np.float32(side)).T  # each [K]
    step = (last - first) * np.float32(SHARED_WINDOW) / np.float32(SHARED_SAMPLES)
    number = np.arange(SHARED_SAMPLES, dtype=np.float32) - np.float32((SHARED_SAMPLES - 1) / 2)
    centre = ((first + last) / np.float32(2))[:, None] + number * step[:, None]  # [K, samples]
    position = np.arange(side, dtype=np.float32) + np.float32(0.5)  # [side]
    width = np.maximum(step, one)[:, None, None]
    weights = one - np.abs(centre[:, :, None] - position) / width
    return np.asarray(np.maximum(weights, np.float32(0)) / width, np.float32)


@dataclass(frozen=True)
class _Builder:
    """Adds layers to a graph.

    Args:
        weights: Tensors by their names.
        architecture: Variant of the network.
        activation_ranges: Activation ranges, if convolutions compute in 8 bits.
    """

    weights: Weights
    architecture: Architecture
    activation_ranges: Mapping[str, tuple[float, float]] | None

    def add(self, layer: Layer, x: Node) -> Node:
        """Add a layer of the trunk."""
        match layer:
            case ConvolutionLayer():
                return self.convolution(layer, x)
            case DepthwiseLayer():
                return self.depthwise(layer, x)
            case NormLayer():
                return self.local_response_norm(layer, x)
            case PoolLayer():
                return _max_pool(x, layer.kernel, stride=2, padding=0, rounding="ceil_torch")
            case InceptionLayer():
                return self.inception(layer, x)

    def inception(self, layer: InceptionLayer, x: Node) -> Node:
        """Add an Inception module."""
        one = self.convolution(layer.one, x)
        three = self.convolution(layer.three[1], self.convolution(layer.three[0], x))
        five = self.convolution(layer.five[1], self.convolution(layer.five[0], x))
        pooled = _max_pool(x, 3, stride=1, padding=1, rounding="floor")
        pool = self.convolution(layer.pool, pooled)
        return ops.concat([one, three, five, pool], axis=1)

    def convolution(self, layer: ConvolutionLayer, x: Node) -> Node:
        """Add a convolution with its bias and ReLU, in 8 bits if there are activation ranges."""
        weight, bias = self._fold_batchnorm(layer.name)
        kernel = ops.constant(weight)
        if self.activation_ranges is not None:
            low, high = self.activation_ranges[layer.name]
            x = _fake_quantize(x, *activation_ends(low, high), levels=LARGEST_ACTIVATION + 1)
            kernel = _fake_quantize(kernel, *weight_ends(weight), levels=2 * LARGEST_WEIGHT + 1)
        y = _convolve(x, kernel, layer.stride, layer.kernel // 2)
        return ops.relu(ops.add(y, ops.constant(bias.reshape(1, -1, 1, 1))))

    def depthwise(self, layer: DepthwiseLayer, x: Node) -> Node:
        """Add a convolution of each channel by itself."""
        weight = self.weights[f"{layer.name}.weight"]  # [C * multiplier, 1, kernel, kernel]
        kernel = weight.reshape(layer.channels, layer.multiplier, 1, *weight.shape[2:])
        padding = [layer.kernel // 2] * 2
        strides = [layer.stride] * 2
        return ops.group_convolution(x, ops.constant(kernel), strides, padding, padding, [1, 1])

    def local_response_norm(self, layer: NormLayer, x: Node) -> Node:
        """Add local response normalisation, made of the same operations as in PyTorch."""
        index = np.arange(layer.channels)
        near = np.abs(index[:, None] - index[None, :]) <= LRN_SIZE // 2  # [C, C]
        band = near.astype(np.float32) * np.float32(LRN_ALPHA / LRN_SIZE)
        ones = np.ones((1, layer.channels, 1, 1), np.float32)

        squares = ops.multiply(x, x)
        sums = _convolve(squares, ops.constant(band[:, :, None, None]), stride=1, padding=0)
        scale = ops.add(sums, ops.constant(ones))
        root = ops.divide(ops.constant(np.float32(1)), ops.sqrt(scale))  # scale ** -0.5
        return ops.multiply(ops.multiply(x, root), ops.sqrt(root))

    def linear(self, name: str, x: Node) -> Node:
        """Add a fully connected layer."""
        weight = ops.constant(self.weights[f"{name}.weight"])
        product = ops.matmul(x, weight, transpose_a=False, transpose_b=True)
        return ops.add(product, ops.constant(self.weights[f"{name}.bias"]))

    def _fold_batchnorm(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a convolution's weights and biases, multiplied and shifted by its BatchNorm."""
        weight = self.weights[f"{name}.weight"]
        if self.architecture.normalisation != "batchnorm":
            return weight, self.weights[f"{name}.bias"]
        norm = f"{name}.norm"
        variance = self.weights[f"{norm}.running_var"] + np.float32(BATCHNORM_EPSILON)
        factor = self.weights[f"{norm}.weight"] / np.sqrt(variance)
        bias = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * factor
        folded = np.asarray(weight * factor[:, None, None, None], np.float32)
        return folded, np.asarray(bias, np.float32)


def _convolve(x: Node, kernel: Node, stride: int, padding: int) -> Node:
    return ops.convolution(x, kernel, [stride] * 2, [padding] * 2, [padding] * 2, [1, 1])


def _max_pool(x: Node, kernel: int, *, stride: int, padding: int, rounding: str) -> Node:
    paddings = [padding] * 2
    pool = ops.max_pool(x, [stride] * 2, [1, 1], paddings, paddings, [kernel] * 2, rounding)
    return pool.output(0)  # the other output has the positions of the maxima


def _fake_quantize(
    x: Node, low: NDArray[np.float32], high: NDArray[np.float32], *, levels: int
) -> Node:
    """Add rounding to evenly spaced values, from which OpenVINO makes integer arithmetic."""
    ends = [ops.constant(low), ops.constant(high)]
    return ops.fake_quantize(x, *ends, *ends, levels)

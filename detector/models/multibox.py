"""The head of MultiBox's network as data: its convolutions and the shapes of its tensors.

The PyTorch modules (`detector.models.torch_multibox`) and OpenVINO's graph
(`detector.backends.openvino_graph`) are built from it and from GoogLeNet's trunk.
"""

from __future__ import annotations

from detector.bundles.manifest import MultiBoxRecipe
from detector.models.googlenet import (
    ConvolutionLayer,
    Shapes,
    channels_after,
    convolution_shapes,
    feature_map_sides,
    linear_shapes,
    trunk_shapes,
)

DENSE_REDUCED = 64
"""Channels to which MultiBox's dense head reduces the last map."""

SHARED_REDUCED = 32
"""Channels to which MultiBox's shared head reduces each of its two maps."""

SHARED_SAMPLES = 5
"""Number of samples that the shared head takes along each side of a prior's window."""

SHARED_WINDOW = 1.5
"""Sides of that window as multiples of the prior's sides."""


def multibox_shapes(recipe: MultiBoxRecipe) -> Shapes:
    """Return the shapes of the tensors of MultiBox's network."""
    batchnorm = recipe.architecture.normalisation == "batchnorm"
    shapes: Shapes = {"priors": (recipe.priors, 4), **trunk_shapes(recipe.architecture)}
    for layer in head_convolutions(recipe):
        shapes |= convolution_shapes(layer, batchnorm=batchnorm)

    if recipe.head == "dense":
        _, side = feature_map_sides(recipe.size, recipe.architecture)
        inputs = DENSE_REDUCED * side**2
        boxes = recipe.priors
    else:
        inputs = 2 * SHARED_REDUCED * SHARED_SAMPLES**2
        boxes = 1
    shapes |= linear_shapes("head.hidden", inputs, recipe.hidden)
    shapes |= linear_shapes("head.locations", recipe.hidden, 4 * boxes)
    shapes |= linear_shapes("head.confidences", recipe.hidden, boxes)
    return shapes


def count_sample_weights(recipe: MultiBoxRecipe) -> int:
    """Return the number of weights with which the shared head samples its maps.

    They are computed from the priors when the network is loaded: one for each position of a map in
    each sample.
    """
    if recipe.head == "dense":
        return 0
    sides = feature_map_sides(recipe.size, recipe.architecture)
    return recipe.priors * SHARED_SAMPLES**2 * sum(side**2 for side in sides)


def head_convolutions(recipe: MultiBoxRecipe) -> tuple[ConvolutionLayer, ...]:
    """Return the 1x1 convolutions with which a head of MultiBox reduces the trunk's maps.

    The dense head reduces the last map. The shared head reduces the map after 4d and the last one.
    """
    last = channels_after(recipe.architecture, "5b")
    if recipe.head == "dense":
        return (ConvolutionLayer("head.reduce", last, DENSE_REDUCED, 1),)
    after_4d = channels_after(recipe.architecture, "4d")
    return (
        ConvolutionLayer("head.reduce.0", after_4d, SHARED_REDUCED, 1),
        ConvolutionLayer("head.reduce.1", last, SHARED_REDUCED, 1),
    )

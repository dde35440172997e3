"""The network of MultiBox: GoogLeNet's trunk with a head that predicts boxes of a whole image.

A head sees the trunk's feature maps, with their positions, and not their average as a classifier
does. Like the last two layers of the paper's AlexNet, it has a hidden layer and a linear layer for
locations and confidences.

Boxes are regressed as offsets from priors. Coordinates are x1, y1, x2, y2 as shares of the image's
sides.

Letters of shapes: N images, S an image's side, K priors, C channels, H and W a feature map's sides.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from detector.bundles.manifest import MultiBoxRecipe
from detector.models.multibox import (
    SHARED_SAMPLES,
    SHARED_WINDOW,
    head_convolutions,
    multibox_shapes,
)
from detector.models.torch_googlenet import Convolution, Trunk, initialise
from detector.models.weights import Weights
from proposals.types import Boxes

OBJECTS = 3.0
"""Typical number of objects in an image. Before training, the mean confidence is this number
divided by K."""


class MultiBoxNetwork(Trunk):
    """Predicts K boxes of an image and their confidences.

    Args:
        recipe: Architecture, number of priors, and kind of head.
        priors: `float32 [K, 4]`; zeros until weights are loaded.
    """

    priors: Tensor

    def __init__(self, recipe: MultiBoxRecipe, priors: Boxes | None = None) -> None:
        super().__init__(recipe.architecture)
        self.spread = recipe.spread
        if priors is None:
            priors = np.zeros((recipe.priors, 4), np.float32)
        self.register_buffer("priors", torch.from_numpy(priors.copy()))

        self.head: DenseHead | SharedHead
        if recipe.head == "dense":
            self.head = DenseHead(recipe)
        else:
            self.head = SharedHead(recipe)

        # Boxes start close to their priors, and confidences at the share of boxes with an object.
        self.head.apply(initialise)
        nn.init.normal_(self.head.locations.weight, std=0.01)
        nn.init.normal_(self.head.confidences.weight, std=0.01)
        share = min(0.5, OBJECTS / recipe.priors)
        nn.init.constant_(self.head.confidences.bias, math.log(share / (1 - share)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes `[N, K, 4]` and logits `[N, K]` of normalised images `[N, 3, S, S]`."""
        offsets, logits = self.predict_offsets(x)
        return self.decode_boxes(offsets.float()), logits.float()

    def predict_offsets(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the head's output for normalised images `[N, 3, S, S]`.

        Returns:
            Offsets from the priors `[N, K, 4]`, in units of `spread` times the prior's sides, and
            logits of the confidences `[N, K]`.
        """
        last, _, after_4d = self.features(x)
        outputs: tuple[Tensor, Tensor] = self.head(after_4d, last, self.priors)
        return outputs

    def decode_boxes(self, offsets: Tensor) -> Tensor:
        """Return the boxes `[N, K, 4]` of offsets from the priors `[N, K, 4]`."""
        sides = (self.priors[:, 2:] - self.priors[:, :2]).tile(2)  # [K, 4]
        return self.priors + self.spread * sides * offsets


def make_multibox_network(weights: Weights, recipe: MultiBoxRecipe) -> MultiBoxNetwork:
    """Return MultiBox's network with these weights, in float32 and in evaluation mode.

    Args:
        weights: Tensors by their names.
        recipe: Architecture, number of priors, and kind of head.
    """
    network = MultiBoxNetwork(recipe)
    network.load_state_dict({name: torch.tensor(tensor) for name, tensor in weights.items()})
    return network.eval()


class DenseHead(nn.Module):
    """The head of the paper: a hidden layer over the whole last map, separate weights per box."""

    def __init__(self, recipe: MultiBoxRecipe) -> None:
        super().__init__()
        batchnorm = recipe.architecture.normalisation == "batchnorm"
        (reduce,) = head_convolutions(recipe)
        _, inputs = multibox_shapes(recipe)["head.hidden.weight"]
        self.reduce = Convolution(reduce, batchnorm=batchnorm)
        self.hidden = nn.Linear(inputs, recipe.hidden)
        self.dropout = nn.Dropout(0.4)
        self.locations = nn.Linear(recipe.hidden, 4 * recipe.priors)
        self.confidences = nn.Linear(recipe.hidden, recipe.priors)

    def forward(self, _: Tensor, last: Tensor, __: Tensor) -> tuple[Tensor, Tensor]:
        """Return offsets `[N, K, 4]` and logits `[N, K]` of the trunk's last map `[N, C, H, W]`."""
        x = self.reduce(last).flatten(1)  # [N, 64 * 7 * 7] for S = 224
        x = self.dropout(functional.relu(self.hidden(x)))  # [N, hidden]
        offsets = self.locations(x).reshape(len(x), -1, 4)  # [N, K, 4]
        return offsets, self.confidences(x)


class SharedHead(nn.Module):
    """A head with the same weights for all boxes, on features sampled in and around each prior.

    *Scalable, High-Quality Object Detection* (arXiv 1412.1441) does this for priors on grids. An
    object at any position then improves the boxes at all positions.
    """

    def __init__(self, recipe: MultiBoxRecipe) -> None:
        super().__init__()
        batchnorm = recipe.architecture.normalisation == "batchnorm"
        _, inputs = multibox_shapes(recipe)["head.hidden.weight"]
        self.reduce = nn.ModuleList(
            Convolution(layer, batchnorm=batchnorm) for layer in head_convolutions(recipe)
        )
        self.hidden = nn.Linear(inputs, recipe.hidden)
        self.dropout = nn.Dropout(0.2)
        self.locations = nn.Linear(recipe.hidden, 4)
        self.confidences = nn.Linear(recipe.hidden, 1)

    def forward(self, after_4d: Tensor, last: Tensor, priors: Tensor) -> tuple[Tensor, Tensor]:
        """Return offsets `[N, K, 4]` and logits `[N, K]`.

        Args:
            after_4d: The map after Inception 4d, `[N, C, H, W]`.
            last: The trunk's last map, `[N, C, H, W]`.
            priors: `[K, 4]`.
        """
        maps = [reduce(x) for reduce, x in zip(self.reduce, (after_4d, last), strict=True)]
        x = torch.cat([self._sample(x, priors) for x in maps], dim=2)  # [N, K, inputs]
        x = self.dropout(functional.relu(self.hidden(x)))  # [N, K, hidden]
        return self.locations(x), self.confidences(x)[..., 0]

    def _sample(self, x: Tensor, priors: Tensor) -> Tensor:
        """Return samples `[N, K, C * SAMPLES²]` of a map `[N, C, H, W]`; the map is 0 outside.

        All samples are one product of matrices: the map times the weight of each of its positions
        in each sample.
        """
        rows = self._weights(priors[:, 1::2], x.shape[2])  # [K, SAMPLES, H]
        columns = self._weights(priors[:, 0::2], x.shape[3])  # [K, SAMPLES, W]
        weights = columns[:, :, None, None, :] * rows[:, None, :, :, None]  # [K, x, y, H, W]
        weights = weights.flatten(0, 2).flatten(1)  # [K * SAMPLES², H * W]
        samples = functional.linear(x.flatten(2), weights.to(x.dtype))  # [N, C, K * SAMPLES²]
        samples = samples.reshape(*x.shape[:2], len(priors), -1)  # [N, C, K, SAMPLES²]
        return samples.transpose(1, 2).flatten(2)  # [N, K, C * SAMPLES²]

    def _weights(self, ends: Tensor, side: int) -> Tensor:
        """Return the weight of each position of a map's side in each sample.

        A sample is a bilinear interpolation. Where samples are further apart than positions, it is
        the mean under a triangle as wide as that distance.

        Args:
            ends: Both ends of the priors along this side, `[K, 2]`, as shares of the side.
            side: Number of positions.

        Returns:
            Weights `[K, SAMPLES, side]`.
        """
        # Centres of the samples, in positions.
        first, last = (ends * side).unbind(dim=1)  # each [K]
        step = ((last - first) * SHARED_WINDOW / SHARED_SAMPLES)[:, None, None]  # [K, 1, 1]
        number = torch.arange(SHARED_SAMPLES, device=ends.device) - (SHARED_SAMPLES - 1) / 2
        centre = ((first + last) / 2)[:, None, None] + number[:, None] * step  # [K, SAMPLES, 1]

        # Triangles around them.
        position = torch.arange(side, device=ends.device) + 0.5  # [side]
        width = step.clamp(min=1)
        return (1 - (centre - position).abs() / width).clamp(min=0) / width

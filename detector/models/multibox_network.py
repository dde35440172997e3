"""The network of MultiBox: GoogLeNet's trunk, which sees where objects are in a whole picture.

The trunk's maps keep their places, unlike in a classifier. What the paper's AlexNet has as its
last two layers follows: a hidden layer, and a linear one that gives locations and confidences.

Letters of shapes: N pictures, S a picture's side, K priors.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from detector.backends.pytorch import Precision
from detector.bundles.manifest import MultiBoxRecipe, Normalisation
from detector.models.googlenet import Convolution, Inception, Trunk, initialise, map_sides
from detector.regions.crops import normalise
from proposals.types import Boxes

OBJECTS = 3.0
"""In a picture, about: the confidences begin as likely as that many boxes of K are objects'."""


class MultiBoxNetwork(Trunk):
    """From pictures to the places and confidences of K boxes.

    Args:
        recipe: of what shape.
        priors: `float32 [K, 4]`, as shares of a picture's sides; zeros until weights are loaded.
    """

    priors: Tensor

    def __init__(self, recipe: MultiBoxRecipe, priors: Boxes | None = None) -> None:
        super().__init__(recipe.architecture)
        self.spread = recipe.spread
        start = np.zeros((recipe.priors, 4), np.float32) if priors is None else priors
        self.register_buffer("priors", torch.from_numpy(start.copy()))
        self.head: Dense | Shared
        if recipe.head == "dense":
            self.head = Dense(self.channels, recipe)
        else:
            after_4d = cast(Inception, self.get_submodule("inception_4d")).channels
            self.head = Shared((after_4d, self.channels), recipe)
        self.head.apply(initialise)
        for layer in (self.head.locations, self.head.confidences):  # boxes start at their priors
            nn.init.normal_(layer.weight, std=0.01)
        share = min(0.5, OBJECTS / recipe.priors)
        nn.init.constant_(self.head.confidences.bias, math.log(share / (1 - share)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes `[N, K, 4]` and logits `[N, K]` of normalised pictures `[N, 3, S, S]`."""
        moved, logits = self.look(x)
        return self.place(moved.float()), logits.float()

    def look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to priors, `[N, K, 4]` in their units, and logits `[N, K]`."""
        last, _, after_4d = self.features(x)
        found: tuple[Tensor, Tensor] = self.head(after_4d, last, self.priors)
        return found

    def place(self, moved: Tensor) -> Tensor:
        """Boxes `[N, K, 4]`, of what is added to priors."""
        sides = (self.priors[:, 2:] - self.priors[:, :2]).tile(2)  # [K, 4]
        return self.priors + self.spread * sides * moved


class Dense(nn.Module):
    """The paper's: a hidden layer that sees the whole last map, and weights of each box's own."""

    REDUCED = 64
    """Channels of the map that the hidden layer sees."""

    def __init__(self, channels: int, recipe: MultiBoxRecipe) -> None:
        super().__init__()
        _, side = map_sides(recipe.size, recipe.architecture)
        batchnorm = recipe.architecture.normalisation == "batchnorm"
        self.reduce = Convolution(channels, self.REDUCED, 1, batchnorm=batchnorm)
        self.hidden = nn.Linear(self.REDUCED * side * side, recipe.hidden)
        self.dropout = nn.Dropout(0.4)
        self.locations = nn.Linear(recipe.hidden, 4 * recipe.priors)
        self.confidences = nn.Linear(recipe.hidden, recipe.priors)

    def forward(self, _: Tensor, last: Tensor, __: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to priors, `[N, K, 4]` in their units, and logits `[N, K]`."""
        x = self.reduce(last).flatten(1)  # [N, 64 * 7 * 7] for S = 224
        x = self.dropout(functional.relu(self.hidden(x)))
        return self.locations(x).reshape(len(x), -1, 4), self.confidences(x)


class Shared(nn.Module):
    """The same layers for all boxes, on samples of two maps in and around each prior.

    As *Scalable, High-Quality Object Detection* (arXiv 1412.1441) has it for priors on grids: an
    object anywhere teaches the boxes everywhere.
    """

    REDUCED = 32
    """Channels of each map that are sampled."""
    SAMPLES = 5
    """Of a map along each side of a prior's window."""
    WINDOW = 1.5
    """The window's sides as multiples of the prior's."""

    def __init__(self, channels: tuple[int, int], recipe: MultiBoxRecipe) -> None:
        super().__init__()
        batchnorm = recipe.architecture.normalisation == "batchnorm"
        self.reduce = nn.ModuleList(
            Convolution(count, self.REDUCED, 1, batchnorm=batchnorm) for count in channels
        )
        inputs = len(channels) * self.REDUCED * self.SAMPLES**2
        self.hidden = nn.Linear(inputs, recipe.hidden)
        self.dropout = nn.Dropout(0.2)
        self.locations = nn.Linear(recipe.hidden, 4)
        self.confidences = nn.Linear(recipe.hidden, 1)

    def forward(self, after_4d: Tensor, last: Tensor, priors: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to priors, `[N, K, 4]` in their units, and logits `[N, K]`."""
        maps = [reduce(x) for reduce, x in zip(self.reduce, (after_4d, last), strict=True)]
        x = torch.cat([self._sample(x, priors) for x in maps], dim=2)  # [N, K, inputs]
        x = self.dropout(functional.relu(self.hidden(x)))
        return self.locations(x), self.confidences(x)[..., 0]

    def _sample(self, x: Tensor, priors: Tensor) -> Tensor:
        """Values `[N, K, C * samples]` of a map `[N, C, H, W]`, 0 outside of it.

        One product of matrices: what each place of the map counts for each sample, times the map.
        """
        rows = self._weights(priors[:, 1::2], x.shape[2])  # [K, samples, H]
        columns = self._weights(priors[:, 0::2], x.shape[3])  # [K, samples, W]
        places = columns[:, :, None, None, :] * rows[:, None, :, :, None]  # [K, ., ., H, W]
        found = functional.linear(x.flatten(2), places.flatten(0, 2).flatten(1).to(x.dtype))
        return found.reshape(*x.shape[:2], len(priors), -1).transpose(1, 2).flatten(2)

    def _weights(self, ends: Tensor, side: int) -> Tensor:
        """How much each place of a map's side counts for each sample between two ends `[K, 2]`.

        Bilinear interpolation, or the mean of a wider triangle where samples are further apart
        than places: `[K, samples, side]`.
        """
        first, last = (ends * side).unbind(dim=1)  # each [K], in places
        step = ((last - first) * self.WINDOW / self.SAMPLES)[:, None, None]  # [K, 1, 1]
        number = torch.arange(self.SAMPLES, device=ends.device) - (self.SAMPLES - 1) / 2
        sample = ((first + last) / 2)[:, None, None] + number[:, None] * step  # [K, samples, 1]
        place = torch.arange(side, device=ends.device) + 0.5
        width = step.clamp(min=1)
        return (1 - (sample - place).abs() / width).clamp(min=0) / width


class PyTorchMultiBox:
    """A network in PyTorch, as `MultiBox` calls it.

    Args:
        network: in evaluation mode; it is moved in place.
        normalisation: of the pixels.
        device: where it runs.
        precision: of its arithmetic, but for locations, which are float32.
    """

    def __init__(
        self,
        network: MultiBoxNetwork,
        normalisation: Normalisation,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.normalisation, self.device, self.half = normalisation, device, precision == "bfloat16"

    @torch.inference_mode()
    def __call__(
        self, pictures: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes `[N, K, 4]` and logits `[N, K]`, both float32, of pictures `uint8 [N, S, S, 3]`."""
        pixels = np.stack([normalise(picture, self.normalisation) for picture in pictures])
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)  # stored channels-last
        with (
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.half),
        ):
            boxes, logits = self.network(x)
        return np.asarray(boxes.cpu()), np.asarray(logits.cpu())

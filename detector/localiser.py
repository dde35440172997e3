"""The network of MultiBox: GoogLeNet's trunk, which sees where objects are in a whole picture.

The trunk's last map keeps its places up to the hidden layer, unlike in a classifier. What the
paper's AlexNet has as its last two layers follows: a hidden layer that sees the whole map, and a
linear layer that gives locations and confidences.

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
from detector.crops import normalise
from detector.googlenet import Convolution, Trunk, initialise, map_sides
from detector.manifest import MultiBoxRecipe, Normalisation
from proposals.types import Boxes

REDUCED = 64
"""Channels of the last map that the hidden layer sees."""

OBJECTS = 3.0
"""In a picture, about: the confidences begin as likely as that many boxes of K are objects'."""


class Localiser(Trunk):
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
        _, side = map_sides(recipe.size, recipe.architecture)
        batchnorm = self.architecture.normalisation == "batchnorm"
        self.reduce = Convolution(self.channels, REDUCED, 1, batchnorm=batchnorm)
        self.hidden = nn.Linear(REDUCED * side * side, recipe.hidden)
        self.dropout = nn.Dropout(0.4)
        self.locations = nn.Linear(recipe.hidden, 4 * recipe.priors)
        self.confidences = nn.Linear(recipe.hidden, recipe.priors)
        self.apply(initialise)
        for layer in (self.locations, self.confidences):  # boxes start at their priors
            nn.init.normal_(layer.weight, std=0.01)
        share = min(0.5, OBJECTS / recipe.priors)
        nn.init.constant_(self.confidences.bias, math.log(share / (1 - share)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes `[N, K, 4]` and logits `[N, K]` of normalised pictures `[N, 3, S, S]`."""
        x, _, _ = self.features(x)
        x = self.reduce(x).flatten(1)  # [N, 64 * 7 * 7] for S = 224
        x = self.dropout(functional.relu(self.hidden(x)))
        moved = cast(Tensor, self.locations(x)).float().reshape(len(x), -1, 4)  # [N, K, 4]
        return self.priors + self.spread * moved, cast(Tensor, self.confidences(x)).float()


class LocaliserBackend:
    """A network in PyTorch, as `MultiBox` calls it.

    Args:
        network: in evaluation mode; it is moved in place.
        normalisation: of the pixels.
        device: where it runs.
        precision: of its arithmetic, but for locations, which are float32.
    """

    def __init__(
        self,
        network: Localiser,
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

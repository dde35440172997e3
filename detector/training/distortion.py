"""Photometric distortion of crops: contrast, saturation and brightness."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.bundles.manifest import Normalisation

Distortions = NDArray[np.float32]
"""`[N, 3]`: factors of contrast and saturation, and an addend of brightness on a scale of 255."""

NEUTRAL = np.array([1, 1, 0], np.float32)
"""The distortion that changes nothing."""


def distort(crops: Tensor, distortions: Distortions, normalisation: Normalisation) -> bool:
    """Distort crops in place, and return whether anything had to be changed.

    Saturation moves between a pixel's colour and the mean of its channels. Contrast scales the
    distance from the mean colour of the training images, which is 0 after normalisation.

    Args:
        crops: Normalised crops, `float32 [N, S, S, 3]`.
        distortions: `float32 [N, 3]`.
        normalisation: How the crops were normalised.
    """
    if (distortions == NEUTRAL).all():
        return False
    factors = torch.from_numpy(distortions).to(crops.device)[:, :, None, None, None]
    contrast, saturation, brightness = factors.unbind(dim=1)  # each [N, 1, 1, 1]
    std = torch.tensor(normalisation.std, device=crops.device)
    grey = crops.mean(dim=3, keepdim=True)  # [N, S, S, 1]
    crops.lerp_(grey.expand_as(crops), 1 - saturation).mul_(contrast).add_(brightness / std)
    return True

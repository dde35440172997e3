"""Photometric distortion: contrast, saturation and brightness of crops."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.bundles.manifest import Normalisation

Distortions = NDArray[np.float32]
"""`[N, 3]`: factors of contrast and saturation, and what brightness adds on a scale of 255."""

NEUTRAL = np.array([1, 1, 0], np.float32)


def draw_distortions(n: int, strength: float, rng: np.random.Generator) -> Distortions:
    """Distortions of `n` crops, each number drawn evenly from what the strength allows.

    Args:
        strength: by how much factors differ from 1 at most, and brightness from 0 as a share of
            128.
    """
    spread = strength * np.array([1, 1, 128])
    return (NEUTRAL + rng.uniform(-1, 1, (n, 3)) * spread).astype(np.float32)


def distort(crops: Tensor, distortions: Distortions, normalisation: Normalisation) -> bool:
    """Distort normalised crops `[N, S, S, 3]` in place; says whether there was anything to do.

    Contrast is about the mean colour; saturation moves between a pixel's colour and the mean of
    its channels.
    """
    if (distortions == NEUTRAL).all():
        return False
    factors = torch.from_numpy(distortions).to(crops.device)[:, :, None, None, None]
    contrast, saturation, brightness = factors.unbind(dim=1)  # each [N, 1, 1, 1]
    std = torch.tensor(normalisation.std, device=crops.device)
    grey = crops.mean(dim=3, keepdim=True)  # [N, S, S, 1]
    crops.lerp_(grey.expand_as(crops), 1 - saturation).mul_(contrast).add_(brightness / std)
    return True

"""The scales of 8-bit integers for a classifier's convolutions.

The input of each convolution has one scale, which spans its activation range: the lowest and the
highest value that training crops gave. Weights have a scale for each output channel (Jacob et al.,
arXiv 1712.05877).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

ActivationRanges = Mapping[str, tuple[float, float]]
"""The lowest and the highest input value of each convolution, by the convolution's name."""

LARGEST_WEIGHT = 127
"""Largest integer code of an int8 weight; codes are symmetric around 0."""

LARGEST_ACTIVATION = 255
"""Largest integer code of a uint8 activation; codes start at 0."""


def activation_ends(low: float, high: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the values of the smallest and the largest code of a convolution's input.

    The range is widened and shifted so that 0 has a code, for padding to be exact.

    Args:
        low: Lowest value of the activation range.
        high: Highest value of the activation range.
    """
    low = min(low, 0.0)
    high = max(high, 1e-6)
    scale = (high - low) / LARGEST_ACTIVATION
    zero = round(-low / scale)  # the code of 0
    return (
        np.asarray(np.float32(-zero) * np.float32(scale)),
        np.asarray(np.float32(LARGEST_ACTIVATION - zero) * np.float32(scale)),
    )


def weight_ends(
    weight: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the values of the smallest and the largest code of each output channel's weights.

    Args:
        weight: `float32 [outputs, inputs, H, W]`.

    Returns:
        Two arrays `float32 [outputs, 1, 1, 1]`.
    """
    largest = np.abs(weight).max(axis=(1, 2, 3), keepdims=True).clip(np.float32(1e-9))
    high = largest / np.float32(LARGEST_WEIGHT) * np.float32(LARGEST_WEIGHT)
    return -high, high

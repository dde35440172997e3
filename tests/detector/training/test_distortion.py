from __future__ import annotations

import numpy as np
import torch

from detector.bundles.manifest import Normalisation
from detector.training.augmentation import draw_distortions
from detector.training.distortion import NEUTRAL, distort

NORMALISATION = Normalisation(std=(2.0, 4.0, 8.0))


def test_equals_the_literal_version() -> None:
    rng = np.random.default_rng(0)
    crops = rng.normal(size=(5, 6, 6, 3)).astype(np.float32)
    distortions = draw_distortions(5, 0.4, rng)
    literal = crops.copy()
    for crop, (contrast, saturation, brightness) in zip(literal, distortions, strict=True):
        for pixel in crop.reshape(-1, 3):
            grey = pixel.mean()
            pixel[:] = contrast * (saturation * pixel + (1 - saturation) * grey)
            pixel += brightness / np.array(NORMALISATION.std)
    fast = torch.from_numpy(crops)
    assert distort(fast, distortions, NORMALISATION)
    np.testing.assert_allclose(fast.numpy(), literal, atol=1e-5)


def test_no_strength_changes_nothing() -> None:
    crops = torch.ones(2, 3, 3, 3)
    distortions = draw_distortions(2, 0.0, np.random.default_rng(0))
    assert (distortions == NEUTRAL).all()
    assert not distort(crops, distortions, NORMALISATION)
    assert (crops == 1).all()


def test_strength_is_the_limit() -> None:
    drawn = draw_distortions(1000, 0.2, np.random.default_rng(0))
    spread = np.abs(drawn - NEUTRAL).max(axis=0)
    assert (spread <= [0.2001, 0.2001, 25.61]).all()
    assert (spread > [0.19, 0.19, 24]).all()

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.training.patch_batches import draw_patch
from detector.training.settings import Patches


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(0, 2**32))
def test_patches_are_inside_and_of_an_allowed_shape(width: int, height: int, seed: int) -> None:
    x, y, w, h = draw_patch(width, height, Patches(), np.random.default_rng(seed))
    assert 0 <= x <= x + w <= width
    assert 0 <= y <= y + h <= height
    assert w > 0
    assert h > 0
    if 1 < max(width, height) / min(width, height) < 4 / 3 and min(width, height) >= 40:
        assert w * h >= 0.08 * width * height * 0.9
        assert 0.75 * 0.92 <= w / h <= 1.334 * 1.08


def test_patches_have_the_papers_distribution() -> None:
    rng = np.random.default_rng(0)
    patches = np.array([draw_patch(3000, 3000, Patches(), rng) for _ in range(4000)], float)
    areas = patches[:, 2] * patches[:, 3] / 3000**2
    small = areas < 0.5  # larger ones may not fit for their shape
    assert areas.min() == pytest.approx(0.08, abs=0.01)
    expected = np.quantile(np.linspace(0.08, 0.5, 1000), [0.25, 0.5, 0.75])
    np.testing.assert_allclose(np.quantile(areas[small], [0.25, 0.5, 0.75]), expected, atol=0.03)
    logs = np.log(patches[small, 2] / patches[small, 3]) / math.log(4 / 3)
    np.testing.assert_allclose(np.quantile(logs, [0.25, 0.5, 0.75]), [-0.5, 0, 0.5], atol=0.07)


def test_a_strip_gives_its_middle() -> None:
    patches = Patches(smallest=1.0)
    assert draw_patch(1000, 30, patches, np.random.default_rng(0)) == (480, 0, 40, 30)
    assert draw_patch(30, 1000, patches, np.random.default_rng(0)) == (0, 480, 30, 40)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from detector.errors import ImageError
from detector.images import load
from detector.training.image_cache import ImageCache

IMAGE_BYTES = 80 * 100 * 3


def opened(painted: Path, budget: float) -> ImageCache:
    files = sorted(painted.with_suffix("").iterdir())
    return ImageCache(files, budget, torch.device("cpu"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def counting(file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        names.append(file.name)
        return load(file)

    monkeypatch.setattr("detector.training.image_cache.load", counting)
    return names


def test_what_fits_is_read_once(painted: Path, reads: list[str]) -> None:
    images = opened(painted, budget=1e9)
    for _ in range(3):
        assert set(images.read([2, 0, 2])) == {0, 2}
    assert sorted(reads) == ["0.png", "2.png"]
    np.testing.assert_array_equal(images.read([2])[2], load(painted.with_suffix("") / "2.png"))
    images.close()


def test_what_does_not_fit_is_read_again(painted: Path, reads: list[str]) -> None:
    images = opened(painted, budget=2.5 * IMAGE_BYTES)
    for _ in range(3):
        assert set(images.read(range(4))) == {0, 1, 2, 3}
    assert len(images) == 2
    assert len(reads) == 4 + 2 + 2
    images.close()


def test_an_image_that_is_gone_is_named(painted: Path) -> None:
    images = ImageCache([painted.with_name("gone.png")], 0, torch.device("cpu"))
    with pytest.raises(ImageError, match=r"gone\.png"):
        images.read([0])
    images.close()

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from detector.errors import ImageError
from detector.images import load
from detector.training.photos import Photos

PHOTO_BYTES = 80 * 100 * 3


def opened(painted: Path, budget: float) -> Photos:
    files = sorted(painted.with_suffix("").iterdir())
    return Photos(files, budget=budget, max_pixels=10**6, device=torch.device("cpu"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def counting(file: Path, *, max_pixels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        names.append(file.name)
        return load(file, max_pixels=max_pixels)

    monkeypatch.setattr("detector.training.photos.load", counting)
    return names


def test_what_fits_is_read_once(painted: Path, reads: list[str]) -> None:
    photos = opened(painted, budget=1e9)
    for _ in range(3):
        assert set(photos.read([2, 0, 2])) == {0, 2}
    assert sorted(reads) == ["0.png", "2.png"]
    np.testing.assert_array_equal(photos.read([2])[2], load(painted.with_suffix("") / "2.png"))
    photos.close()


def test_what_does_not_fit_is_read_again(painted: Path, reads: list[str]) -> None:
    photos = opened(painted, budget=2.5 * PHOTO_BYTES)
    for _ in range(3):
        assert set(photos.read(range(4))) == {0, 1, 2, 3}
    assert photos.kept == 2
    assert len(reads) == 4 + 2 + 2
    photos.close()


def test_a_photo_that_is_gone_is_named(painted: Path) -> None:
    photos = Photos(
        [painted.with_name("gone.png")],
        budget=0,
        max_pixels=10**6,
        device=torch.device("cpu"),
    )
    with pytest.raises(ImageError, match=r"gone\.png"):
        photos.read([0])
    photos.close()

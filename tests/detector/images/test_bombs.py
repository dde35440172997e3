"""Files that would take long or much memory are refused before they are decoded."""

from __future__ import annotations

import random

import pytest

from detector.errors import OversizedImage
from detector.images import load
from tests.support.bombs import BOMBS

REFUSED = {
    "jpeg of empty segments": "parts",
    "jpeg of many scans": "scans",
    "jpeg of too many pixels": "pixels",
    "jpeg of wrong lengths": "parts",
    "png of many frames": "parts",
    "png of one row": "longer than the 65,535 pixels",
    "png of too many pixels": "pixels",
    "tiff of many strips": "parts",
    "tiff of many tiles": "parts",
    "bigtiff of many tags": "parts",
    "webp of many frames": "parts",
    "webp of too many pixels": "pixels",
    "gif of too many pixels": "pixels",
    "bmp of too many pixels": "pixels",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_bombs_are_refused_by_name(kind: str) -> None:
    _, maker = BOMBS[kind]
    with pytest.raises(OversizedImage, match=REFUSED[kind]):
        load(maker(random.Random(0)))


@pytest.mark.parametrize(
    "kind",
    [
        "gif of many frames",
        "jpeg of large exif segments",
        "jpeg of many images",
        "tiff in a loop",
        "tiff of many images",
    ],
)
def test_what_follows_the_first_image_costs_nothing(kind: str) -> None:
    _, maker = BOMBS[kind]
    assert load(maker(random.Random(0))).shape in {(64, 64, 3), (480, 640, 3)}

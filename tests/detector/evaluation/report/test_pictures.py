from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.evaluation.average_precision import area
from detector.evaluation.matching import columns
from detector.evaluation.mistakes import find
from detector.evaluation.report.pictures import OF_A_KIND, SIDE, Gallery, Mistake, listing

SMALL, LARGE = (0, 0, 10, 10), (100, 100, 180, 180)


def test_listing_has_the_most_confident_first() -> None:
    image = AnnotatedImage(
        "a.png", 200, 200, np.array([SMALL, LARGE], np.float32), np.array([0, 1]), np.zeros(2, bool)
    )
    truth = GroundTruth({"cat": 1, "dog": 2}, (image,))
    found = columns([(0, 0, 0.3, 20, 20, 30, 30), (0, 1, 0.9, 40, 40, 50, 50)])
    assert list(listing(truth, found, find(truth, found, area))) == [
        Mistake("background", "a.png", "dog", 0.9, [40, 40, 50, 50], None, None),
        Mistake("background", "a.png", "cat", 0.3, [20, 20, 30, 30], None, None),
        Mistake("missed", "a.png", None, None, None, "dog", list(LARGE)),
        Mistake("missed", "a.png", None, None, None, "cat", list(SMALL)),
    ]


def test_a_picture_shows_both_boxes(tmp_path: Path) -> None:
    PillowImage.new("RGB", (2 * SIDE, SIDE), "blue").save(tmp_path / "a.png")
    gallery = Gallery(tmp_path)
    gallery.offer(
        Mistake("classification", "a.png", "cat", 0.9, [0, 0, 100, 100], "dog", [200, 50, 400, 200])
    )
    ((mistake, address),) = gallery.pictures["classification"]
    assert mistake.object == "dog"
    kind, content = address.split(",")
    assert kind == "data:image/jpeg;base64"
    picture = np.array(PillowImage.open(io.BytesIO(base64.b64decode(content))))
    assert picture.shape == (SIDE // 2, SIDE, 3)  # at half the photo's size
    assert picture[25, 1].argmax() == 0  # red
    assert picture[60, 101].argmax() == 1  # green
    assert picture[10, 250].argmax() == 2  # blue


def test_a_dozen_of_a_kind_and_no_unreadable_ones(tmp_path: Path) -> None:
    PillowImage.new("RGB", (40, 40)).save(tmp_path / "a.png")
    gallery = Gallery(tmp_path)
    for file in ("missing.png", *["a.png"] * 20):
        gallery.offer(Mistake("background", file, "cat", 0.9, [0, 0, 10, 10], None, None))
    assert [mistake.file for mistake, _ in gallery.pictures["background"]] == ["a.png"] * OF_A_KIND
    without = Gallery(None)
    without.offer(Mistake("background", "a.png", "cat", 0.9, [0, 0, 10, 10], None, None))
    assert not any(without.pictures.values())

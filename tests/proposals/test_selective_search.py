from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.images import load
from proposals import METHODS, Image, SelectiveSearch
from proposals.selective_search import resize_to_working_size, search
from proposals.types import Superpixels


def noise(height: int, width: int, seed: int = 0) -> Image:
    """Coloured blocks of 15 pixels, `uint8 [height, width, 3]`, which can be segmented."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 15 + 1, width // 15 + 1, 3), dtype=np.uint8)
    return blocks.repeat(15, axis=0).repeat(15, axis=1)[:height, :width]


@pytest.mark.parametrize(
    ("height", "width", "working"),
    [
        pytest.param(1, 1, (500, 500), id="one pixel"),
        pytest.param(375, 500, (375, 500), id="a VOC photo"),
        pytest.param(3000, 4000, (375, 500), id="a large photo"),
        pytest.param(500, 375, (667, 500), id="a portrait"),
        pytest.param(3000, 1000, (1000, 333), id="a high portrait"),
        pytest.param(30, 20000, (1, 500), id="a strip"),
        pytest.param(20000, 30, (1000, 2), id="a high strip"),
    ],
)
def test_working_size(height: int, width: int, working: tuple[int, int]) -> None:
    assert resize_to_working_size(np.zeros((height, width, 3), np.uint8)).shape[:2] == working


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        pytest.param(1, 1, [[0, 0, 1, 1]], id="one pixel"),
        pytest.param(2, 2, [[0, 0, 2, 2]], id="four pixels"),
        pytest.param(1, 500, [], id="a line"),
        pytest.param(500, 1, [], id="a column"),
        pytest.param(30, 20000, [], id="a strip"),
        pytest.param(20000, 30, [], id="a high strip"),
        pytest.param(100, 150, [[0, 0, 150, 100]], id="flat grey"),
    ],
)
def test_tiny_flat_and_extreme_images(
    method: str, height: int, width: int, expected: list[list[float]]
) -> None:
    propose = METHODS[method](superpixels="doubled")
    found = propose(np.full((height, width, 3), 127, np.uint8))
    assert found.boxes.tolist() == expected


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("height", "width"), [(200, 300), (300, 150), (61, 700)])
def test_boxes_are_canonical_whole_pixels_inside_the_image(
    method: str, height: int, width: int
) -> None:
    found = METHODS[method](superpixels="doubled")(noise(height, width))
    boxes = found.boxes
    assert len(found) > 3
    assert (boxes == boxes.round()).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= [width, height]).all()
    smallest_side = 20 * max(width / 500, height / 1000) - 1
    assert (boxes[:, 2:] - boxes[:, :2] >= smallest_side).all()
    listed = [tuple(box) for box in boxes.tolist()]
    assert listed == sorted(set(listed))
    assert found.counts() == {"selective_search": len(boxes), "merged": len(boxes)}


def test_boxes_do_not_depend_on_what_was_searched_before_or_beside() -> None:
    images = [noise(60, 300, seed) for seed in range(3)] + [noise(90, 400)]
    alone = [SelectiveSearch()(image).boxes for image in images]
    again: list[list[list[float]]] = [[] for _ in images]

    def search(number: int) -> None:
        again[number] = SelectiveSearch()(images[number]).boxes.tolist()

    threads = [threading.Thread(target=search, args=(number,)) for number in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert again == [boxes.tolist() for boxes in alone]


def test_doubled_superpixels_halve_the_proposals(voc_photos: list[Path]) -> None:
    """On 2 photos; `benchmarks/superpixels.py` has the figure for 50."""

    def count(superpixels: Superpixels) -> int:
        propose = SelectiveSearch(superpixels=superpixels)
        return sum(len(propose(load(path))) for path in voc_photos[:2])

    assert 0.45 < count("doubled") / count("rcnn") < 0.65


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("scales", [(50, 100), (100, 200)])
def test_parts_find_what_opencv_finds_at_once(scales: tuple[int, ...], threads: int) -> None:
    image = noise(150, 200)
    segmentation = cv2.ximgproc.segmentation
    whole = segmentation.createSelectiveSearchSegmentation()
    for code in (cv2.COLOR_RGB2HSV_FULL, cv2.COLOR_RGB2LAB):
        whole.addImage(cv2.cvtColor(image, code))
    for k in scales:
        whole.addGraphSegmentation(segmentation.createGraphSegmentation(0.8, float(k), k))
    names = ("Color", "Texture", "Size", "Fill")
    parts = [
        getattr(segmentation, f"createSelectiveSearchSegmentationStrategy{n}")() for n in names
    ]
    for some in (parts, parts[1:]):
        strategy = segmentation.createSelectiveSearchSegmentationStrategyMultiple()
        for part in some:
            strategy.addStrategy(part, 1 / len(some))
        whole.addStrategy(strategy)
    x, y, w, h = np.asarray(whole.process()).T
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        found = search(image, scales)
    finally:
        cv2.setNumThreads(before)
    assert {*map(tuple, found.tolist())} == {*zip(x, y, x + w, y + h, strict=True)}

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.backends import ProcessorCrops
from detector.bundles.manifest import Normalisation, Warp
from detector.regions.cascade import Cascade
from detector.regions.crops import cut, normalise
from detector.regions.ensemble import Ensemble, Regions
from proposals import Image

WARP = Warp(crop_size=64)
OTHER = Warp(crop_size=96)


class Fake(ProcessorCrops):
    """A backend whose "probabilities" are sums over the crop, and which records its batches."""

    micro_batch: int | None = None

    def __init__(self, factor: float = 1.0, limit: int | None = None) -> None:
        self.factor = factor
        self.limit = limit
        self.batches: list[int] = []

    def __call__(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.limit is not None and len(crops) > self.limit:
            raise MemoryError("too many crops")
        self.batches.append(len(crops))
        return np.asarray(self.factor * crops.astype(np.float64).sum(axis=(1, 2)), np.float32)


def classify(
    ensemble: Ensemble, image: Image, boxes: NDArray[np.float32], **options: Any
) -> NDArray[np.float32]:
    """The probabilities of one image's regions."""
    (probabilities,) = ensemble.classify([Regions(image, boxes)], **options)
    return probabilities


@pytest.fixture
def image() -> Image:
    return np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)


@pytest.fixture
def boxes() -> NDArray[np.float32]:
    return np.array([[x, 0, x + 10, 20] for x in range(10)], np.float32)


def expected(image: Image, boxes: NDArray[np.float32], warp: Warp) -> NDArray[np.float32]:
    return Fake()(cut(normalise(image, Normalisation()), boxes, warp))


def test_members_are_averaged(image: Image, boxes: NDArray[np.float32]) -> None:
    members = [(Fake(1), WARP), (Fake(3), WARP), (Fake(5), OTHER)]
    ensemble = Ensemble(members, Normalisation(), classes=3, batch_size=4)
    mean = (4 * expected(image, boxes, WARP) + 5 * expected(image, boxes, OTHER)) / 3
    np.testing.assert_allclose(classify(ensemble, image, boxes), mean, rtol=1e-5)


def test_batches_have_one_size(image: Image, boxes: NDArray[np.float32]) -> None:
    backend = Fake()
    ensemble = Ensemble([(backend, WARP)], Normalisation(), classes=3, batch_size=4)
    assert classify(ensemble, image, boxes).shape == (10, 3)
    assert backend.batches == [4, 4, 4]


def test_the_last_batch_has_whole_parts(image: Image, boxes: NDArray[np.float32]) -> None:
    backend = Fake()
    backend.micro_batch = 3
    ensemble = Ensemble([(backend, WARP)], Normalisation(), classes=3, batch_size=6)
    np.testing.assert_allclose(
        classify(ensemble, image, boxes), expected(image, boxes, WARP), rtol=1e-5
    )
    assert backend.batches == [6, 6]
    assert classify(ensemble, image, boxes[:7]).shape == (7, 3)
    assert backend.batches[2:] == [6, 3]


def test_no_boxes(image: Image) -> None:
    ensemble = Ensemble([(Fake(), WARP)], Normalisation(), classes=3, batch_size=4)
    assert classify(ensemble, image, np.empty((0, 4), np.float32)).shape == (0, 3)


def test_smaller_batches_after_out_of_memory(
    image: Image, boxes: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Fake(), Fake(limit=3)
    ensemble = Ensemble([(first, WARP), (second, OTHER)], Normalisation(), classes=3, batch_size=8)
    mean = (expected(image, boxes, WARP) + expected(image, boxes, OTHER)) / 2
    np.testing.assert_allclose(classify(ensemble, image, boxes), mean, rtol=1e-5)
    assert second.batches == [2] * 5
    assert [record.getMessage()[-27:] for record in caplog.records] == [
        "batches of 4 crops from now",
        "batches of 2 crops from now",
    ]
    first.batches.clear()
    classify(ensemble, image, boxes)
    assert first.batches == [2] * 5, "the smaller batch stays"
    first.batches.clear()
    classify(ensemble, image, boxes, members=1)
    assert first.batches == [2] * 5, "also with fewer members"


def test_out_of_memory_for_a_single_crop_is_an_error(
    image: Image, boxes: NDArray[np.float32]
) -> None:
    ensemble = Ensemble([(Fake(limit=0), WARP)], Normalisation(), classes=3, batch_size=8)
    with pytest.raises(MemoryError):
        classify(ensemble, image, boxes)
    assert ensemble.batch_size == 8, "it was not the batch"


class Sure(Fake):
    """Gives each crop the probability that its brightness tells to one class."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale, self.seen = scale, 0

    def __call__(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        value = crops[:, 32, 32, 0] / 255 * self.scale
        self.seen += int((value != 0).sum())
        return np.stack([1 - value, value, 0 * value], axis=1).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9])
def test_a_member_sees_only_what_those_before_it_find(threshold: float) -> None:
    image = np.repeat(np.arange(25, 225, 20, dtype=np.uint8), 10)[None, :, None]
    image = np.ascontiguousarray(np.broadcast_to(image, (20, 100, 3)))
    boxes = np.array([[x, 0, x + 10, 20] for x in range(0, 100, 10)], np.float32)
    plain = Normalisation(mean=(0, 0, 0))
    warp = Warp(crop_size=64, context=0)
    first, second, third = Sure(1.0), Sure(0.5), Sure(0.2)
    members = [(first, warp), (second, warp), (third, warp.model_copy(update={"crop_size": 96}))]
    cascade = Cascade(threshold, nms_iou=0.3)
    ensemble = Ensemble(members, plain, classes=3, batch_size=4)
    alone = np.arange(25, 225, 20) / 255
    to_second = alone >= threshold
    to_third = to_second & (alone * (1 + 0.5) / 2 >= threshold)
    asked = 1 + to_second.astype(int) + to_third
    expected = alone * np.array([1, 1.5, 1.7])[asked - 1] / asked
    np.testing.assert_allclose(
        classify(ensemble, image, boxes, cascade=cascade)[:, 1], expected, rtol=1e-4
    )
    assert (first.seen, second.seen, third.seen) == (10, to_second.sum(), to_third.sum())


def test_images_together(image: Image, boxes: NDArray[np.float32]) -> None:
    other = image[::-1].copy()
    cascade = Cascade(0.1, nms_iou=0.3)
    members = [(Fake(), WARP), (Fake(3), OTHER)]
    ensemble = Ensemble(members, Normalisation(), classes=3, batch_size=4)
    regions = [
        Regions(image, boxes[:3]),
        Regions(other, boxes),
        Regions(image, boxes[:0]),
        Regions(image, boxes[5:]),
    ]
    found = ensemble.classify(regions, cascade=cascade)
    for one, probabilities in zip(regions, found, strict=True):
        (alone,) = ensemble.classify([one], cascade=cascade)
        np.testing.assert_array_equal(probabilities, alone)

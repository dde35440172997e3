from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.detector import Detector
from detector.image_types import PreprocessedImage
from detector.networks import Networks
from detector.regions.ensemble import Regions
from detector.runtime import Runtime
from detector.settings import Settings
from proposals import Image, Proposals
from service.metrics import Metrics
from service.problems import Problem
from service.scheduler import DetectedImage, Scheduler
from service.settings import ServiceSettings

NO_BOXES = np.zeros((0, 4), np.float32)

EVERYTHING = Settings.model_validate(
    {"classifier": {"cascade": 0}, "detections": {"score_threshold": 0, "nms_iou": 1}}
)


class FakeEnsemble:
    """Classifiers whose "probabilities" tell the image and the box, and which can be held."""

    def __init__(self) -> None:
        self.members = [None]
        self.batches: list[list[tuple[int, int]]] = []
        self.free = threading.Event()
        self.free.set()
        self.begun = threading.Event()

    def classify(self, images: Sequence[Regions], **_: Any) -> list[NDArray[np.float32]]:
        self.batches.append([(int(image[0, 0, 0]), len(boxes)) for image, boxes in images])
        self.begun.set()
        assert self.free.wait(30)
        if any(image[0, 0, 0] == 13 for image, _ in images):
            raise ValueError("an unlucky image")
        return [
            np.stack(
                [np.zeros(len(boxes)), image[0, 0, 0] / 1000 + boxes[:, 0].astype(float) / 1e5],
                axis=1,
            )
            for image, boxes in images
        ]


class Fake:
    """A detector on fake networks."""

    def __init__(self, multibox: Any = None) -> None:
        self.ensemble = FakeEnsemble()
        self.networks = Networks(
            name="fake",
            version="1",
            sha256="",
            classes=("thing",),
            ensemble=self.ensemble,  # type: ignore[arg-type]
            multibox=multibox,
            runtime=Runtime("cpu", "openvino", "float32", "float32", 8),
            available_members=1,
            has_multibox=multibox is not None,
        )
        self.detector = self.make_detector()

    def make_detector(self, **tables: Any) -> Detector:
        return Detector(self.networks, EVERYTHING.replace(**tables))

    @property
    def batches(self) -> list[list[tuple[int, int]]]:
        return self.ensemble.batches

    @property
    def free(self) -> threading.Event:
        return self.ensemble.free

    @property
    def begun(self) -> threading.Event:
        return self.ensemble.begun


@pytest.fixture
def fake() -> Fake:
    return Fake()


def preprocessed(number: int, count: int, side: int = 4) -> PreprocessedImage:
    boxes = np.array([[x, 0, x + 1, 1] for x in range(count)], np.float32).reshape(-1, 4)
    pixels = np.full((side, side, 3), number, np.uint8)
    seconds = {"decode": 0.0, "proposals": 0.0}
    return PreprocessedImage(pixels, Proposals.from_one_source(boxes, "test"), seconds)


@pytest.fixture
def schedulers() -> Iterator[Any]:
    made = []

    def make(**settings: Any) -> Scheduler:
        made.append(Scheduler(ServiceSettings(**settings), Metrics()))
        return made[-1]

    yield make
    for scheduler in made:
        scheduler.close()
        assert not scheduler.alive


def submit(scheduler: Scheduler, fake: Fake, number: int, count: int) -> Future[DetectedImage]:
    return scheduler.submit(fake.detector, preprocessed(number, count))


def scores(future: Future[DetectedImage]) -> list[float]:
    return sorted(found.score for found in future.result(30).result.detections)


def expected(number: int, count: int) -> list[float]:
    return [round(number / 1000 + x / 1e5, 6) for x in range(count)]


def test_images_share_batches_and_have_their_own_answers(fake: Fake, schedulers: Any) -> None:
    scheduler = schedulers(batch_crops=10, batch_wait=0)
    fake.free.clear()
    first = submit(scheduler, fake, 1, 3)
    assert fake.begun.wait(30)
    others = [submit(scheduler, fake, number, number) for number in range(4, 9)]
    fake.free.set()
    assert scores(first) == expected(1, 3)
    for number, future in zip(range(4, 9), others, strict=True):
        assert scores(future) == expected(number, number)
    assert fake.batches == [[(1, 3)], [(4, 4), (5, 5), (6, 6)], [(7, 7), (8, 8)]]


def test_a_batch_waits_for_more(fake: Fake, schedulers: Any) -> None:
    scheduler = schedulers(batch_crops=4, batch_wait=1.0)
    futures = [submit(scheduler, fake, number, 2) for number in (1, 2)]
    assert [scores(future) for future in futures] == [expected(1, 2), expected(2, 2)]
    assert fake.batches == [[(1, 2), (2, 2)]]


def test_images_share_a_batch_if_their_detectors_classify_alike(
    fake: Fake, schedulers: Any
) -> None:
    scheduler = schedulers(batch_crops=6, batch_wait=1.0)
    best = fake.make_detector(detections={"max_detections": 1})
    cascaded = fake.make_detector(classifier={"cascade": 0.1})
    suppressing = fake.make_detector(detections={"nms_iou": 0.5})
    futures = [
        scheduler.submit(detector, preprocessed(number, 2))
        for number, detector in enumerate([fake.detector, cascaded, best, suppressing, best])
    ]
    found = [scores(future) for future in futures]
    assert found == [
        expected(0, 2),
        expected(1, 2),
        expected(2, 2)[1:],
        expected(3, 2),
        expected(4, 2)[1:],
    ]
    assert fake.batches == [[(0, 2), (2, 2), (4, 2)], [(1, 2)], [(3, 2)]]


def test_a_bad_image_fails_alone(
    fake: Fake, schedulers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = schedulers(batch_crops=100, batch_wait=0.2)
    good, bad, other = (submit(scheduler, fake, number, 3) for number in (1, 13, 2))
    assert scores(good) == expected(1, 3)
    assert scores(other) == expected(2, 3)
    with pytest.raises(ValueError, match="unlucky"):
        bad.result(30)
    assert scheduler.alive
    assert "could not be classified" in caplog.text


def test_what_nobody_waits_for_is_dropped(fake: Fake, schedulers: Any) -> None:
    scheduler = schedulers(batch_crops=4, batch_wait=0)
    fake.free.clear()
    begun = submit(scheduler, fake, 1, 100)
    assert fake.begun.wait(30)
    left, later = (submit(scheduler, fake, number, 3) for number in (2, 3))
    begun.cancel()
    left.cancel()
    fake.free.set()
    assert scores(later) == expected(3, 3)
    assert fake.batches == [[(1, 100)], [(3, 3)]]


def test_no_regions(fake: Fake, schedulers: Any) -> None:
    assert scores(submit(schedulers(), fake, 1, 0)) == []


def test_a_full_line_is_503(fake: Fake, schedulers: Any) -> None:
    scheduler = schedulers(batch_crops=4, batch_wait=0, max_crops=20)
    fake.free.clear()
    large = submit(scheduler, fake, 1, 50)  # more than may wait, but nothing else does
    assert fake.begun.wait(30)
    with pytest.raises(Problem) as refused:
        submit(scheduler, fake, 2, 1)
    assert (refused.value.status, refused.value.code) == (503, "busy")
    assert 1 <= int(refused.value.headers["retry-after"]) <= 60
    fake.free.set()
    assert scores(large) == expected(1, 50)
    assert scores(submit(scheduler, fake, 2, 1)) == expected(2, 1)


def test_images_that_are_still_to_be_drawn_count(fake: Fake, schedulers: Any) -> None:
    scheduler = schedulers(max_waiting_pixels=2_000)
    scheduler.pixels_to_draw = 1_900
    with pytest.raises(Problem, match="images of 1,900 pixels wait already"):
        scheduler.submit(fake.detector, preprocessed(1, 1, side=40))
    scheduler.pixels_to_draw = 0
    assert scores(scheduler.submit(fake.detector, preprocessed(1, 1, side=40))) == expected(1, 1)


def test_large_images_fill_the_line(fake: Fake, schedulers: Any) -> None:
    scheduler = schedulers(batch_crops=1, max_waiting_pixels=2_000)
    fake.free.clear()
    waiting = scheduler.submit(fake.detector, preprocessed(1, 9, side=40))
    assert fake.begun.wait(30)
    with pytest.raises(Problem, match="busy"):
        scheduler.submit(fake.detector, preprocessed(2, 1, side=40))
    small = scheduler.submit(fake.detector, preprocessed(3, 1, side=10))
    fake.free.set()
    assert scores(waiting) == expected(1, 9)
    assert scores(small) == expected(3, 1)


def test_regions_that_multibox_will_add_count(schedulers: Any) -> None:
    begun, free = threading.Event(), threading.Event()

    def multibox(pixels: Image, count: int) -> Proposals:
        assert count == 10
        begun.set()
        assert free.wait(30)
        return Proposals.from_one_source(NO_BOXES, "multibox")

    fake = Fake(multibox)
    fake.detector = fake.make_detector(multibox={"count": 10})
    scheduler = schedulers(max_crops=20, batch_wait=0)
    first = submit(scheduler, fake, 1, 0)
    assert begun.wait(30)
    second = submit(scheduler, fake, 2, 0)
    with pytest.raises(Problem, match="20 regions wait"):
        submit(scheduler, fake, 3, 0)
    free.set()
    assert scores(first) == scores(second) == []


def test_a_full_batch_does_not_wait_for_newcomers(
    schedulers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []

    def multibox(pixels: Image, count: int) -> Proposals:
        order.append(int(pixels[0, 0, 0]))
        return Proposals.from_one_source(NO_BOXES, "multibox")

    fake = Fake(multibox)
    classify = fake.ensemble.classify

    def classify_and_note(images: Sequence[Regions], **options: Any) -> list[NDArray[np.float32]]:
        order.append(-len(images))
        return classify(images, **options)

    monkeypatch.setattr(fake.ensemble, "classify", classify_and_note)
    scheduler = schedulers(batch_crops=4, batch_wait=0)
    fake.free.clear()
    first = submit(scheduler, fake, 1, 4)
    assert fake.begun.wait(30)
    others = [submit(scheduler, fake, number, 4) for number in (2, 3)]
    fake.free.set()
    for number, future in zip((1, 2, 3), (first, *others), strict=True):
        assert scores(future) == expected(number, 4)
    assert order == [1, -1, 2, -1, 3, -1]


def test_closing_finishes_what_waits(fake: Fake) -> None:
    scheduler = Scheduler(ServiceSettings(batch_crops=2, batch_wait=1), Metrics())
    futures = [submit(scheduler, fake, number, 3) for number in range(3)]
    scheduler.close()
    assert [scores(future) for future in futures] == [expected(n, 3) for n in range(3)]
    with pytest.raises(Problem, match="closing"):
        submit(scheduler, fake, 1, 1)

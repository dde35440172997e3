"""What batches are made of."""

from __future__ import annotations

import numpy as np
import pytest

from detector.datasets.ground_truth import AnnotatedImage
from detector.errors import TrainingError
from detector.training.labelled_regions import pool_regions
from detector.training.region_sampler import Sampler
from detector.training.settings import Sampling
from proposals.types import Boxes

SIDE = 40


def image(boxes: Boxes, labels: list[int]) -> AnnotatedImage:
    none = np.zeros(len(labels), np.bool_)
    return AnnotatedImage("a.png", SIDE, SIDE, boxes, np.array(labels, np.int64), none)


def boxes_of(*corners: tuple[int, int, int, int]) -> Boxes:
    return np.array(corners, np.float32).reshape(-1, 4)


def test_a_batch_is_foreground_then_background() -> None:
    objects, background = boxes_of((0, 0, 10, 10)), boxes_of((0, 3, 10, 20), (30, 30, 40, 40))
    sampling = Sampling(foreground=3, background=8, near=0.25)
    regions = pool_regions([(image(objects, [0]), background)], sampling)
    chosen = Sampler(regions, sampling, ("a",)).draw(np.random.default_rng(0))
    assert regions.labels[chosen].tolist() == [1] * 3 + [0] * 8
    assert regions.near_object[chosen[3:5]].all()  # a quarter of the background


def test_balanced_classes_are_drawn_equally_often() -> None:
    common = [boxes_of((n, 0, n + 10, 10)) for n in range(20)]
    truth = image(np.concatenate([*common, boxes_of((0, 20, 10, 30))]), [0] * 20 + [1])
    regions = pool_regions([(truth, boxes_of((30, 30, 40, 40)))], Sampling())
    rare = {}
    for balanced in (0.0, 1.0):
        sampling = Sampling(foreground=1000, background=1, balanced=balanced)
        chosen = Sampler(regions, sampling, ("a", "b")).draw(np.random.default_rng(0))
        rare[balanced] = float((regions.labels[chosen] == 2).mean())
    assert rare[0.0] == pytest.approx(1 / 21, abs=0.03)
    assert rare[1.0] == pytest.approx(1 / 2, abs=0.06)


def test_what_cannot_be_sampled() -> None:
    truth = image(boxes_of((0, 0, 10, 10)), [0])
    regions = pool_regions([(truth, boxes_of((30, 30, 40, 40)))], Sampling())
    with pytest.raises(TrainingError, match="class 'b' has no box"):
        Sampler(regions, Sampling(), ("a", "b"))
    regions = pool_regions([(truth, boxes_of())], Sampling())
    with pytest.raises(TrainingError, match="no proposal is background"):
        Sampler(regions, Sampling(), ("a",))

from __future__ import annotations

import numpy as np
import pytest

from detector.evaluation import bootstrap
from detector.evaluation.average_precision import area
from detector.evaluation.bootstrap import compare, interval, mean_ap_draws
from detector.evaluation.score import ClassScore, Ranking, Score

IMAGES = 60


def ranking(seed: int, chance: float) -> Ranking:
    """One object an image, found with a chance; wrong detections among them."""
    rng = np.random.default_rng(seed)
    images = np.repeat(np.arange(IMAGES), 2)
    right = np.tile([True, False], IMAGES) & (rng.random(2 * IMAGES) < chance)
    scores = rng.random(2 * IMAGES)
    order = np.argsort(-scores)
    return Ranking(right[order], images[order], scores[order], np.arange(IMAGES), 2 * IMAGES)


def scored(item: Ranking) -> tuple[Score, list[Ranking]]:
    classes = (ClassScore(1, "a", item.ap(area), IMAGES, item.detections),)
    return Score("", IMAGES, classes), [item]


def literal_draws(item: Ranking, seed: int) -> list[float]:
    """Every draw as a list of images, each with its own detections and objects."""
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(bootstrap.DRAWS):
        drawn = rng.integers(IMAGES, size=IMAGES)
        rows = [
            (score, right)
            for image in drawn
            for score, right, where in zip(item.scores, item.right, item.images, strict=True)
            if where == image
        ]
        flags = np.array([right for _, right in sorted(rows, key=lambda row: -row[0])])
        means.append(area(flags, IMAGES))
    return means


def test_equals_the_literal_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "DRAWS", 20)
    item = ranking(0, 0.7)
    (draws,) = mean_ap_draws([[item]], IMAGES, area, seed=3)
    np.testing.assert_allclose(draws, literal_draws(item, 3), atol=1e-12)


def test_the_same_detections_do_not_differ() -> None:
    one = scored(ranking(0, 0.7))
    result = compare(one, one, area)
    assert (result.difference.low, result.difference.value, result.difference.high) == (0, 0, 0)
    assert not result.clear
    low, high = result.mean_ap[0].low, result.mean_ap[0].high
    assert low < result.mean_ap[0].value < high


def test_a_large_difference_is_clear() -> None:
    result = compare(scored(ranking(0, 0.9)), scored(ranking(1, 0.3)), area)
    assert result.clear
    assert 0 < result.difference.low < result.difference.value < result.difference.high
    content = result.to_json()
    assert content["clear"]
    assert content["classes"][0]["name"] == "a"


def test_classes_without_an_object_in_a_draw_do_not_count() -> None:
    nothing = np.zeros(0, np.int64)
    empty = Ranking(nothing.astype(np.bool_), nothing, nothing.astype(np.float64), nothing, 0)
    item = ranking(0, 0.7)
    draws = mean_ap_draws([[item, empty], [item]], IMAGES, area)
    np.testing.assert_array_equal(draws[0], draws[1])


def test_interval_is_of_percentiles_about_the_value() -> None:
    found = interval(7.0, np.append(np.arange(1001.0), np.nan))  # their mean is 500
    assert [found.low, found.value, found.high] == pytest.approx([25 - 493, 7, 975 - 493])


def test_no_object_in_any_draw() -> None:
    assert interval(0.0, np.full(3, np.nan)) == bootstrap.Interval(0, 0, 0)

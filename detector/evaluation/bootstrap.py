"""How sure a mean average precision, or the difference of two, is: bootstrap over images.

The images are drawn anew, as many as there are and with repetition, and the means are computed
again. Two sets of detections are compared on the same draws, so that what makes an image hard for
both cancels out (a paired bootstrap).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.average_precision import AveragePrecision
from detector.evaluation.score import Ranking, Score

DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value, and where it lies with a probability of 95 %."""

    value: float
    low: float
    high: float


def mean_ap_draws(
    rankings: Sequence[Sequence[Ranking]], images: int, rule: AveragePrecision, *, seed: int = 0
) -> NDArray[np.float64]:
    """Mean average precision of sets of rankings on the same draws: `[sets, DRAWS]`.

    A class without an object in a draw does not count in it.
    """
    rng = np.random.default_rng(seed)
    means = np.empty((len(rankings), DRAWS))
    for draw in range(DRAWS):
        weights = np.bincount(rng.integers(images, size=images), minlength=images)
        for number, classes in enumerate(rankings):
            aps = [
                rule(ranking.right, positives, weights[ranking.images])
                for ranking in classes
                if (positives := int(weights[ranking.objects].sum()))
            ]
            means[number, draw] = np.mean(aps) if aps else np.nan
    return means


def difference_of_means(
    one: NDArray[np.bool_], other: NDArray[np.bool_], *, seed: int = 0
) -> Interval:
    """By how much the mean of one value for each image is above that of another: `[images]`."""
    differences = one.astype(np.float64) - other
    rng = np.random.default_rng(seed)
    draws = [rng.choice(differences, len(differences)).mean() for _ in range(DRAWS)]
    return interval(float(differences.mean()), np.array(draws))


def interval(value: float, draws: NDArray[np.float64]) -> Interval:
    """The interval of a value that has these values on draws.

    It is the draws' percentiles, moved so that the draws' mean falls on the value: average
    precision is a little higher on draws, where the envelope takes the best of a rougher curve, so
    that percentiles alone might leave out the value. Draws without any object do not count.
    """
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return Interval(value, value, value)
    low, high = np.percentile(draws, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    bias = draws.mean() - value
    return Interval(value, float(low - bias), float(high - bias))


@dataclass(frozen=True)
class ClassComparison:
    """A class's average precision by both sets of detections."""

    name: str
    ap: float | None
    other_ap: float | None


@dataclass(frozen=True)
class Comparison:
    """Two sets of detections on the same ground truth."""

    classes: tuple[ClassComparison, ...]
    mean_ap: tuple[Interval, Interval]
    difference: Interval

    @property
    def clear(self) -> bool:
        """Does the interval of the difference leave out 0?"""
        return self.difference.low > 0 or self.difference.high < 0

    def to_json(self) -> dict[str, Any]:
        """The comparison as `detector-eval --json` writes it."""
        return asdict(self) | {"level": LEVEL, "draws": DRAWS, "clear": self.clear}


def compare(
    one: tuple[Score, Sequence[Ranking]],
    other: tuple[Score, Sequence[Ranking]],
    rule: AveragePrecision,
) -> Comparison:
    """How much better one set of detections is than another."""
    scores = one[0], other[0]
    draws = mean_ap_draws([one[1], other[1]], scores[0].images, rule)
    means = [score.mean_ap or 0.0 for score in scores]
    return Comparison(
        tuple(
            ClassComparison(a.name, a.ap, b.ap)
            for a, b in zip(scores[0].classes, scores[1].classes, strict=True)
        ),
        (interval(means[0], draws[0]), interval(means[1], draws[1])),
        interval(means[0] - means[1], draws[0] - draws[1]),
    )

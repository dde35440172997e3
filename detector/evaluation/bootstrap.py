"""Confidence intervals of a mean average precision, and of the difference of two: bootstrap.

Each draw takes as many images as there are, with replacement, and computes the mean again. Two sets
of detections are compared on the same draws (a paired bootstrap), so that the difficulty of the
images cancels out.
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
    """A value with its 95 % confidence interval."""

    value: float
    low: float
    high: float


def mean_ap_draws(
    rankings: Sequence[Sequence[Ranking]], images: int, rule: AveragePrecision, *, seed: int = 0
) -> NDArray[np.float64]:
    """Return the mean average precision of sets of rankings on the same draws: `[sets, DRAWS]`.

    A class that has no object in a draw does not count in that draw.

    Args:
        rankings: For each set of detections, the ranking of each class.
        images: Number of images.
        rule: The average precision of a ranking.
        seed: Seed of the draws.
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
    """Return how much the mean of one flag per image exceeds that of another, `bool [images]`."""
    differences = one.astype(np.float64) - other
    rng = np.random.default_rng(seed)
    draws = [rng.choice(differences, len(differences)).mean() for _ in range(DRAWS)]
    return interval(float(differences.mean()), np.array(draws))


def interval(value: float, draws: NDArray[np.float64]) -> Interval:
    """Return the confidence interval of a value, from its values on the draws.

    The percentiles of the draws are shifted so that their mean is the value. Average precision is
    slightly higher on draws, because the envelope takes the best of a rougher curve; the
    percentiles alone might not contain the value. Draws without any object do not count.
    """
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return Interval(value, value, value)

    low, high = np.percentile(draws, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    bias = draws.mean() - value
    return Interval(value, float(low - bias), float(high - bias))


@dataclass(frozen=True)
class ClassComparison:
    """The average precision of a class in both sets of detections."""

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
        """Whether the interval of the difference excludes 0."""
        return self.difference.low > 0 or self.difference.high < 0

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as `detector-eval --json` writes it."""
        return asdict(self) | {"level": LEVEL, "draws": DRAWS, "clear": self.clear}


def compare(
    one: tuple[Score, Sequence[Ranking]],
    other: tuple[Score, Sequence[Ranking]],
    rule: AveragePrecision,
) -> Comparison:
    """Compare two sets of detections on the same ground truth."""
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

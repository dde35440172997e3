"""The result of an evaluation by any rule: a score, and the rankings that it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.average_precision import AveragePrecision


@dataclass(frozen=True)
class ClassScore:
    """The score of a class.

    Args:
        id: Id of the class in the ground truth.
        name: Name of the class.
        ap: Average precision, or None if there is no object to find.
        positives: Number of objects to find.
        detections: Number of detections.
        figures: Further figures of the rule.
    """

    id: int
    name: str
    ap: float | None
    positives: int
    detections: int
    figures: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """The score of a set of detections.

    Args:
        rule: The rule in words.
        images: Number of images.
        classes: Scores of the classes.
        figures: Further figures of the rule.
    """

    rule: str
    images: int
    classes: tuple[ClassScore, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mean_ap(self) -> float | None:
        """Mean average precision over classes that have objects."""
        return mean([item.ap for item in self.classes])

    @property
    def median_ap(self) -> float | None:
        """Median of the average precision over classes that have objects."""
        values = [item.ap for item in self.classes if item.ap is not None]
        return float(np.median(values)) if values else None

    def to_json(self) -> dict[str, Any]:
        """Return the score as `detector-eval --json` writes it."""
        classes = [
            {
                "id": item.id,
                "name": item.name,
                "ap": item.ap,
                "positives": item.positives,
                "detections": item.detections,
                **item.figures,
            }
            for item in self.classes
        ]
        return {
            "rule": self.rule,
            "mean_ap": self.mean_ap,
            "median_ap": self.median_ap,
            "images": self.images,
            **self.figures,
            "classes": classes,
        }


@dataclass(frozen=True, eq=False)
class Ranking:
    """The detections of a class that count, best first, and the objects to find.

    Args:
        right: `bool [D]`, which detections are true positives.
        images: `[D]`, position of each detection's image.
        scores: `[D]`.
        objects: `[P]`, position of each object's image.
        detections: Number of detections, including those that do not count.
    """

    right: NDArray[np.bool_]
    images: NDArray[np.int64]
    scores: NDArray[np.float64]
    objects: NDArray[np.int64]
    detections: int

    def ap(self, rule: AveragePrecision) -> float | None:
        """Return the average precision, or None if there is no object."""
        return rule(self.right, len(self.objects), None) if len(self.objects) else None


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are not None, or None if there are none."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None

"""What an evaluation says, whatever the rule: a score, and the rankings that it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.average_precision import AveragePrecision


@dataclass(frozen=True)
class ClassScore:
    """The score of a class; `ap` is None where it has no object to find.

    `figures` has what else the rule says of it.
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
        rule: in words.
        images: their number.
        figures: what else the rule says.
    """

    rule: str
    images: int
    classes: tuple[ClassScore, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mean_ap(self) -> float | None:
        """The mean over classes with objects."""
        return mean([item.ap for item in self.classes])

    @property
    def median_ap(self) -> float | None:
        """The median over classes with objects."""
        values = [item.ap for item in self.classes if item.ap is not None]
        return float(np.median(values)) if values else None

    def to_json(self) -> dict[str, Any]:
        """The score as `detector-eval --json` writes it."""
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
    """A class's detections that count, best first, and the objects that there are to find.

    Args:
        right: `bool [D]`.
        images: `[D]`, the position of each one's image.
        scores: `[D]`.
        objects: `[P]`, the position of each object's image.
        detections: how many there are with those that do not count.
    """

    right: NDArray[np.bool_]
    images: NDArray[np.int64]
    scores: NDArray[np.float64]
    objects: NDArray[np.int64]
    detections: int

    def ap(self, rule: AveragePrecision) -> float | None:
        """Average precision; None without objects."""
        return rule(self.right, len(self.objects), None) if len(self.objects) else None


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are there."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None

"""How well proposals cover the objects, and how many proposals that takes.

Difficult objects are left out. An object is covered at an IoU if a proposal overlaps it at least
that much. Coverage is the share of objects that are covered at IoU 0.5. Average recall (AR) is the
mean share over the IoUs 0.5, 0.55, … 0.95 (Hosang et al., *What makes for effective detection
proposals?*).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.common.progress import Progress
from detector.datasets.ground_truth import AnnotatedImage
from proposals import Proposals
from proposals.baselines import random_boxes, sliding_windows
from proposals.boxes import iou
from proposals.types import Boxes

IOUS = np.arange(50, 100, 5) / 100
COUNTS = (10, 30, 100, 300, 1000, 3000)
SIZES = {"under 20 px": (0, 20), "20-40 px": (20, 40), "40-80 px": (40, 80), "larger": (80, 10**9)}
"""Ranges of an object's shorter side, in pixels."""

RULE = (
    "coverage: the share of objects (difficult ones left out) with a proposal at IoU 0.5 or more; "
    "AR: its mean over IoU 0.5, 0.55, … 0.95; sizes are those of an object's shorter side; the "
    "first so many proposals are the best-scored ones, equal scores in a random order"
)


@dataclass(frozen=True)
class Quality:
    """The quality of a set of proposals. Shares are None if there is no object.

    Args:
        boxes: Mean number of proposals of an image.
        coverage: Share of objects that are covered at IoU 0.5.
        average_recall: Mean share over `IOUS`.
        recall_by_iou: Share at each of `IOUS`.
        coverage_by_count: Coverage by the first proposals of each image, for each of `COUNTS`.
        coverage_by_size: Coverage and number of objects, by the names in `SIZES`.
        seconds: Mean time of an image, if it was measured.
    """

    boxes: float
    coverage: float | None
    average_recall: float | None
    recall_by_iou: Mapping[str, float | None]
    coverage_by_count: Mapping[str, float | None]
    coverage_by_size: Mapping[str, tuple[float | None, int]]
    seconds: float | None


class _Tally:
    """The best overlaps of all objects with a set of proposals."""

    def __init__(self) -> None:
        self.boxes: list[int] = []
        self.best: list[NDArray[np.float64]] = []
        self.best_of_first: list[NDArray[np.float64]] = []

    def add(self, objects: Boxes, proposals: Boxes) -> None:
        """Add an image, whose best proposals come first."""
        overlaps = iou(objects, proposals)  # [objects, proposals]
        self.boxes.append(len(proposals))
        self.best.append(overlaps.max(axis=1, initial=0))
        first = [overlaps[:, :count].max(axis=1, initial=0) for count in COUNTS]
        self.best_of_first.append(np.stack(first))  # [counts, objects]

    def quality(self, sides: NDArray[np.float64], seconds: float | None) -> Quality:
        """Return the quality over all images; `sides` `[objects]` are the shorter sides."""
        best = np.concatenate(self.best)
        first = np.concatenate(self.best_of_first, axis=1)
        recalls = [_share(best >= limit) for limit in IOUS]
        by_size = {}
        for name, (low, high) in SIZES.items():
            mine = (sides >= low) & (sides < high)
            by_size[name] = (_share(best[mine] >= 0.5), int(mine.sum()))
        return Quality(
            float(np.mean(self.boxes)),
            recalls[0],
            None if len(best) == 0 else float(np.mean([recall or 0.0 for recall in recalls])),
            {f"{limit:.2f}": recall for limit, recall in zip(IOUS, recalls, strict=True)},
            {str(n): _share(row >= 0.5) for n, row in zip(COUNTS, first, strict=True)},
            by_size,
            seconds,
        )


def evaluate(
    images: Sequence[tuple[AnnotatedImage, Proposals]],
    seconds: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Quality]:
    """Return the quality of proposals by source, of all of them ("merged"), and of baselines.

    The baselines are as many random boxes, and as many sliding windows.

    Args:
        images: Annotated images with their proposals.
        seconds: Mean time of an image, if it was measured.
        progress: Is told the number of finished images.
    """
    sources = sorted({str(source) for _, found in images for source in np.unique(found.sources)})
    tallies = {name: _Tally() for name in (*sources, "merged", "random boxes", "sliding windows")}
    sides = []
    for number, (image, proposals) in enumerate(images):
        rng = np.random.default_rng(number)
        objects = image.boxes[~image.difficult]
        sides.append((objects[:, 2:] - objects[:, :2]).min(axis=1, initial=np.inf))
        order = np.lexsort((rng.random(len(proposals)), -proposals.scores))
        best_first = proposals.boxes[order]

        size = (image.width, image.height, len(proposals))
        sets = {source: best_first[proposals.sources[order] == source] for source in sources}
        sets["merged"] = best_first
        sets["random boxes"] = rng.permutation(random_boxes(*size, rng))
        sets["sliding windows"] = rng.permutation(sliding_windows(*size))
        for name, boxes in sets.items():
            tallies[name].add(objects, boxes)
        if progress is not None:
            progress(number + 1, number + 1)

    all_sides = np.concatenate([np.zeros(0), *sides]).astype(np.float64)
    return {
        name: tally.quality(all_sides, seconds if name == "merged" else None)
        for name, tally in tallies.items()
    }


def _share(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if flags.size else None


def to_json(qualities: Mapping[str, Quality], images: int) -> dict[str, Any]:
    """Return the qualities as `detector-eval --json` writes them."""
    sources = {name: asdict(quality) for name, quality in qualities.items()}
    return {"rule": RULE, "images": images, "proposals": sources}

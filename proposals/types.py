"""What passes between a proposal engine and its users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""RGB `uint8 [H, W, 3]`, after EXIF rotation."""

Boxes = NDArray[np.float32]
"""`float32 [N, 4]`: x1, y1, x2, y2 in pixels, 0-based, x2 and y2 exclusive."""

Superpixels = Literal["rcnn", "doubled"]


@dataclass(frozen=True, eq=False)
class Proposals:
    """The boxes in which an object may be, in canonical order (x1, then y1, x2, y2).

    Args:
        boxes: `float32 [N, 4]`, whole pixels inside the image.
        scores: `float32 [N]`; comparable within one source only.
        sources: `str [N]`, which engine gave each box.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    sources: NDArray[np.str_]

    def __post_init__(self) -> None:
        n = len(self.boxes)
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,) or self.sources.shape != (n,):
            raise ValueError(
                f"boxes {self.boxes.shape}, scores {self.scores.shape} and sources "
                f"{self.sources.shape} must be [N, 4], [N] and [N]"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def counts(self) -> Mapping[str, int]:
        """The number of boxes from each source that gave any, and of all: `merged`."""
        names, counts = np.unique(self.sources, return_counts=True)
        by_source = dict(zip(names.tolist(), counts.tolist(), strict=True))
        return by_source | {"merged": len(self)}

    @classmethod
    def from_one_source(cls, boxes: Boxes, source: str) -> Proposals:
        """Unscored boxes (each gets score 1) of one engine."""
        n = len(boxes)
        return cls(boxes, np.ones(n, np.float32), np.full(n, source))


class ProposalMethod(Protocol):
    """Anything that proposes boxes for an image."""

    def __init__(self, *, superpixels: Superpixels) -> None: ...

    def __call__(self, image: Image) -> Proposals:
        """Proposals for an RGB `uint8 [H, W, 3]` image; none is a valid answer."""
        ...

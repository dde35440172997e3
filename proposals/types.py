"""Types of images, boxes and proposals, and the interface of a proposal method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""RGB `uint8 [H, W, 3]`, after EXIF rotation."""

Boxes = NDArray[np.float32]
"""`float32 [N, 4]`: x1, y1, x2, y2 in pixels, 0-based; x2 and y2 are exclusive."""

Superpixels = Literal["rcnn", "doubled"]
"""Size of selective search's superpixels; see `proposals.selective_search`."""


@dataclass(frozen=True, eq=False)
class Proposals:
    """Boxes of an image that may contain an object, in canonical order (by x1, then y1, x2, y2).

    Args:
        boxes: `float32 [N, 4]`, whole pixels inside the image.
        scores: `float32 [N]`; comparable only within one source.
        sources: `str [N]`, the name of the method that proposed each box.

    Raises:
        ValueError: The shapes differ.
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
        """Return the number of boxes of each source, and the total under the key "merged"."""
        names, counts = np.unique(self.sources, return_counts=True)
        by_source = dict(zip(names.tolist(), counts.tolist(), strict=True))
        return by_source | {"merged": len(self)}

    @classmethod
    def from_one_source(cls, boxes: Boxes, source: str) -> Proposals:
        """Make proposals of boxes without scores: each gets score 1."""
        n = len(boxes)
        return cls(boxes, np.ones(n, np.float32), np.full(n, source))


class ProposalMethod(Protocol):
    """Interface of a method that proposes boxes for an image."""

    def __init__(self, *, superpixels: Superpixels) -> None: ...

    def __call__(self, image: Image) -> Proposals:
        """Return proposals for an RGB `uint8 [H, W, 3]` image; there may be none."""
        ...

"""An image on its way through the detector. Each stage has a type of its own:

    PreprocessedImage → ProposedImage → ClassifiedImage → `detector.results.Result`

so that no step can be left out. Letters of shapes: N proposals of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detector.errors import ImageError
from proposals import Image, Proposals

Seconds = Mapping[str, float]
"""Seconds that an image spent in each stage: "decode", "proposals", "classify"."""


@dataclass(frozen=True, eq=False)
class PreprocessedImage:
    """A decoded image with the boxes of the proposal method, before MultiBox adds its own.

    Args:
        pixels: RGB `uint8 [H, W, 3]`, upright.
        proposals: Boxes of the proposal method, or of a file of proposals.
        seconds: Time in the stages so far.
        path: The file, or None for an image that is in memory.
        digest: sha256 of the file's bytes, or "" without a file.
        from_file: Whether the proposals come from a file, to which MultiBox adds nothing.
    """

    pixels: Image
    proposals: Proposals
    seconds: Seconds
    path: str | None = None
    digest: str = ""
    from_file: bool = False


@dataclass(frozen=True, eq=False)
class FailedImage:
    """An image that cannot be used.

    Args:
        error: The reason.
        digest: sha256 of the file's bytes. It is "" if another attempt may succeed, for example
            after a lack of memory.
        seconds: Time in the stages so far.
    """

    error: ImageError
    digest: str = ""
    seconds: Seconds = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ProposedImage:
    """An image with all its proposals, ready for the classifier; fields as in the stage before."""

    pixels: Image
    proposals: Proposals
    seconds: Seconds
    path: str | None = None
    digest: str = ""


@dataclass(frozen=True, eq=False)
class ClassifiedImage:
    """An image whose proposals have class probabilities.

    Args:
        image: The image and its proposals.
        probabilities: `float32 [N, 1 + classes]`; column 0 is background.
        seconds: Time in the stages so far. Images that shared a batch share its time in
            proportion to their regions.
    """

    image: ProposedImage
    probabilities: NDArray[np.float32]
    seconds: Seconds

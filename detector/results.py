"""What the detector finds in an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from detector.errors import DetectorError, ImageError
from detector.images import load
from detector.images.limits import ImageLimits
from proposals import Image
from proposals.types import Boxes

if TYPE_CHECKING:
    import pandas
    import supervision


class Detection(NamedTuple):
    """An object found.

    `box` is x1, y1, x2, y2 in pixels, 0-based, with x2 and y2 exclusive.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Result:
    """The objects found in an image. A notebook shows it as the image with its boxes.

    Args:
        path: The image's file, or None if it was handed in as bytes, PIL image or array.
        width: Width of the upright image in pixels.
        height: Height of the upright image in pixels.
        detections: The objects, best first.
        proposals: Number of boxes that each source proposed, and after the merge ("merged").
        seconds: Time in each stage: "decode", "proposals", "classify".
        classes: All classes of the detector; a class has the same colour in every plot.
        pixels: The image itself, RGB `uint8 [H, W, 3]`, where there is no file to read it from.

    Example:
        >>> result = Detector.load().detect("photo.jpg")  # doctest: +SKIP
        >>> for label, score, box in result.detections:  # doctest: +SKIP
        ...     print(label, score, box)
    """

    path: str | None
    width: int
    height: int
    detections: tuple[Detection, ...]
    proposals: Mapping[str, int]
    seconds: Mapping[str, float]
    classes: tuple[str, ...]
    pixels: Image | None = field(default=None, repr=False, compare=False)

    error: None = field(default=None, init=False, repr=False, compare=False)
    """Always None; a `FailedResult` has an error here."""

    @property
    def boxes(self) -> Boxes:
        """Boxes `float32 [N, 4]`: x1, y1, x2, y2 in pixels, best first."""
        return np.array([box for _, _, box in self.detections], np.float32).reshape(-1, 4)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Scores `float32 [N]`, best first."""
        return np.array([score for _, score, _ in self.detections], np.float32)

    @property
    def labels(self) -> list[str]:
        """Class names, best first."""
        return [label for label, _, _ in self.detections]

    def plot(self, *, minimum_score: float | None = None) -> PillowImage.Image:
        """Draw the boxes over the image.

        Args:
            minimum_score: Weaker detections are left out. By default only strong ones are drawn
                (`detector.drawing.MINIMUM_SCORE`), because many weak boxes hide the image.

        Raises:
            ImageError: The image's file has been changed or removed since.
        """
        from detector.drawing import MINIMUM_SCORE, draw

        image = self.pixels
        if image is None:
            side = max(self.width, self.height)
            limits = ImageLimits(max_pixels=self.width * self.height, max_side=side)
            image = load(str(self.path), limits=limits)
        score = MINIMUM_SCORE if minimum_score is None else minimum_score
        return draw(image, self.detections, self.classes, score)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values, ready for JSON."""
        return {
            "path": self.path,
            "width": self.width,
            "height": self.height,
            "proposals": dict(self.proposals),
            "detections": [
                {"label": label, "score": score, "box": list(box)}
                for label, score, box in self.detections
            ],
            "seconds": dict(self.seconds),
        }

    def to_pandas(self) -> pandas.DataFrame:
        """Return a data frame with the columns label, score, x1, y1, x2, y2, a row a detection.

        Raises:
            DetectorError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise DetectorError("to_pandas() needs pip install pandas") from error

        rows = [(label, score, *box) for label, score, box in self.detections]
        return pandas.DataFrame(rows, columns=["label", "score", "x1", "y1", "x2", "y2"])

    def to_supervision(self) -> supervision.Detections:
        """Return `supervision.Detections`, with the class names in `data["class_name"]`.

        Raises:
            DetectorError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise DetectorError("to_supervision() needs pip install supervision") from error

        index = {label: number for number, label in enumerate(self.classes)}
        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=np.array([index[label] for label in self.labels], int),
            data={"class_name": np.array(self.labels, str)},
        )

    def _repr_png_(self) -> bytes:
        """Return the plot as PNG, which notebooks show."""
        buffer = BytesIO()
        self.plot().save(buffer, format="PNG")
        return buffer.getvalue()


@dataclass(frozen=True)
class FailedResult:
    """An image of a stream that could not be used.

    Args:
        path: The image's file.
        error: The reason.
        seconds: Time in each stage that was begun.
    """

    path: str | None
    error: ImageError
    seconds: Mapping[str, float] = field(default_factory=dict)
    detections: tuple[Detection, ...] = field(default=(), init=False)
    """Always empty."""

"""What the readers of all formats return, and the checks that they share."""

from __future__ import annotations

from typing import NamedTuple

from detector.errors import BrokenImage, OversizedImage
from detector.images.limits import ImageLimits

WIDE_INTEGERS = "32-bit integers, which say nothing of their range: allowed are 8 and 16 bits"
"""Why an image of such pixels is refused. A range from 0 to 255 would be nearly black."""


class EncodedImage(NamedTuple):
    """An image file without its metadata, for Pillow to decode.

    Args:
        data: The file, with the parts that describe pixels only.
        orientation: EXIF's orientation, 1 to 8.
        grey_bits: Bits of a grey value, if there are more than 8.
    """

    data: bytes
    orientation: int = 1
    grey_bits: int = 16


def check_size(width: int, height: int, name: str, limits: ImageLimits) -> None:
    """Check that an image has pixels, and not too many.

    Raises:
        BrokenImage: There are none.
        OversizedImage: There are too many, in total or on one side.
    """
    if width < 1 or height < 1:
        raise BrokenImage(name, f"an image of {width}x{height} pixels")
    if width * height > limits.max_pixels:
        raise OversizedImage(
            name, f"{width}x{height} are more pixels than the {limits.max_pixels:,} allowed"
        )
    if max(width, height) > limits.max_side:
        raise OversizedImage(
            name, f"{width}x{height} is longer than the {limits.max_side:,} pixels allowed"
        )


def check_parts(count: int, name: str, limits: ImageLimits) -> None:
    """Check that a file does not have too many parts.

    Args:
        count: The number of segments, chunks, blocks, strips or tiles that were found so far.
        name: Name of the image in the error.
        limits: The limits.

    Raises:
        OversizedImage: There are too many.
    """
    if count > limits.max_parts:
        raise OversizedImage(name, f"more parts than the {limits.max_parts:,} allowed")

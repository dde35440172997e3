"""What one image may need."""

from __future__ import annotations

from pydantic import Field

from detector.common.config import Frozen

PILLOW_LIMIT = 178_956_970
"""Number of pixels above which Pillow itself refuses to open an image."""


class ImageLimits(Frozen):
    """Limits that are checked on the bytes of an image, before it is decoded."""

    max_pixels: int = Field(50_000_000, ge=1, le=PILLOW_LIMIT)
    """Largest allowed width x height of an image."""
    max_side: int = Field(65_535, ge=1, le=1_000_000)
    """Largest allowed width and height in pixels. A JPEG has no longer side."""
    max_bytes: int = Field(2**29, ge=1, le=2**31)
    """Largest allowed size of a file in bytes."""
    max_parts: int = Field(100_000, ge=1, le=10_000_000)
    """Largest allowed number of parts of a file: segments of a JPEG, chunks of a PNG or WebP,
    blocks of a GIF, tags, strips and tiles of a TIFF."""
    max_scans: int = Field(100, ge=1, le=10_000)
    """Largest allowed number of scans of a JPEG. Progressive ones have about ten; each costs as
    much time as a whole image."""


DEFAULT_LIMITS = ImageLimits()

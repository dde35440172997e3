"""The orientation of an image, from its EXIF block.

An EXIF block is a small TIFF file. Only the tag of the orientation is read, so that no other tag,
however odd, can hide it.
"""

from __future__ import annotations

from detector.images.tiff_directory import Directory

ORIENTATION = 0x0112

PREFIX = b"Exif\x00\x00"
"""Begins the block in JPEG, and by mistake also elsewhere or twice."""

_SIZES = {1: 1, 3: 2, 4: 4}
"""Bytes of the types that hold an orientation: BYTE, SHORT and LONG."""


def orientation(block: bytes) -> int:
    """Return the orientation, 1 to 8. A block without one, or a damaged one, gives 1 (upright).

    Args:
        block: An EXIF block with or without its prefix, or a TIFF file.
    """
    start = 0
    while block.startswith(PREFIX, start):
        start += len(PREFIX)
    directory = Directory.first(block[start:])
    if directory is None:
        return 1

    for entry in directory.entries():
        if entry.tag == ORIENTATION and entry.count == 1 and entry.kind in _SIZES:
            value = directory.integer(entry.value[: _SIZES[entry.kind]])
            if 1 <= value <= 8:
                return value
    return 1

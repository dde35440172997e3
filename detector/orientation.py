"""The orientation of an image, read by itself from a block of EXIF tags.

A library that reads all tags gives up on the first odd one, and an image would silently stay lying
on its side. Source: EXIF 2.32 (CIPA DC-008), sections 4.5 and 4.6.4.A.
"""

from __future__ import annotations

import struct

from PIL.Image import Transpose

EXIF_START = b"Exif\x00\x00"
ORIENTATION = 0x0112

_FORMATS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}
"""Formats of whole numbers by their types in TIFF."""

TRANSPOSES = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What turns an image upright, by its orientation. That of 1 is upright already."""


def read_orientation(block: bytes) -> int:
    """Return the orientation in a block of EXIF tags, from 1 to 8.

    It is 1, upright, if the block does not have the tag, or is damaged there.
    """
    while block.startswith(EXIF_START):  # some programs write it twice
        block = block[len(EXIF_START) :]
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(block[:4])
    if order is None:
        return 1

    try:
        (directory,) = struct.unpack_from(f"{order}L", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, directory)
        for number in range(count):
            entry = directory + 2 + 12 * number
            tag, kind, values = struct.unpack_from(f"{order}HHL", block, entry)
            if tag == ORIENTATION:
                is_number = kind in _FORMATS and values == 1
                value = (
                    struct.unpack_from(order + _FORMATS[kind], block, entry + 8)[0]
                    if is_number
                    else 1
                )
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:  # the block ends before the tag
        pass
    return 1

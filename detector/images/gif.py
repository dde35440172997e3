"""GIF files: the first frame, and its transparent colour.

A file has a header, perhaps a palette, and blocks: frames, and extensions such as comments. The
content of a block is cut into sub-blocks, of which the last one is empty.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import count

from detector.errors import BrokenImage
from detector.images.encoded import EncodedImage, check_parts
from detector.images.limits import ImageLimits

SIGNATURES = (b"GIF87a", b"GIF89a")

_HEADER = 13
_FRAME = 10
"""Bytes of a frame before its palette."""

_HAS_PALETTE = 0x80
"""The flag of a header that a palette follows."""

_CODE_SIZES = tuple(bytes([bits]) for bits in range(1, 9))
"""The byte after a frame's header: bits of a pixel."""

_BLOCK = re.compile(rb"[!,]")
"""First byte of an extension and of a frame."""

_COMMA = re.compile(rb",")

_TRANSPARENCY = re.compile(rb"!\xf9\x04....\x00", re.DOTALL)
"""The extension that names the transparent colour."""


def strip_metadata(data: bytes, name: str, limits: ImageLimits) -> EncodedImage:
    """Return the file without what precedes its first frame, except for the transparent colour.

    Args:
        data: The file.
        name: Name of the image in errors.
        limits: The limits.

    Raises:
        OversizedImage: There are too many blocks before the frame.
        BrokenImage: There is no frame.
    """
    start = _HEADER + _palette_size(int.from_bytes(data[10:11]))
    pieces = [memoryview(data)[:start]]
    for place in _blocks(data, start, name, limits):
        if transparency := _TRANSPARENCY.match(data, place):
            pieces.append(memoryview(data)[place : transparency.end()])
        elif data.startswith(b",", place):
            pieces.append(memoryview(data)[place:])
            return EncodedImage(b"".join(pieces))
    raise BrokenImage(name, "a GIF whose header is broken or cut off")


def _blocks(data: bytes, place: int, name: str, limits: ImageLimits) -> Iterator[int]:
    """Yield the places of the extensions before the first frame, and that of the frame."""
    parts = count()
    while place < len(data):
        yield place
        content = place + 2

        # Walk through the sub-blocks of an extension.
        place = content
        while length := int.from_bytes(data[place : place + 1]):
            check_parts(next(parts), name, limits)
            place += 1 + length
        place += 1

        if not _BLOCK.match(data, place):
            # The length of a sub-block is wrong.
            place = _find_frame(data, content, name, limits)
            check_parts(next(parts), name, limits)


def _find_frame(data: bytes, start: int, name: str, limits: ImageLimits) -> int:
    """Return where the next plausible frame begins, or its transparency, or the end of the file."""
    for number, comma in enumerate(_COMMA.finditer(data, start)):
        check_parts(number, name, limits)
        place = comma.start()
        if _is_frame(data, place):
            transparency = _TRANSPARENCY.match(data, place - 8)
            return place - 8 if transparency else place
    return len(data)


def _is_frame(data: bytes, place: int) -> bool:
    """Return whether a frame with a plausible header begins here."""
    if place + _FRAME > len(data):
        return False
    screen_width, screen_height = struct.unpack_from("<HH", data, 6)
    left, top, width, height, flags = struct.unpack_from("<HHHHB", data, place + 1)
    code_size = place + _FRAME + _palette_size(flags)
    return (
        0 < width <= screen_width - left
        and 0 < height <= screen_height - top
        and data[code_size : code_size + 1] in _CODE_SIZES
    )


def _palette_size(flags: int) -> int:
    """Return the number of bytes of the palette that a header announces."""
    return 3 << (flags % 8 + 1) if flags & _HAS_PALETTE else 0

"""WebP files: the chunks of the first image.

A chunk is its type, its length and its content, padded to an even length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from detector.images.encoded import EncodedImage, check_parts, check_size
from detector.images.exif import orientation
from detector.images.limits import ImageLimits

_HEADER = 12
"""Bytes before the first chunk: `RIFF`, a length, `WEBP`."""

_PIXELS = frozenset({b"VP8 ", b"VP8L", b"ANMF"})
"""Types of chunks that hold an image: lossy, lossless, a frame of an animation."""

_NEEDED = _PIXELS | {b"VP8X", b"ANIM", b"ALPH"}

_KNOWN = _NEEDED | {b"ICCP", b"EXIF", b"XMP "}

_OF_USE = re.compile(rb"VP8[ L]|ANIM|ANMF|ALPH|EXIF")
"""Types of the chunks at which reading goes on after one whose length is wrong."""

_FLAGS = 0x10 | 0x02
"""Flags of the extended header that matter: there is transparency, or an animation."""


class Chunk(NamedTuple):
    """A chunk of a file; the last one may be cut off.

    Args:
        kind: Its type.
        content: Its content.
        start: Where it begins in the file.
        end: Where the next one begins.
    """

    kind: bytes
    content: memoryview
    start: int
    end: int


def is_webp(data: bytes) -> bool:
    """Return whether a file begins as WebP files do."""
    return data.startswith(b"RIFF") and data.startswith(b"WEBP", 8)


def strip_metadata(data: bytes, name: str, limits: ImageLimits) -> EncodedImage:
    """Return the file with the first image alone.

    Args:
        data: The file.
        name: Name of the image in errors.
        limits: The limits.

    Raises:
        OversizedImage: There are too many chunks or pixels.
        BrokenImage: There are no pixels.
    """
    pieces: list[bytes | memoryview] = []
    has_pixels = False
    turned = 1
    for number, chunk in enumerate(_chunks(data)):
        check_parts(number, name, limits)
        if chunk.kind == b"EXIF":
            turned = orientation(bytes(chunk.content))
        elif chunk.kind in _NEEDED and not has_pixels:
            _check_size(chunk, name, limits)
            has_pixels = chunk.kind in _PIXELS
            pieces += _without_flags(data, chunk)

    length = 4 + sum(map(len, pieces))
    header = b"RIFF" + length.to_bytes(4, "little") + b"WEBP"
    return EncodedImage(b"".join((header, *pieces)), turned)


def _chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a file."""
    start = _HEADER
    while start < len(data):
        kind = data[start : start + 4]
        content = start + 8
        length = int.from_bytes(data[start + 4 : content], "little")
        end = content + length + length % 2
        if kind not in _NEEDED and data[end : end + 4] not in _KNOWN:
            # Its length is wrong, or the next chunk is none that is known, or there is none.
            following = _OF_USE.search(data, content)
            end = following.start() if following else len(data)
        yield Chunk(kind, memoryview(data)[content : content + length], start, end)
        start = end


def _check_size(chunk: Chunk, name: str, limits: ImageLimits) -> None:
    """Check the size that a chunk gives, before any memory is taken for it."""

    def integer(start: int, length: int) -> int:
        return int.from_bytes(chunk.content[start : start + length], "little")

    if chunk.kind == b"VP8X":
        check_size(integer(4, 3) + 1, integer(7, 3) + 1, name, limits)
    elif chunk.kind == b"VP8L":
        bits = integer(1, 4)
        check_size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, name, limits)
    elif chunk.kind == b"VP8 ":
        check_size(integer(6, 2) & 0x3FFF, integer(8, 2) & 0x3FFF, name, limits)


def _without_flags(data: bytes, chunk: Chunk) -> list[bytes | memoryview]:
    """Return a chunk in pieces; an extended header announces no metadata."""
    whole = memoryview(data)[chunk.start : chunk.end]
    if chunk.kind != b"VP8X" or not chunk.content:
        return [whole]
    flags = chunk.content[0] & _FLAGS
    return [whole[:8], bytes((flags,)), whole[9:]]

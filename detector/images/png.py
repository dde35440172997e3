"""PNG files: the chunks of their pixels alone.

A chunk is its length, its type, its content and a checksum. Chunks whose type begins with a small
letter are ancillary: an image can be shown without them, so a damaged one is left out.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from detector.errors import BrokenImage
from detector.images.encoded import EncodedImage, check_parts
from detector.images.exif import orientation
from detector.images.limits import ImageLimits

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_HEADER = 13
"""Bytes of the content of the first chunk, `IHDR`."""

_COLOUR_TYPE = 9
"""Where the type of colour is in that content."""

_PALETTE = 3
"""Type of colour of an image with a palette."""

_OF_USE = re.compile(rb"PLTE|tRNS|IDAT|IEND|eXIf|zTXt|tEXt")
"""Types of the chunks that are looked for after a damaged one."""

_TRANSPARENCY_SIZES = {0: range(2, 3), 2: range(6, 7), 3: range(1, 257)}
"""Number of bytes in a chunk of transparency, by the image's type of colour."""

_EXIF_PROFILE = b"Raw profile type exif\x00"
"""Begins a text that ImageMagick wrote before PNG had a chunk for EXIF."""

_MAX_PROFILE = 2**20
"""Bytes of a decompressed profile. Its orientation is near the beginning."""


class Chunk(NamedTuple):
    """A chunk of a file; the last one may be cut off.

    Args:
        kind: Its type.
        content: Its content, or the beginning of it if the chunk is critical.
        start: Where it begins in the file.
        end: Where the next one begins.
        is_whole: Whether the content agrees with the checksum. Only ancillary chunks are checked
            here; Pillow checks the critical ones.
    """

    kind: bytes
    content: bytes
    start: int
    end: int
    is_whole: bool

    @property
    def is_critical(self) -> bool:
        """Whether the image cannot be shown without the chunk."""
        return self.kind[:1].isupper()


def strip_metadata(data: bytes, name: str, limits: ImageLimits) -> EncodedImage:
    """Return the file with the chunks of its pixels.

    Of an animation, this leaves the image that programs show which know no animations.

    Args:
        data: The file.
        name: Name of the image in errors.
        limits: The limits.

    Raises:
        OversizedImage: There are too many chunks.
        BrokenImage: The palette is missing.
    """
    pieces = [memoryview(data)[: len(SIGNATURE)]]
    kinds: set[bytes] = set()
    colour_type = 0
    turned = 1
    for number, chunk in enumerate(_chunks(data)):
        check_parts(number, name, limits)
        if chunk.kind == b"IHDR":
            colour_type = int.from_bytes(chunk.content[_COLOUR_TYPE : _COLOUR_TYPE + 1])

        if chunk.is_critical or _is_transparency(chunk, colour_type):
            pieces.append(memoryview(data)[chunk.start : chunk.end])
            kinds.add(chunk.kind)
        elif turned == 1:
            turned = orientation(_exif(chunk))

    if colour_type == _PALETTE and b"PLTE" not in kinds:
        raise BrokenImage(name, "the palette is missing")
    return EncodedImage(b"".join(pieces), turned)


def _chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks up to the end of the image or of the file."""
    checksums = Checksums(data)
    start = len(SIGNATURE)
    kind = b""
    while start < len(data) and kind != b"IEND":
        content = start + 8
        kind = data[start + 4 : content]
        end = content + int.from_bytes(data[start : start + 4]) + 4
        is_critical = kind[:1].isupper()
        if is_critical:
            yield Chunk(kind, data[content : content + _HEADER], start, end, is_whole=True)
        elif checksums.is_right(start):
            yield Chunk(kind, data[content : end - 4], start, end, is_whole=True)
        else:
            # Its length may be wrong, too: the next chunk is the first whole one that is of use.
            places = (found.start() - 4 for found in _OF_USE.finditer(data, content + 4))
            end = next(filter(checksums.is_right, places), len(data))
            yield Chunk(kind, data[content:end], start, end, is_whole=False)
        start = end


class Checksums:
    """Checks chunks, but not more bytes than a few times the file's.

    The lengths in a file that is made for it could let each chunk contain all that follow.

    Args:
        data: The file.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = 8 * len(data)

    def is_right(self, start: int) -> bool:
        """Return whether the chunk that begins here agrees with its checksum."""
        end = start + 8 + int.from_bytes(self._data[start : start + 4])
        if end + 4 > len(self._data):
            return False
        self._left -= end - start
        if self._left < 0:
            return False
        stated = int.from_bytes(self._data[end : end + 4])
        return zlib.crc32(memoryview(self._data)[start + 4 : end]) == stated


def _is_transparency(chunk: Chunk, colour_type: int) -> bool:
    """Return whether this is a sound chunk of transparency."""
    allowed = _TRANSPARENCY_SIZES.get(colour_type, range(0))
    return chunk.kind == b"tRNS" and chunk.is_whole and len(chunk.content) in allowed


def _exif(chunk: Chunk) -> bytes:
    """Return the EXIF block of a chunk; other chunks have an empty one."""
    if chunk.kind == b"eXIf":
        return chunk.content
    if chunk.kind not in (b"tEXt", b"zTXt") or not chunk.content.startswith(_EXIF_PROFILE):
        return b""

    text = chunk.content[len(_EXIF_PROFILE) :]
    with suppress(ValueError, zlib.error):
        if chunk.kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], _MAX_PROFILE)
        # An empty line, the profile's name, its length, and lines of hexadecimal digits.
        return bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    return b""

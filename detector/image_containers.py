"""The parts of an encoded image that make its pixels and turn it upright.

JPEG and PNG files hold much besides pixels: texts, profiles, thumbnails, other images. A decoder
reads all of it, so that damage or malice there costs the pixels, time or memory. Here it is left
out before the decoder sees the file. Of a TIFF, the numbers of its parts are checked.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from detector.errors import OversizedImage
from detector.image_limits import ImageLimits

JPEG_START = b"\xff\xd8"
PNG_START = b"\x89PNG\r\n\x1a\n"
EXIF_START = b"Exif\x00\x00"

KEPT_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"})
"""PNG's chunks that make pixels."""

_START_OF_SCAN = 0xDA
_APP0 = 0xE0
_APP1 = 0xE1
_APP14 = 0xEE
_APP15 = 0xEF
_COMMENT = 0xFE


class Container(NamedTuple):
    """An encoded image without what is not needed."""

    data: bytes
    exif: bytes | None
    """The block of EXIF tags, if the format stores it in a place of its own."""


def reduce_container(data: bytes, name: str, limits: ImageLimits) -> Container:
    """Leave out the parts of a file that do not make pixels.

    A file that is damaged where it matters is returned as it is: the decoder says what is wrong.

    Args:
        data: The bytes of an image file of any format.
        name: Name of the image in errors.
        limits: How many parts the file may have.

    Raises:
        OversizedImage: It has more.
    """
    if data.startswith(JPEG_START):
        return _reduce_jpeg(data, name, limits)
    if data.startswith(PNG_START):
        return _reduce_png(data, name, limits)
    if data[:2] in _TIFF_ORDERS:
        _check_tiff(data, name, limits)
    return Container(data, None)


class _Part(NamedTuple):
    """A segment of a JPEG or a chunk of a PNG."""

    kind: bytes
    start: int
    end: int


def _reduce_jpeg(data: bytes, name: str, limits: ImageLimits) -> Container:
    """Keep the segments that a decoder needs, and the first scan with all that follows."""
    kept = [JPEG_START]
    exif: bytes | None = None
    position = len(JPEG_START)
    for number, part in enumerate(_segments(data)):
        if number > limits.max_parts:
            raise _too_many(name, "segments", limits.max_parts)
        kind = part.kind[0]
        payload = data[part.start + 4 : part.end]
        position = part.end
        if kind == _START_OF_SCAN:
            position = part.start
            break
        if kind == _APP1 and exif is None and payload.startswith(EXIF_START):
            exif = payload
        is_metadata = _APP0 <= kind <= _APP15 or kind == _COMMENT
        if not is_metadata or kind in (_APP0, _APP14):  # both say what the colours mean
            kept.append(data[part.start : part.end])

    # In the data of a scan, a byte 255 is followed by 0, unless a marker begins.
    scans = data.count(b"\xff\xda", position)
    if scans > limits.max_scans:
        raise _too_many(name, "scans", limits.max_scans)
    return Container(b"".join([*kept, data[position:]]), exif)


def _segments(data: bytes) -> Iterator[_Part]:
    """Yield a JPEG's segments up to the first scan, or up to what is no segment."""
    position = len(JPEG_START)
    while position + 4 <= len(data) and data[position] == 0xFF:
        kind = data[position + 1]
        if kind == 0xFF:  # a fill byte
            position += 1
            continue
        if kind in (0x00, 0x01, 0xD8, 0xD9) or 0xD0 <= kind <= 0xD7:  # markers without length
            return
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        end = position + 2 + length
        if length < 2 or end > len(data):
            return
        yield _Part(data[position + 1 : position + 2], position, end)
        if kind == _START_OF_SCAN:
            return
        position = end


def _reduce_png(data: bytes, name: str, limits: ImageLimits) -> Container:
    """Keep the chunks that make pixels. Damage in others does not matter."""
    kept = [PNG_START]
    exif: bytes | None = None
    position = len(PNG_START)
    for number, part in enumerate(_chunks(data)):
        if number > limits.max_parts:
            raise _too_many(name, "chunks", limits.max_parts)
        position = part.end
        if part.kind in KEPT_CHUNKS:
            kept.append(data[part.start : part.end])
        elif part.kind == b"eXIf" and exif is None and _is_sound(data, part):
            exif = data[part.start + 8 : part.end - 4]
        elif part.kind in (b"tEXt", b"zTXt") and exif is None and _is_sound(data, part):
            exif = _raw_profile(part.kind, data[part.start + 8 : part.end - 4])
    return Container(b"".join([*kept, data[position:]]), exif)


def _chunks(data: bytes) -> Iterator[_Part]:
    """Yield a PNG's chunks up to its end, or up to what is no chunk."""
    position = len(PNG_START)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data) or not kind.isalpha():
            return
        yield _Part(kind, position, end)
        if kind == b"IEND":
            return
        position = end


def _is_sound(data: bytes, part: _Part) -> bool:
    """Return whether a chunk has the checksum that it states."""
    stated = int.from_bytes(data[part.end - 4 : part.end], "big")
    return zlib.crc32(data[part.start + 4 : part.end - 4]) == stated


_RAW_PROFILE = b"Raw profile type exif\x00"
_LARGEST_PROFILE = 1 << 20
"""Largest text of a raw profile that is read, in bytes."""


def _raw_profile(kind: bytes, payload: bytes) -> bytes | None:
    """Return the EXIF block that ImageMagick writes as a text, in hexadecimal digits."""
    if not payload.startswith(_RAW_PROFILE):
        return None
    text = payload[len(_RAW_PROFILE) :]
    try:
        if kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], _LARGEST_PROFILE)
        return bytes.fromhex("".join(text.decode("ascii").split("\n")[3:]))
    except (ValueError, zlib.error):  # not text, or not compressed
        return None


_TIFF_ORDERS = {b"II": "<", b"MM": ">"}
"""Byte orders by a TIFF's first bytes."""


def _check_tiff(data: bytes, name: str, limits: ImageLimits) -> None:
    """Check how many tags, and how many values of a tag, a TIFF's first directory has."""
    order = _TIFF_ORDERS[data[:2]]
    try:
        (version,) = struct.unpack_from(f"{order}H", data, 2)
        is_big = version == 43
        (offset,) = struct.unpack_from(
            f"{order}Q" if is_big else f"{order}L", data, 8 if is_big else 4
        )
        (count,) = struct.unpack_from(f"{order}Q" if is_big else f"{order}H", data, offset)
        if count > limits.max_parts:
            raise _too_many(name, "tags", limits.max_parts)
        entry = f"{order}HHQ8x" if is_big else f"{order}HHL4x"
        offset += 8 if is_big else 2
        for number in range(count):
            tag, _, values = struct.unpack_from(
                entry, data, offset + number * struct.calcsize(entry)
            )
            if values > limits.max_parts and tag in _TIFF_PARTS:
                raise _too_many(name, _TIFF_PARTS[tag], limits.max_parts)
            if values > _LARGEST_TAG:
                raise OversizedImage(name, f"a tag of {values:,} values")
    except struct.error:
        return  # cut off: the decoder says so


class _TiffLayout(NamedTuple):
    """Formats of numbers in a TIFF, as `struct` has them."""

    offset: str
    """Offset of the first directory."""
    offset_at: int
    """Where that offset is, in bytes."""
    number: str
    """Number of a directory's entries."""
    entry: str
    """An entry: tag, type, number of values, and the values or their offset."""


_TIFF = _TiffLayout("L", 4, "H", "HHL4x")
_BIG_TIFF = _TiffLayout("Q", 8, "Q", "HHQ8x")
_BIG_TIFF_VERSION = 43

_TIFF_PARTS = {273: "strips", 279: "strips", 324: "tiles", 325: "tiles"}
"""Tags that have a value for each part of the image."""

_LARGEST_TAG = 16 << 20
"""Most values of any tag. A colour profile has a few million."""


def _too_many(name: str, what: str, allowed: int) -> OversizedImage:
    return OversizedImage(name, f"more than the {allowed:,} {what} allowed")

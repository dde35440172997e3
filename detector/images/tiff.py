"""TIFF files: the first image alone, with those tags that say how its pixels are stored."""

from __future__ import annotations

from math import ceil

from detector.errors import BrokenImage, UnsupportedImage
from detector.images.encoded import WIDE_INTEGERS, EncodedImage, check_parts, check_size
from detector.images.exif import orientation
from detector.images.limits import ImageLimits
from detector.images.tiff_directory import Directory, Entry

SIGNATURES = (b"II*\x00", b"MM\x00*", b"II\x00*", b"MM*\x00", b"II+\x00", b"MM\x00+")
"""First bytes of TIFF, of TIFF with its number in the wrong byte order, and of BigTIFF."""

# Numbers of tags.
WIDTH = 256
HEIGHT = 257
BITS = 258
SAMPLES = 277
STRIP_ROWS = 278
PLANES = 284
TILE_WIDTH = 322
TILE_HEIGHT = 323
FORMAT = 339

PIXEL_TAGS = frozenset(
    {
        *(WIDTH, HEIGHT, BITS, 259, 262, 266),  # size, bits, compression, colours, order of bits
        *(273, SAMPLES, STRIP_ROWS, 279, PLANES),  # strips
        *(292, 293, 317, 320),  # options of fax compression, predictor, palette
        *(TILE_WIDTH, TILE_HEIGHT, 324, 325),  # tiles
        *(332, 338, FORMAT, 347),  # inks, alpha, type of numbers, tables of JPEG
        *range(512, 522),  # JPEG in its old form
        *(529, 530, 531, 532),  # YCbCr
    }
)
"""Tags that decoding needs."""

_INTEGER_SIZES = {1: 1, 3: 2, 4: 4, 16: 8}
"""Bytes of the types of whole numbers."""

_FLOATING_POINT = 3
"""Value of the tag `FORMAT`."""


def strip_metadata(data: bytes, name: str, limits: ImageLimits) -> EncodedImage:
    """Return the file with the first directory alone, which keeps the tags of pixels.

    Args:
        data: The file.
        name: Name of the image in errors.
        limits: The limits.

    Raises:
        OversizedImage: A limit is exceeded.
        BrokenImage: The directory is cut off, or there are no pixels.
        UnsupportedImage: The pixels are 32-bit integers.
    """
    directory = Directory.first(data)
    if directory is None:  # Pillow says why
        return EncodedImage(data)
    check_parts(directory.count, name, limits)
    if directory.is_cut:
        raise BrokenImage(name, "a TIFF whose header is broken or cut off")

    entries: dict[int, Entry] = {}
    for entry in directory.entries():
        if entry.tag in PIXEL_TAGS:
            check_parts(entry.count, name, limits)
            entries.setdefault(entry.tag, entry)
    _check_layout(directory, entries, name, limits)

    bits = _integer(directory, entries, BITS, default=16)
    if bits == 32 and _integer(directory, entries, FORMAT, default=1) != _FLOATING_POINT:
        raise UnsupportedImage(name, WIDE_INTEGERS)
    return EncodedImage(_with_directory(directory, entries), orientation(data), bits)


def _check_layout(
    directory: Directory, entries: dict[int, Entry], name: str, limits: ImageLimits
) -> None:
    """Check the size of the image, and the number and size of its strips or tiles."""

    def integer(tag: int, default: int) -> int:
        return _integer(directory, entries, tag, default)

    width = integer(WIDTH, 1)
    height = integer(HEIGHT, 1)
    check_size(width, height, name, limits)

    planes = integer(SAMPLES, 1) if integer(PLANES, 1) == 2 else 1
    if TILE_WIDTH in entries or TILE_HEIGHT in entries:
        part_width = integer(TILE_WIDTH, width)
        part_height = integer(TILE_HEIGHT, height)
        check_size(part_width, part_height, name, limits)
    else:
        part_width = width
        part_height = max(1, integer(STRIP_ROWS, height))
    check_parts(planes * ceil(width / part_width) * ceil(height / part_height), name, limits)


def _integer(directory: Directory, entries: dict[int, Entry], tag: int, default: int) -> int:
    """Return the first value of a tag; `default` if there is none, or it is stored elsewhere."""
    entry = entries.get(tag)
    if entry is None or entry.count < 1 or entry.kind not in _INTEGER_SIZES:
        return default

    size = _INTEGER_SIZES[entry.kind]
    if entry.count * size <= len(entry.value):
        return directory.integer(entry.value[:size])
    offset = directory.integer(entry.value)
    return directory.integer(directory.data[offset : offset + size])


def _with_directory(directory: Directory, entries: dict[int, Entry]) -> bytes:
    """Return the file with these entries as its only directory, in the place of the first."""
    data = memoryview(directory.data)
    layout = directory.layout
    place = directory.offset - layout.count
    content = b"".join(
        (
            len(entries).to_bytes(layout.count, directory.byte_order),
            *(entries[tag].record for tag in sorted(entries)),
            bytes(layout.offset),  # there is no next directory
        )
    )
    return b"".join((data[:place], content, data[place + len(content) :]))

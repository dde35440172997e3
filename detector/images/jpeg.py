"""JPEG files: the segments that decoding needs.

A segment is a marker, its length and its content. Segments of applications (EXIF, XMP, colour
profiles, further images) and comments are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from detector.errors import OversizedImage, TruncatedImage
from detector.images import exif
from detector.images.encoded import EncodedImage, check_parts
from detector.images.limits import ImageLimits

SIGNATURE = b"\xff\xd8\xff"

_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
"""A marker. Those without a segment, and zeros after 255 in the pixels, are no markers here."""

_START = 0xD8
_END = 0xD9
_SCAN = 0xDA
_EXIF = 0xE1

_DECODING = frozenset({*range(0xC0, 0xD0), *range(0xDA, 0xE0)})
"""Markers of the segments that decoding needs: frames, scans and their tables."""

_COLOUR_MODELS = {0xE0: (b"JFIF\x00", 14), 0xEE: (b"Adobe", 12)}
"""Markers of the segments of applications that name the model of colours: how their content
begins, and how long it is at least."""


class Segment(NamedTuple):
    """A segment: its marker and its place in the file.

    Args:
        marker: Second byte of its marker.
        start: Where its marker begins.
        end: Where it ends.
    """

    marker: int
    start: int
    end: int


def strip_metadata(data: bytes, name: str, limits: ImageLimits) -> EncodedImage:
    """Return the file with the segments that decoding needs.

    Args:
        data: The file.
        name: Name of the image in errors.
        limits: The limits.

    Raises:
        OversizedImage: There are too many segments or scans.
        TruncatedImage: There is no scan.
    """
    pieces = [memoryview(data)[:2]]
    blocks: list[memoryview] = []
    for segment in _segments(data, 2, name, limits):
        if segment.marker == _SCAN:
            _check_scans(data, segment.start, name, limits)
            pieces.append(memoryview(data)[segment.start :])
            break

        if _is_needed(data, segment):
            pieces.append(memoryview(data)[segment.start : segment.end])
        elif _is_exif(data, segment):
            # A long block continues in further segments.
            prefix = len(exif.PREFIX) if blocks else 0
            blocks.append(memoryview(data)[segment.start + 4 + prefix : segment.end])
    else:
        raise TruncatedImage(name, "the end of the image is missing")
    return EncodedImage(b"".join(pieces), exif.orientation(b"".join(blocks)))


def _check_scans(data: bytes, start: int, name: str, limits: ImageLimits) -> None:
    """Check the number of scans.

    Args:
        data: The file.
        start: Where the first scan begins.
        name: Name of the image in errors.
        limits: The limits.

    Raises:
        OversizedImage: There are too many.
    """
    # This is quick, but also counts the scans of images that follow the first.
    if data.count(bytes((0xFF, _SCAN)), start) <= limits.max_scans:
        return

    scans = 0
    for segment in _segments(data, start, name, limits):
        if segment.marker == _END:
            return
        scans += segment.marker == _SCAN
        if scans > limits.max_scans:
            raise OversizedImage(name, f"more scans than the {limits.max_scans:,} allowed")


def _segments(data: bytes, start: int, name: str, limits: ImageLimits) -> Iterator[Segment]:
    """Yield the segments from here to the end of the file, with those between scans."""
    parts = count()
    while marker := _MARKER.search(data, start):
        check_parts(next(parts), name, limits)
        segment = _segment(data, marker.start())
        is_metadata = segment.marker != _END and not _is_needed(data, segment)
        if is_metadata and not _is_marker(data, segment.end):
            # Its length is wrong.
            following = _next_needed(data, segment.start + 4, parts, name, limits)
            segment = segment._replace(end=following)
        yield segment
        start = segment.end


def _segment(data: bytes, start: int) -> Segment:
    """Return the segment that begins here; its end may lie outside the file."""
    marker = data[start + 1]
    if marker == _END:
        return Segment(marker, start, start + 2)
    if marker == _START:  # a preview, which has segments of its own
        end = data.find(bytes((0xFF, _END)), start)
        return Segment(marker, start, end + 2 if end > 0 else len(data))
    return Segment(marker, start, start + 2 + int.from_bytes(data[start + 2 : start + 4]))


def _next_needed(
    data: bytes, start: int, parts: Iterator[int], name: str, limits: ImageLimits
) -> int:
    """Return where the next segment begins that is of use, or the end of the file."""
    while marker := _MARKER.search(data, start):
        check_parts(next(parts), name, limits)
        segment = _segment(data, marker.start())
        is_of_use = _is_needed(data, segment) or _is_exif(data, segment)
        if is_of_use and (_is_scan(data, segment) or _is_marker(data, segment.end)):
            return segment.start
        start = segment.end if segment.marker == _START else segment.start + 2
    return len(data)


def _is_marker(data: bytes, place: int) -> bool:
    """Return whether a marker begins here."""
    return _MARKER.match(data, place) is not None


def _is_scan(data: bytes, segment: Segment) -> bool:
    """Return whether a scan begins with a segment, whose length follows from its components."""
    components = int.from_bytes(data[segment.start + 4 : segment.start + 5])
    return segment.marker == _SCAN and segment.end - segment.start == 8 + 2 * components


def _is_needed(data: bytes, segment: Segment) -> bool:
    """Return whether decoding needs a segment."""
    if segment.marker in _COLOUR_MODELS:
        prefix, length = _COLOUR_MODELS[segment.marker]
        content = segment.start + 4
        return data.startswith(prefix, content) and segment.end >= content + length
    return segment.marker in _DECODING


def _is_exif(data: bytes, segment: Segment) -> bool:
    """Return whether a segment has EXIF."""
    return segment.marker == _EXIF and data.startswith(exif.PREFIX, segment.start + 4)

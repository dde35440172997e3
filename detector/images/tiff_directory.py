"""The first directory of a TIFF file or of an EXIF block: a table of tags."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

_BYTE_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II": "little", b"MM": "big"}


@dataclass(frozen=True)
class Entry:
    """A tag of a directory.

    Args:
        tag: Number of the tag.
        kind: Number of the values' type.
        count: Number of values.
        value: The values, if they fit into the 4 bytes (8 in BigTIFF), or else their offset.
        record: The entry's own bytes.
    """

    tag: int
    kind: int
    count: int
    value: bytes
    record: bytes


@dataclass(frozen=True)
class Layout:
    """Sizes in bytes of what a directory consists of."""

    header: int
    offset: int
    count: int
    entry: int


CLASSIC = Layout(header=8, offset=4, count=2, entry=12)
BIG = Layout(header=16, offset=8, count=8, entry=20)

_LAYOUTS = {42: CLASSIC, 42 << 8: CLASSIC, 43: BIG}
"""Layout by the number that follows the byte order. Some files have it in the other order."""


@dataclass(frozen=True)
class Directory:
    """Where a directory is, and how it is to be read.

    Args:
        data: The file.
        byte_order: That of all numbers.
        layout: That of a TIFF or of a BigTIFF file.
        offset: Where the entries begin.
        count: Number of the entries, as the file says. There may be fewer.
    """

    data: bytes
    byte_order: Literal["little", "big"]
    layout: Layout
    offset: int
    count: int

    @classmethod
    def first(cls, data: bytes) -> Self | None:
        """Return the first directory, or None if there is none."""
        byte_order = _BYTE_ORDERS.get(data[:2])
        if byte_order is None:
            return None

        layout = _LAYOUTS.get(int.from_bytes(data[2:4], byte_order))
        if layout is None:
            return None

        place = int.from_bytes(data[layout.header - layout.offset : layout.header], byte_order)
        offset = place + layout.count
        if place < layout.header or offset > len(data):
            return None
        count = int.from_bytes(data[place:offset], byte_order)
        return cls(data, byte_order, layout, offset, count)

    @property
    def is_cut(self) -> bool:
        """Whether the file ends before the last entry."""
        return self.offset + self.count * self.layout.entry > len(self.data)

    def integer(self, value: bytes) -> int:
        """Return a number of the file."""
        return int.from_bytes(value, self.byte_order)

    def entries(self) -> Iterator[Entry]:
        """Yield the entries that are in the file."""
        size = self.layout.entry
        there = (len(self.data) - self.offset) // size
        for index in range(min(self.count, there)):
            start = self.offset + index * size
            yield self._entry(self.data[start : start + size])

    def _entry(self, record: bytes) -> Entry:
        value = len(record) - self.layout.offset
        return Entry(
            tag=self.integer(record[:2]),
            kind=self.integer(record[2:4]),
            count=self.integer(record[4:value]),
            value=record[value:],
            record=record,
        )

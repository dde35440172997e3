"""EXIF blocks, whole and damaged, and what they say of the orientation."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Literal

ORIENTATION = 0x0112


def exif_block(
    value: int,
    *,
    order: Literal["II", "MM"] = "II",
    kind: int = 3,
    count: int = 1,
    others: Sequence[bytes] = (),
) -> bytes:
    """A block with an orientation, after other entries of 12 bytes.

    Args:
        value: The orientation.
        order: Byte order.
        kind: Type of the value: 1 (8 bits), 3 (16 bits), 4 (32 bits), or a wrong one.
        count: Number of values.
        others: The entries before that of the orientation.
    """
    mark = "<" if order == "II" else ">"
    packed = struct.pack(mark + {1: "B", 3: "H"}.get(kind, "L"), value)
    entry = struct.pack(f"{mark}HHL", ORIENTATION, kind, count) + packed.ljust(4, b"\0")
    header = order.encode() + struct.pack(f"{mark}HL", 42, 8)
    entries = [*others, entry]
    return header + struct.pack(f"{mark}H", len(entries)) + b"".join(entries) + bytes(4)


def damaged_block(rng: random.Random) -> bytes:
    """A block with odd entries beside an orientation, of which a few bytes are damaged."""
    order: Literal["II", "MM"] = rng.choice(("II", "MM"))
    others = [
        struct.pack(
            "<HHL" if order == "II" else ">HHL",
            rng.randrange(2**16),
            rng.randrange(20),
            rng.choice((0, 1, 2, 300, 2**32 - 1)),
        )
        + rng.randbytes(4)
        for _ in range(rng.randrange(4))
    ]
    block = bytearray(
        exif_block(rng.randint(1, 8), order=order, kind=rng.choice((1, 3, 4)), others=others)
    )
    block += rng.randbytes(rng.randrange(40))
    for _ in range(rng.randrange(4)):
        block[rng.randrange(len(block))] = rng.randrange(256)
    return bytes(block[: rng.randint(0, len(block))] if rng.random() < 0.2 else block)


def expected_orientation(block: bytes) -> int:
    """The orientation by the words of the standard: what a sound tag of the first table says.

    Sound is an entry of tag 0x0112 with one value from 1 to 8 as 8, 16 or 32 bits, which the header
    leads to, and which is whole. A block without one is upright.
    """
    mark = {b"II": "<", b"MM": ">"}.get(block[:2])
    if (
        mark is None
        or len(block) < 8
        or struct.unpack(f"{mark}H", block[2:4])[0] not in (42, 42 << 8)
    ):
        return 1
    (place,) = struct.unpack(f"{mark}L", block[4:8])
    if not 8 <= place <= len(block) - 2:
        return 1

    (count,) = struct.unpack(f"{mark}H", block[place : place + 2])
    for number in range(count):
        entry = block[place + 2 + 12 * number : place + 14 + 12 * number]
        if len(entry) < 12:
            break
        tag, kind, values = struct.unpack(f"{mark}HHL", entry[:8])
        if tag == ORIENTATION and values == 1 and kind in (1, 3, 4):
            size, letter = {1: (1, "B"), 3: (2, "H"), 4: (4, "L")}[kind]
            (value,) = struct.unpack(mark + letter, entry[8 : 8 + size])
            if 1 <= value <= 8:
                return int(value)
    return 1

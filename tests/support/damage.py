"""Damaged files: bit flips, cuts, and values of other types."""

from __future__ import annotations

import copy
import random
from typing import Any

OTHER_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, 10**30, float("nan"), float("inf"), "", "0", "1", "x", "1234",
    "../x", "a\0b", [], [1], [1, 2, 3, 4], ["1", "2", "3", "4"], {}, {"id": 1},
)  # fmt: skip
"""What a damaged JSON file may have in the place of any value."""


def damage_bytes(rng: random.Random, data: bytes) -> bytes:
    """Return bytes with one to three flips, cuts, copies or insertions."""
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(damaged) + 1)
        length = rng.choice((1, 2, 8, len(damaged) // 3 + 1))
        match rng.choice(("flip", "flip", "cut off", "remove", "repeat", "zero", "insert")):
            case "flip" if start < len(damaged):
                damaged[start] ^= 1 << rng.randrange(8)
            case "cut off":
                del damaged[start:]
            case "remove":
                del damaged[start : start + length]
            case "repeat":
                damaged[start:start] = damaged[start : start + length]
            case "zero":
                damaged[start : start + length] = bytes(len(damaged[start : start + length]))
            case "insert":
                damaged[start:start] = rng.randbytes(length % 16)
    return bytes(damaged)


def swap_value(rng: random.Random, value: Any) -> Any:
    """Return a copy of JSON in which one value is another, or is missing."""
    root = [copy.deepcopy(value)]
    places: list[tuple[Any, Any]] = []

    def walk(container: Any) -> None:
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, inner in items:
            places.append((container, key))
            if isinstance(inner, (dict, list)):
                walk(inner)

    walk(root)
    container, key = rng.choice(places)
    if container is not root and rng.random() < 0.2:
        del container[key]
    else:
        container[key] = copy.deepcopy(rng.choice(OTHER_VALUES))
    return root[0]

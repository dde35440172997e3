"""Types of JSON values, more strictly than Python: neither a text nor a flag is a number."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any


def is_number(value: Any) -> bool:
    """Return whether a value is a number; it may be infinite or not a number in IEEE's sense."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number, written without a decimal point."""
    return isinstance(value, int) and not isinstance(value, bool)


def are_numbers(value: Any, count: int) -> bool:
    """Return whether a value is a list of numbers with this length."""
    return isinstance(value, list) and len(value) == count and all(map(is_number, value))


def are_finite(numbers: Iterable[int | float]) -> bool:
    """Return whether numbers are within the range of float64, and none is NaN."""
    return all(abs(number) <= sys.float_info.max for number in numbers)


def short(value: Any) -> str:
    """Return a value as JSON writes it, cut to what fits in a message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."

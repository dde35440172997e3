"""Large arrays that are free go back to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress

MMAP_THRESHOLD = -3
"""glibc's number of the parameter (`malloc.h`)."""

LARGE = 2**20
"""Bytes."""


def give_back_large() -> None:
    """Have glibc give an array of a mebibyte or more back when it is freed, in this process.

    Left to itself it comes to keep arrays of up to 32 MiB for later, and images have so many sizes
    that the holes between them add up. Where there is no glibc, nothing is changed.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE)

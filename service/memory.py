"""Freed images and bodies of requests go back to the operating system."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3
"""Number of the parameter in glibc's `malloc.h`."""

IMAGE_BYTES = 2**20
"""Size from which an array goes back to the system when it is freed."""


def return_freed_images() -> None:
    """Make glibc return arrays of a mebibyte or more to the system, in this process.

    By default glibc raises its mmap threshold to 32 MiB, and freed images then fragment the heap.
    Without glibc nothing changes.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, IMAGE_BYTES)

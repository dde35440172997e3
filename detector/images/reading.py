"""Reading image files. It never waits, and never reads more than the limit."""

from __future__ import annotations

import os
import stat
from os import PathLike
from pathlib import Path
from typing import Protocol, runtime_checkable

from detector.errors import OversizedImage, UnreadableImage
from detector.images.limits import DEFAULT_LIMITS


@runtime_checkable
class Readable(Protocol):
    """A file that need not be on a disk, such as an object in a store."""

    def read_bytes(self) -> bytes:
        """Return the content of the file.

        Raises:
            OSError: The file cannot be read.
        """
        ...


def read(
    path: str | PathLike[str] | Readable, *, max_bytes: int = DEFAULT_LIMITS.max_bytes
) -> bytes:
    """Return the bytes of an image file.

    Args:
        path: The file.
        max_bytes: Largest allowed size of the file.

    Raises:
        UnreadableImage: The file is missing, may not be read, or is a folder, pipe, socket or
            device.
        OversizedImage: The file has more bytes.
    """
    try:
        if isinstance(path, str | PathLike):
            is_too_long, data = _read_regular_file(Path(path), max_bytes)
        else:
            data = path.read_bytes()
            is_too_long = len(data) > max_bytes
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UnreadableImage(str(path), f"cannot be read: {reason}") from error

    if is_too_long:
        raise OversizedImage(str(path), f"more bytes than the {max_bytes:,} allowed")
    return data


def _read_regular_file(path: Path, max_bytes: int) -> tuple[bool, bytes]:
    """Return whether a file is too long, and its content unless it is.

    Raises:
        OSError: The file cannot be read, or is not a regular one.
    """
    if stat.S_ISREG(path.stat().st_mode):
        # It may have become a pipe since, which opens at once only without blocking.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                data = b"" if status.st_size > max_bytes else file.read(max_bytes + 1)
                return max(status.st_size, len(data)) > max_bytes, data
    raise OSError("it is not a regular file")

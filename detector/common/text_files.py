"""Text that people and other programs wrote, read without waiting and without guessing."""

from __future__ import annotations

import codecs
import os
import re
import stat
from io import BufferedReader
from pathlib import Path

from detector.errors import FormatError

_ENCODING_OF_MARK = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks, and what they say of the rest."""


CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that end a line or control a terminal."""


def one_line(text: str) -> str:
    """Return a text with escapes for what ends a line or controls a terminal.

    A name of a file or a field of one can have such characters.
    """
    return CONTROL_CHARACTERS.sub(lambda found: repr(found[0])[1:-1], text)


def is_file(path: Path) -> bool:
    """Return whether a path is a file; one that no file can have, as it is too long, is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_bytes(path: Path, *, limit: int | None = None) -> bytes:
    """Read a file or a pipe that a program has open.

    A device is refused, because it may have no end. A named pipe that nobody writes to is empty,
    because opening it must not wait for a writer that never comes.

    Args:
        path: The file.
        limit: Largest size that is allowed, in bytes. No more than that is read.

    Raises:
        FormatError: The file is missing, may not be read, is too large, or is a folder or a device.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
                raise FormatError(path, "cannot be read: it is a device and should be a file")
            if limit is not None and status.st_size > limit:
                raise _too_large(path, limit)
            os.set_blocking(descriptor, True)
            data = file.read() if limit is None else file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise FormatError(path, f"cannot be read: {reason}") from error
    if limit is not None and len(data) > limit:
        raise _too_large(path, limit)
    return data


def open_file(path: Path) -> BufferedReader:
    """Open a file that is read in parts or twice, as no pipe and no device can be.

    Raises:
        FormatError: It is missing, may not be read, or is no file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FormatError(path, "cannot be read: it must be a file, because it is read in parts")
    return open(descriptor, "rb")


def _too_large(path: Path, limit: int) -> FormatError:
    return FormatError(path, f"is too large: at most {limit:,} bytes are allowed")


def read_text(path: Path, *, errors: str = "strict") -> str:
    """Read text in UTF-8, or in the encoding that its byte order mark names.

    Args:
        path: The file.
        errors: What happens to bytes that are not text: `strict`, or another handler of codecs.

    Raises:
        FormatError: The file cannot be read, or is not text.
    """
    return decode_text(path, read_bytes(path), errors=errors)


def decode_text(path: Path, data: bytes, *, errors: str = "strict") -> str:
    """Decode the content of a file; see `read_text`."""
    mark, encoding = next(
        (pair for pair in _ENCODING_OF_MARK if data.startswith(pair[0])), (b"", "utf-8")
    )
    text = data[len(mark) :]
    try:
        return text.decode(encoding, errors)
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        raise FormatError(path, f"is not {encoding.upper()} text: {error.reason}", line) from error


def read_lines(path: Path, *, errors: str = "strict") -> list[str]:
    """Read the lines of a text, without their ends; see `read_text`.

    A line ends with a line feed, a carriage return or both. Other characters at which
    `str.splitlines` cuts can be part of a file's name.
    """
    text = read_text(path, errors=errors).replace("\r\n", "\n").replace("\r", "\n")
    return text.removesuffix("\n").split("\n") if text else []


def parse_number(field: str) -> float:
    """Parse a field of a line, which may also be infinite or NaN.

    Unlike `float`, it allows neither underscores nor digits of other scripts.

    Raises:
        ValueError: The field is not a number.
    """
    if "_" in field or not field.isascii():
        raise ValueError(f"not a number: {field!r}")
    return float(field)

"""The spellings that files of people and other programs have for the name of one image."""

from __future__ import annotations

import posixpath


def as_written(file: str) -> str:
    """Return a name as it is."""
    return file


def plain(file: str) -> str:
    """Return a path in its plainest spelling, with single slashes and no `.` or `..` inside."""
    return posixpath.normpath(file.replace("\\", "/"))


def base_name(file: str) -> str:
    """Return the name of a file without its folders."""
    return posixpath.basename(plain(file))


SPELLINGS = (as_written, plain, base_name)
"""What two names may have in common to be those of one image, the surest first."""

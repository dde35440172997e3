"""Writing files and tables whole or not at all, and reading JSON."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from detector.errors import FormatError

if TYPE_CHECKING:
    from _csv import Writer


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the name `path` when it is complete."""
    digest = hashlib.sha1(os.fsencode(path.name)).hexdigest()  # a longer name may be too long
    aside = path.with_name(f".{digest[:16]}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_table(path: Path, columns: Iterable[str]) -> Iterator[Writer]:
    """The same for a table (CSV) in UTF-8, its line of headings written."""
    with replacing(path) as file:
        text = io.TextIOWrapper(
            file, encoding="utf-8", errors="backslashreplace", newline="", write_through=True
        )
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)
        yield table
        text.detach()


def read_json(path: Path) -> Any:
    """A file's JSON.

    Raises:
        FormatError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise FormatError(path, f"not JSON: {error}") from error


def encode(value: Any) -> bytes:
    """A value as one line of JSON in UTF-8.

    File names that are not UTF-8 themselves become JSON's escapes, which read back to the same.
    """
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")

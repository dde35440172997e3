"""Files that are written whole or not at all, and JSON."""

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
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block ends without an error."""
    # A fixed-length name: the file's own name plus a suffix could be longer than allowed.
    digest = hashlib.sha1(os.fsencode(path.name)).hexdigest()
    temporary = path.with_name(f".{digest[:16]}.partial")

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_csv(path: Path, columns: Iterable[str]) -> Iterator[Writer]:
    """Open a temporary UTF-8 CSV file, with its header line, that replaces `path` at the end."""
    with atomic_write(path) as file:
        text = io.TextIOWrapper(
            file, encoding="utf-8", errors="backslashreplace", newline="", write_through=True
        )
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)
        yield table
        text.detach()


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FormatError: The file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise FormatError(path, f"not JSON: {error}") from error


def encode(value: Any) -> bytes:
    """Encode a value as one line of UTF-8 JSON.

    Bytes of file names that are not UTF-8 become JSON escapes, which read back unchanged.
    """
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")

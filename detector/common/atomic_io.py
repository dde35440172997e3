"""Files that are written whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

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

"""The one way in which this program writes outputs: a file is written whole or not at all.

A link is followed, a pipe or a device is written to directly, and `-` is standard output.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import io
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from detector.errors import OutputError

if TYPE_CHECKING:
    from _csv import Writer

STANDARD_OUTPUT = Path("-")
"""The name of standard output on the command line."""

_PARTIAL_NAME = re.compile(r"\.[0-9a-f]{16}\.partial")
"""Names of temporary files."""


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open an output. A file, new or old, changes only when the block ends without an error.

    Args:
        path: A file, a link to one, a pipe, a device such as /dev/null, or `-`.

    Raises:
        OutputError: The output cannot be written, is of another kind, or is being written by
            another program.
        BrokenPipeError: Nobody reads the pipe any more.
    """
    with _errors_with_name(path):
        if is_stream(path):
            with _open_stream(path) as file:
                yield file
        else:
            with _replace(Path(os.path.realpath(path))) as file:
                yield file


@contextmanager
def atomic_csv(path: Path, columns: Iterable[str]) -> Iterator[Writer]:
    """Open an output as `atomic_write` does, as UTF-8 CSV, and write its header line."""
    with atomic_write(path) as file:
        text = io.TextIOWrapper(
            file, encoding="utf-8", errors="backslashreplace", newline="", write_through=True
        )
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)
        yield table
        text.detach()


def is_stream(path: Path) -> bool:
    """Return whether an output is standard output, a pipe or a device, and not a file."""
    if is_standard_output(path):
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def is_standard_output(path: Path) -> bool:
    """Return whether an output is standard output, by any of its names."""
    if path == STANDARD_OUTPUT:
        return True
    try:
        return os.path.samestat(path.stat(), os.fstat(1))
    except OSError:  # there is no such file, or standard output is closed
        return False


def remove_partial_files(folder: Path, *, recursive: bool) -> None:
    """Remove the temporary files that killed processes left in a folder.

    Those of processes that are still writing stay.

    Args:
        folder: The folder. It need not exist.
        recursive: Whether to look in its subfolders as well.
    """
    for parent, subfolders, names in os.walk(folder):
        if not recursive:
            subfolders.clear()
        for name in filter(_PARTIAL_NAME.fullmatch, names):
            partial = Path(parent, name)
            with suppress(OSError), open(partial, "rb") as file:
                _lock(file)
                partial.unlink()


@contextmanager
def _open_stream(path: Path) -> Iterator[BinaryIO]:
    """Open standard output, a pipe or a device."""
    if is_standard_output(path):
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.flush()
        return

    try:
        # Without waiting for a reader, who may never come.
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise OutputError(f"{path}: is a pipe that no program reads") from error
    os.set_blocking(descriptor, True)
    with open(descriptor, "wb") as file:
        yield file


@contextmanager
def _replace(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces a file when the block ends without an error.

    Args:
        path: The file, without links.
    """
    # A fixed-length name: the file's own name plus a suffix could be longer than allowed.
    digest = hashlib.sha1(os.fsencode(path.name)).hexdigest()
    temporary = path.with_name(f".{digest[:16]}.partial")

    path.parent.mkdir(parents=True, exist_ok=True)
    mode = _mode(path)
    with _open_alone(temporary) as file:
        try:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _mode(path: Path) -> int | None:
    """Return the permissions of a file that will be replaced, or None if there is none.

    Raises:
        OutputError: It is not a file.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise OutputError(f"{path}: is neither a file nor a pipe, so that it is not replaced")
    return stat.S_IMODE(status.st_mode)


def _open_alone(temporary: Path) -> BinaryIO:
    """Open a temporary file, empty, that no other process has open.

    A killed process may have left it. A process that still writes it holds its lock.
    """
    while True:
        descriptor = os.open(
            temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode=0o666
        )
        file = open(descriptor, "r+b")  # noqa: SIM115 - the caller closes it
        try:
            _lock(file)
            # The process that had the lock may have given the file its final name since.
            if os.path.samestat(os.fstat(descriptor), temporary.stat()):
                file.truncate()
                return file
        except BlockingIOError as error:
            file.close()
            raise OutputError(f"{temporary}: another program is writing this output") from error
        except FileNotFoundError:
            pass
        file.close()


def _lock(file: BinaryIO) -> None:
    """Lock a file until it is closed.

    Raises:
        BlockingIOError: Another process has the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks, such as some of NFS
        pass


@contextmanager
def _errors_with_name(path: Path) -> Iterator[None]:
    """Turn errors of the system that come from writing an output into one line that names it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        own = (None, *map(os.fspath, (path, *Path(os.path.realpath(path)).parents)))
        is_own = error.filename in own or str(error.filename).endswith(".partial")
        if not is_own:
            raise
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error

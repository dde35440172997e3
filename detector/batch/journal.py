"""A run's record of finished images: the run continues from it, and its output is made from it.

A journal is a file of JSON lines. The first line holds a fingerprint of everything that changes
results. Each other line is the record of a finished image, with the digest of the image's bytes.
The last value of each line is a checksum of the bytes before it, so that damage is noticed.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from detector.common.json_files import encode
from detector.errors import FormatError, SettingsError

logger = logging.getLogger(__name__)

START = b'{"fingerprint": '
"""First bytes of every journal."""

CHECKSUM = re.compile(rb', "crc32": "([0-9a-f]{8})"\}\n')
"""End of every line: the CRC-32 of all bytes before it."""

CHECKSUM_LENGTH = len(b', "crc32": "00000000"}\n')


class _Line(NamedTuple):
    """The record of an image in the file."""

    offset: int
    """In bytes."""
    length: int
    """In bytes."""
    digest: str


class Journal:
    """A file of records by image name. If an image has several, the last one counts.

    Only one process can have a journal open. Call `begin` before anything else.

    Args:
        path: The file. It is created if it does not exist.

    Raises:
        SettingsError: The file cannot be written, or another run has it open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[str, _Line] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(path, flags, mode=0o666)
        except OSError as error:
            raise SettingsError(f"{path}: cannot be written: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise SettingsError(f"{path}: is no file, but must be one: remove it")
        self._descriptor = descriptor
        self._lock()

    def begin(self, fingerprint: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Read the records of earlier runs, or start a new journal if there are none.

        A last line without a line break, which a killed process can leave, is dropped. A damaged
        line is named in a warning and otherwise overlooked: its image is computed again. A damaged
        first line is an error, because what was finished may have been computed differently.

        Args:
            fingerprint: Everything that changes results.
            overwrite: Drop all earlier records.

        Raises:
            SettingsError: The earlier records have another fingerprint.
            FormatError: The file is not a journal, or its first line is damaged.
        """
        if overwrite:
            self._check_start()
            os.ftruncate(self._descriptor, 0)

        # JSON turns tuples into lists: compare what a journal would hold.
        expected = json.loads(encode(fingerprint))
        first_line = _make_line({"fingerprint": expected})
        length = 0 if self._is_torn(first_line) else self._read_lines(expected)
        os.ftruncate(self._descriptor, length)
        if length == 0:
            self._write(first_line)

    def __iter__(self) -> Iterator[str]:
        """Return the names of the recorded images."""
        return iter(self._lines)

    def digest(self, name: str) -> str | None:
        """Return the digest in the record of an image, or None if it has no record."""
        line = self._lines.get(name)
        return line.digest if line else None

    def __getitem__(self, name: str) -> dict[str, Any]:
        """Return the record of an image."""
        line = self._lines[name]
        record = dict(json.loads(os.pread(self._descriptor, line.length, line.offset)))
        del record["crc32"]
        return record

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record. Once written, it survives if the process is killed.

        Args:
            record: JSON values, among them the image's name as "file" and its "digest".

        Raises:
            OSError: The line cannot be written, for example because the disk is full. The records
                before it remain.
        """
        line = _make_line(record)
        offset = self._write(line)
        self._lines[record["file"]] = _Line(offset, len(line), record["digest"])

    def close(self) -> None:
        """Close the file, so that another run can open it."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self) -> None:
        """Lock the file until it is closed.

        Raises:
            SettingsError: Another run has locked it.
        """
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise SettingsError(f"{self.path}: another run is writing this output") from error
        except OSError:  # a file system without locks, such as some of NFS
            logger.warning(
                "warning: %s cannot be locked on this file system: start no second run on this "
                "output",
                self.path,
            )

    def _write(self, line: bytes) -> int:
        """Append a line as a whole or not at all, and return its offset."""
        offset = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            rest = line
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            os.ftruncate(self._descriptor, offset)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        return offset

    def _is_torn(self, first_line: bytes) -> bool:
        """Return whether the file is empty or was cut while its first line was written."""
        content = os.pread(self._descriptor, len(first_line), 0)
        return content != first_line and first_line.startswith(content)

    def _check_start(self) -> None:
        """Check that the file begins as a journal does.

        Raises:
            FormatError: It is another file.
        """
        start = os.pread(self._descriptor, len(START), 0)
        if start != START[: len(start)]:
            raise FormatError(self.path, "is not a journal: remove it, or name another output")

    def _read_lines(self, expected_fingerprint: dict[str, Any]) -> int:
        """Read all complete lines and return their length in bytes."""
        self._check_start()
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        offset = 0
        damaged: list[int] = []
        with open(self._descriptor, "rb", closefd=False) as file:
            for number, line in enumerate(file, start=1):
                record = _parse_line(line)
                if number == 1:
                    self._check_first_line(record, expected_fingerprint)
                elif not line.endswith(b"\n"):
                    break
                elif record is None or not record.keys() >= {"file", "digest"}:
                    damaged.append(number)
                else:
                    self._lines[record["file"]] = _Line(offset, len(line), record["digest"])
                offset += len(line)

        if damaged:
            self._warn(damaged)
        return offset

    def _warn(self, damaged: list[int]) -> None:
        """Name the damaged lines."""
        others = f" and {len(damaged) - 1} other lines are" if len(damaged) > 1 else " is"
        logger.warning(
            "warning: %s:%d: this line%s damaged; the images are computed again",
            self.path,
            damaged[0],
            others,
        )

    def _check_first_line(
        self, record: dict[str, Any] | None, expected_fingerprint: dict[str, Any]
    ) -> None:
        """Check that the first line is whole and has the fingerprint of this run.

        Raises:
            FormatError: It is damaged.
            SettingsError: It has another fingerprint.
        """
        if record is None or "fingerprint" not in record:
            raise FormatError(
                self.path,
                "the first line of this journal is damaged, or an earlier version wrote it; "
                "--overwrite starts over",
                1,
            )
        self._compare(record["fingerprint"], expected_fingerprint)

    def _compare(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        """Raise `SettingsError` if fingerprints differ."""
        differences = [f"{key} was {old}, is {new}" for key, old, new in _differences(before, now)]
        if differences:
            raise SettingsError(
                f"{self.path}: the finished part was computed differently "
                f"({'; '.join(differences)}); choose another --out, or give --overwrite to start "
                "over"
            )


def _make_line(record: Mapping[str, Any]) -> bytes:
    """Return a record as a line with its checksum."""
    content = encode(record)[:-1]
    return content + f', "crc32": "{zlib.crc32(content):08x}"}}\n'.encode()


def _parse_line(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line, or None if the line is damaged."""
    content, checksum = line[:-CHECKSUM_LENGTH], CHECKSUM.fullmatch(line[-CHECKSUM_LENGTH:])
    if checksum is None or int(checksum[1], 16) != zlib.crc32(content):
        return None
    return dict(json.loads(line))


def _differences(before: Any, now: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """Return the differences of JSON values as keys such as `a.b`, old values and new values."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            difference
            for name in sorted(before.keys() | now.keys())
            for difference in _differences(
                before.get(name), now.get(name), f"{key}.{name}" if key else name
            )
        ]
    return [] if before == now else [(key, before, now)]

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
        self._file = open(descriptor, "a+b")  # noqa: SIM115 - closed by `close`
        self._lock()

    def begin(self, fingerprint: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Read the records of earlier runs, or start a new journal if there are none.

        A last line without a line break, which a killed process can leave, is dropped. A damaged
        line is named in a warning and otherwise overlooked: its image is computed again.

        Args:
            fingerprint: Everything that changes results.
            overwrite: Drop all earlier records.

        Raises:
            SettingsError: The earlier records have another fingerprint.
            FormatError: The file is not a journal, or its first line is damaged.
        """
        if overwrite:
            self._check_start()
            self._file.truncate(0)

        # JSON turns tuples into lists: compare what a journal would hold.
        expected = json.loads(encode(fingerprint))
        length = self._read_lines(expected)
        self._file.truncate(length)
        if length == 0:
            self._file.write(_make_line({"fingerprint": expected}))
            self._file.flush()

    def __iter__(self) -> Iterator[str]:
        """Return the names of the recorded images."""
        return iter(self._lines)

    def digest(self, name: str) -> str | None:
        """Return the digest in the record of an image, or None if it has no record."""
        line = self._lines.get(name)
        return line.digest if line else None

    def __getitem__(self, name: str) -> dict[str, Any]:
        """Return the record of an image."""
        self._file.seek(self._lines[name].offset)
        record = dict(json.loads(self._file.readline()))
        del record["crc32"]
        return record

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record. Once written, it survives if the process is killed.

        Args:
            record: JSON values, among them the image's name as "file" and its "digest".
        """
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(_make_line(record))
        self._file.flush()
        self._lines[record["file"]] = _Line(offset, record["digest"])

    def close(self) -> None:
        """Close the file, so that another run can open it."""
        self._file.close()

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
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise SettingsError(f"{self.path}: another run is writing this output") from error
        except OSError:  # a file system without locks, such as some of NFS
            logger.warning(
                "warning: %s cannot be locked on this file system: start no second run on this "
                "output",
                self.path,
            )

    def _check_start(self) -> None:
        """Check that the file begins as a journal does.

        Raises:
            FormatError: It is another file.
        """
        self._file.seek(0)
        start = self._file.read(len(START))
        if start != START[: len(start)]:
            raise FormatError(self.path, "is not a journal: remove it, or name another output")

    def _read_lines(self, expected_fingerprint: dict[str, Any]) -> int:
        """Read all complete lines and return their length in bytes."""
        self._check_start()
        self._file.seek(0)
        offset = 0
        damaged: list[int] = []
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            record = _parse_line(line)
            if number == 1:
                if record is None or "fingerprint" not in record:
                    raise FormatError(
                        self.path,
                        "the first line of this journal is damaged, or an earlier version wrote "
                        "it; --overwrite starts over",
                        number,
                    )
                self._compare(record["fingerprint"], expected_fingerprint)
            elif record is None or not record.keys() >= {"file", "digest"}:
                damaged.append(number)
            else:
                self._lines[record["file"]] = _Line(offset, record["digest"])
            offset += len(line)

        if damaged:
            logger.warning(
                "warning: %s:%d: %d lines are damaged, of which this is the first: their images "
                "are computed again",
                self.path,
                damaged[0],
                len(damaged),
            )
        return offset

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

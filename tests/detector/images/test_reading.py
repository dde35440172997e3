from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from detector.errors import OversizedImage, UnreadableImage
from detector.images import read
from detector.images.limits import DEFAULT_LIMITS


def test_what_is_not_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "pipe.jpg")
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
        for path in sorted(tmp_path.iterdir()):
            with pytest.raises(UnreadableImage, match="cannot be read: it is not a regular file"):
                read(path)


def test_the_limit_of_bytes_is_inclusive(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"123")
    assert read(path, max_bytes=3) == b"123"
    with pytest.raises(OversizedImage, match=r"a\.jpg: more bytes than the 2 allowed"):
        read(path, max_bytes=2)


def test_a_hole_in_a_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "hole.png"
    path.touch()
    os.truncate(path, DEFAULT_LIMITS.max_bytes + 1)
    with pytest.raises(OversizedImage, match="more bytes than the 536,870,912 allowed"):
        read(path)

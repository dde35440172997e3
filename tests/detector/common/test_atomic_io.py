from __future__ import annotations

from pathlib import Path

import pytest

from detector.common.atomic_io import atomic_write
from detector.errors import OutputError


@pytest.mark.parametrize("content", [b"", b"new"], ids=["empty", "some bytes"])
@pytest.mark.parametrize("name", ["out.json", "more/folders/out.json", "a b é.json"])
def test_a_complete_file_takes_its_name(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    with atomic_write(path) as file:
        file.write(content)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def write_half(path: Path, error: type[BaseException]) -> None:
    with atomic_write(path) as file:
        file.write(b"half of the n")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, b"old"], ids=["no old file", "an old file"])
def test_an_incomplete_file_leaves_no_trace(
    old: bytes | None, error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "out.json"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(error):
        write_half(path, error)
    assert [found.read_bytes() for found in tmp_path.iterdir()] == ([] if old is None else [old])


def test_a_folder_of_that_name_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(OutputError), atomic_write(folder) as file:
        file.write(b"new")
    assert list(tmp_path.iterdir()) == [folder]

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detector.common.atomic_io import atomic_write, encode

FILE_NAMES = st.binary(min_size=1).filter(lambda name: b"\0" not in name).map(os.fsdecode)
"""Any that a Unix system can have, those that are not UTF-8 too."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | FILE_NAMES | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(FILE_NAMES | st.text(), inner),
    max_leaves=10,
)


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
    with pytest.raises(IsADirectoryError), atomic_write(folder) as file:
        file.write(b"new")
    assert list(tmp_path.iterdir()) == [folder]


@given(JSON)
@example("")
@example("two\nlines\r\n")
@example(os.fsdecode(b"caf\xe9 \\udce9 \xc3\xa9.jpg"))
@settings(max_examples=50)
def test_encoded_values_are_a_line_of_utf_8_and_read_back_to_the_same(value: Any) -> None:
    line = encode(value)
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line.decode("utf-8")) == value


def test_what_is_utf_8_stays_legible() -> None:
    assert encode({"file": "фото é.jpg"}) == '{"file": "фото é.jpg"}'.encode()

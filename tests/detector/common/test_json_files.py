from __future__ import annotations

import codecs
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detector.common.json_files import encode, read_json
from detector.errors import FormatError

FILE_NAMES = st.binary(min_size=1).filter(lambda name: b"\0" not in name).map(os.fsdecode)
"""Any that a Unix system can have, those that are not UTF-8 too."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | FILE_NAMES | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(FILE_NAMES | st.text(), inner),
    max_leaves=10,
)


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


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"not\.json:1: not JSON"),
        (b'{"a": 1,\n]', r"not\.json:2: not JSON"),
        (b"[" * 100_000, r"not\.json: .*nested too deep"),
        (b"9" * 5000, r"not\.json: not JSON: .*digits"),
        (b'{"a": "\xff"}', r"not\.json:1: is not UTF-8 text"),
    ],
    ids=["empty", "syntax", "nested", "digits", "bytes"],
)
def test_what_is_not_json_is_one_error(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "not.json"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=reason):
        read_json(path)


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE], ids=["utf-8", "utf-16"])
def test_json_with_a_byte_order_mark_is_read(mark: bytes, tmp_path: Path) -> None:
    path = tmp_path / "marked.json"
    encoding = "utf-8" if mark == codecs.BOM_UTF8 else "utf-16-le"
    path.write_bytes(mark + '{"name": "é"}'.encode(encoding))
    assert read_json(path) == {"name": "é"}

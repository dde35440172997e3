from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from detector.common.text_files import read_bytes, read_lines, read_text
from detector.errors import FormatError

TEXT = "a b.jpg 1\nfoto é.jpg\n"


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
    ids=["no mark", "utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"],
)
def test_a_byte_order_mark_names_the_encoding(mark: bytes, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(mark + TEXT.encode(encoding))
    assert read_text(path) == TEXT
    assert read_lines(path) == ["a b.jpg 1", "foto é.jpg"]


@pytest.mark.parametrize(
    "data", [b"a\nb\xff\n", codecs.BOM_UTF16_LE + b"a\0\n\0\x00"], ids=["utf-8", "utf-16"]
)
def test_what_is_not_text_is_refused_with_its_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"list\.txt:2: is not UTF-(8|16-LE) text"):
        read_text(path)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("\n", [""]),
        ("a", ["a"]),
        ("a\r\nb\rc\n", ["a", "b", "c"]),
        ("a\u2028b\x0cc\x85d\n", ["a\u2028b\x0cc\x85d"]),
    ],
)
def test_lines_end_where_files_of_names_end_them(
    text: str, lines: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(text.encode())
    assert read_lines(path) == lines


def test_what_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
        (Path("/dev/zero"), "it is a device"),
        (tmp_path / "a\0b", "null"),
        (tmp_path / ("x" * 300), "name too long"),
    ):
        with pytest.raises(FormatError, match=reason):
            read_bytes(path)


def test_a_pipe_is_read_and_one_without_a_writer_is_empty(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert read_bytes(fifo) == b""

    reading, writing = os.pipe()
    os.write(writing, b"piped")
    os.close(writing)
    assert read_bytes(Path(f"/dev/fd/{reading}")) == b"piped"
    os.close(reading)

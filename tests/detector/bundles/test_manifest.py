"""The names that classes of a bundle may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.bundles.manifest import LONGEST_CLASS_NAME, check_class_name
from detector.common.text_files import read_lines
from detector.formats import voc, yolo


@pytest.mark.parametrize(
    "name",
    [
        *(
            "a",
            "tv or monitor",
            "cat_test_a",
            "_det_",
            "a,b",
            '"a"',
            "a.txt",
            ".hidden",
            "...",
            "-",
        ),
        *(
            "é",
            "写真",
            "自動\u3000車",
            "a\u00a0b",
            "\U0001f468\u200d\U0001f692",
            "%2f",
            "~",
            "*",
            "CON",
        ),
        "x" * LONGEST_CLASS_NAME,
    ],
)
def test_names_that_are_allowed(name: str) -> None:
    assert check_class_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            " ",
            ".",
            "..",
            "/",
            "a/b",
            "/etc/passwd",
            "../a",
            "a\\b",
            "\\",
            "a\nb",
            "a\0",
            "\x1b[31m",
        ),
        *("\x7f", "\x85", "a\u2028b", "\ud800", "\udce9", " a", "a ", "\u00a0a", "a\u3000", "a\t"),
        *("x" * (LONGEST_CLASS_NAME + 1), "é" * LONGEST_CLASS_NAME),
    ],
)
def test_names_that_are_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(ValueError, match=r"class '.*' must (not )?have") as caught:
        check_class_name(name)
    assert str(caught.value).isprintable()


@given(st.text(st.characters(), min_size=1, max_size=8))
def test_every_name_that_is_allowed_is_a_file_and_a_line(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    try:
        check_class_name(name)
    except ValueError:
        return
    folder = tmp_path_factory.getbasetemp()
    path = folder / voc.class_file(name)
    assert path.parent == folder
    path.write_text("")
    (file,) = voc.find_files(folder, {name}).items()
    path.unlink()
    assert file == (name, path)

    lines = folder / yolo.CLASSES
    lines.write_text(f"{name}\nb\n")
    assert read_lines(lines) == [name, "b"]

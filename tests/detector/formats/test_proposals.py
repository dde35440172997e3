"""Proposals as JSON lines."""

from __future__ import annotations

import gc
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.common.json_files import encode
from detector.errors import FormatError, MissingProposals
from detector.fingerprint import proposals_file_fingerprint
from detector.formats.proposals import ProposalsFile, from_json, to_json
from proposals import Proposals

FILE_NAMES = st.binary(min_size=1).filter(lambda name: b"\0" not in name).map(os.fsdecode)
WIDTH = 40
HEIGHT = 30
NONE = Proposals(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.str_))
TWO = Proposals(
    np.array([[0, 0, 40, 30], [5, 6, 7, 8]], np.float32),
    np.array([0.25, 1], np.float32),
    np.array(["multibox", "selective_search"]),
)
LINE = {
    "file": "a/b.jpg",
    "width": 40,
    "height": 30,
    "boxes": [[0, 0, 40, 30], [5, 6, 7, 8]],
    "scores": [0.25, 1.0],
    "sources": ["multibox", "selective_search"],
}


def assert_same(one: Proposals, other: Proposals) -> None:
    for name in ("boxes", "scores", "sources"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.boxes.dtype == one.scores.dtype == np.dtype(np.float32)


@st.composite
def proposals(draw: st.DrawFn) -> Proposals:
    """Draw proposals for an image of 40x30 pixels, in canonical order."""
    columns, rows = (
        st.lists(st.sampled_from([0, 1, n - 1, n]), min_size=2, max_size=2, unique=True)
        for n in (WIDTH, HEIGHT)
    )
    sides = st.tuples(columns, rows)  # few values, so that boxes share edges
    boxes = sorted({(min(x), min(y), max(x), max(y)) for x, y in draw(st.lists(sides, max_size=6))})
    n = len(boxes)
    millionths = draw(st.lists(st.integers(-(10**7), 10**7), min_size=n, max_size=n))
    sources = draw(
        st.lists(st.sampled_from(["selective_search", "multibox"]), min_size=n, max_size=n)
    )
    return Proposals(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([number / 10**6 for number in millionths], np.float32),
        np.array(sources, np.str_),
    )


@pytest.mark.parametrize(
    ("expected", "line"),
    [
        pytest.param(NONE, LINE | {"boxes": [], "scores": [], "sources": []}, id="none"),
        pytest.param(TWO, LINE, id="two"),
    ],
)
def test_the_line_follows_its_description(expected: Proposals, line: dict[str, Any]) -> None:
    assert to_json("a/b.jpg", 40, 30, expected) == line
    assert list(to_json("a/b.jpg", 40, 30, expected)) == list(LINE)
    assert_same(from_json(line), expected)


def test_coordinates_are_written_as_whole_numbers() -> None:
    assert encode(to_json("a", 40, 30, TWO)["boxes"]) == b"[[0, 0, 40, 30], [5, 6, 7, 8]]"


@given(proposals(), FILE_NAMES)
def test_written_proposals_are_read_back(expected: Proposals, name: str) -> None:
    line = json.loads(encode(to_json(name, WIDTH, HEIGHT, expected)))
    assert (line["file"], line["width"], line["height"]) == (name, WIDTH, HEIGHT)
    copy = from_json(line)
    np.testing.assert_array_equal(copy.boxes, expected.boxes)
    np.testing.assert_array_equal(copy.sources, expected.sources)
    np.testing.assert_allclose(copy.scores, expected.scores, rtol=0, atol=1e-6)
    assert to_json(name, WIDTH, HEIGHT, copy) == line


@given(proposals(), st.randoms(use_true_random=False))
def test_boxes_are_sorted_canonically(expected: Proposals, random: Any) -> None:
    rows = list(
        zip(
            expected.boxes.tolist(),
            expected.scores.tolist(),
            expected.sources.tolist(),
            strict=True,
        )
    )
    random.shuffle(rows)
    boxes, scores, sources = ([row[column] for row in rows] for column in range(3))
    line = LINE | {"boxes": boxes, "scores": scores, "sources": sources}
    assert_same(from_json(line), expected)


@pytest.mark.parametrize(
    "box",
    [
        pytest.param([5, 6, 5, 8], id="no width"),
        pytest.param([5, 8, 7, 6], id="upside down"),
        pytest.param([-1, 6, 7, 8], id="left of the image"),
        pytest.param([5, -1, 7, 8], id="above the image"),
        pytest.param([5, 6, 41, 8], id="right of the image"),
        pytest.param([5, 6, 7, 31], id="below the image"),
        pytest.param([5.5, 6, 7, 8], id="half pixels"),
        pytest.param([float("nan"), 6, 7, 8], id="nan"),
        pytest.param([5, 6, float("inf"), 8], id="infinite"),
    ],
)
def test_boxes_must_be_whole_pixels_inside_the_image(box: list[float]) -> None:
    line = LINE | {"boxes": [[0, 0, 40, 30], box]}
    with pytest.raises(ValueError, match=r"box \[.*\] must be .* inside the 40x30 image"):
        from_json(line)


def line_without(key: str) -> dict[str, Any]:
    """Return a line that lacks a key."""
    return {name: value for name, value in LINE.items() if name != key}


BROKEN = [
    pytest.param(line_without("boxes"), id="no boxes"),
    pytest.param(line_without("scores"), id="no scores"),
    pytest.param(line_without("sources"), id="no sources"),
    pytest.param(line_without("width"), id="no width"),
    pytest.param(LINE | {"boxes": None}, id="null for boxes"),
    pytest.param(LINE | {"boxes": [[0, 0, 40], [5, 6, 7]]}, id="boxes of three numbers"),
    pytest.param(LINE | {"boxes": [[0, 0, 40, 30], [5]]}, id="boxes of several lengths"),
    pytest.param(LINE | {"boxes": [["a", "b", "c", "d"]]}, id="texts for numbers"),
    pytest.param(LINE | {"boxes": [[0, 0, 40, 10**400]]}, id="an enormous number"),
    pytest.param(LINE | {"scores": [0.25]}, id="a score too few"),
    pytest.param(LINE | {"scores": [0.25, 1, 1]}, id="a score too many"),
    pytest.param(LINE | {"sources": ["multibox"]}, id="a source too few"),
    pytest.param(LINE | {"sources": ["multibox"] * 3}, id="a source too many"),
    pytest.param(LINE | {"width": "40"}, id="a text for the width"),
    pytest.param(LINE | {"width": 40.0}, id="a fraction for the width"),
    pytest.param(LINE | {"scores": [0.25, float("nan")]}, id="a score that is no number"),
    pytest.param(LINE | {"scores": [0.25, 1e300]}, id="a score beyond float32"),
    pytest.param(LINE | {"scores": [0.25, True]}, id="a flag for a score"),
    pytest.param(LINE | {"sources": ["multibox", None]}, id="null for a source"),
    pytest.param(LINE | {"sources": "ab"}, id="a text for the sources"),
]


@pytest.mark.parametrize("line", BROKEN)
def test_lines_without_proposals_are_refused_when_needed(
    line: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, OverflowError)):
        from_json(line)
    path = tmp_path / "proposals.jsonl"
    path.write_bytes(encode(LINE | {"file": "good.jpg"}) + b"\n" + encode(line) + b"\n")
    file = ProposalsFile(path)
    assert_same(file.get("good.jpg", 40, 30), TWO)
    with pytest.raises(MissingProposals, match="line 2 of the given proposals is wrong") as caught:
        file.get("a/b.jpg", 40, 30)
    assert caught.value.file == "a/b.jpg"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param(b"\n", 1, id="an empty line"),
        pytest.param(encode(LINE) + b"\n{", 2, id="cut off"),
        pytest.param(encode(LINE) + b"\n" + encode(line_without("file")) + b"\n", 2, id="no file"),
        pytest.param(b"5\n", 1, id="a number"),
        pytest.param(b'{"file": []}\n', 1, id="a list for file"),
        pytest.param(b'{"file": 5}\n', 1, id="a number for file"),
        pytest.param("{}\n{}\n".encode("utf-16"), 1, id="UTF-16, of which lines cannot be read"),
        pytest.param(b'"caf\xe9"\n', 1, id="not UTF-8"),
    ],
)
def test_lines_without_an_image_are_refused_at_once(
    content: bytes, line: int, tmp_path: Path
) -> None:
    path = tmp_path / "proposals.jsonl"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="must be an object") as caught:
        ProposalsFile(path)
    assert (caught.value.file, caught.value.line) == (str(path), line)


@pytest.mark.parametrize("name", ["absent.jsonl", "."], ids=["absent", "a folder"])
def test_unreadable_files_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        ProposalsFile(tmp_path / name)


def test_images_are_read_in_any_order(tmp_path: Path) -> None:
    names = ["b.jpg", "a b.jpg", "фото.jpg", os.fsdecode(b"caf\xe9.jpg"), "without.jpg"]
    path = tmp_path / "proposals.jsonl"
    lines = [
        to_json(name, 40 + index, 30, TWO if index < 4 else NONE)
        for index, name in enumerate(names)
    ]
    path.write_bytes(b"".join(encode(line) + b"\n" for line in lines))
    file = ProposalsFile(path)
    for index in (4, 1, 3, 0, 2, 2):
        assert_same(file.get(names[index], 40 + index, 30), TWO if index < 4 else NONE)


def test_images_without_a_line_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "proposals.jsonl"
    path.write_bytes(b"")
    with pytest.raises(MissingProposals, match="the given proposals have none for it") as caught:
        ProposalsFile(path).get("a.jpg", 40, 30)
    assert caught.value.file == "a.jpg"


@pytest.mark.parametrize("size", [(30, 40), (41, 30), (40, 29)])
def test_images_of_another_size_are_refused(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "proposals.jsonl"
    path.write_bytes(encode(LINE))
    width, height = size
    with pytest.raises(MissingProposals, match=rf"is {width}x{height}.* for 40x30") as caught:
        ProposalsFile(path).get("a/b.jpg", width, height)
    assert caught.value.file == "a/b.jpg"


def test_the_file_is_closed_with_its_object(tmp_path: Path) -> None:
    path = tmp_path / "proposals.jsonl"
    path.write_bytes(encode(LINE))
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # Python warns of files that nobody has closed
        assert_same(ProposalsFile(path).get("a/b.jpg", 40, 30), TWO)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(width=32)
    | st.text(max_size=3)
    | st.sampled_from([[0, 0, 40, 30], [[0, 0, 40, 30]], [1.0], ["multibox"], 40, 30]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


def read_or_error(line: dict[str, Any]) -> Proposals | Exception:
    """Return the proposals of a line, or the error of reading it."""
    try:
        return from_json(line)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return error


@given(st.dictionaries(st.sampled_from(["boxes", "scores", "sources", "width"]), VALUES))
@settings(max_examples=200)
def test_any_line_is_read_or_refused(changes: dict[str, Any]) -> None:
    result = read_or_error(LINE | changes)
    if isinstance(result, Proposals):
        assert (result.boxes[:, 2:] > result.boxes[:, :2]).all()
        assert (result.boxes >= 0).all()
        assert (result.boxes[:, 3] <= 30).all()


def test_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(FormatError, match="cannot be read: it must be a file"):
            ProposalsFile(path)
        with pytest.raises(FormatError, match="cannot be read: it must be a file"):
            proposals_file_fingerprint(path)

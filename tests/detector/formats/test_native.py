"""Writing and reading `dets.json`."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detector.errors import FormatError
from detector.formats import native
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header
from detector.results import Detection

HEADER = Header(
    {"name": "voc20", "sha256": "1a2b"}, {"detections": {"nms_iou": 0.3}}, ("cat", "dog")
)
FULL = Entry(
    "a/b.jpg",
    500,
    375,
    {"selective_search": 1104, "multibox": 200, "merged": 1287},
    (
        Detection("dog", 0.931204, (48.0, 240.0, 195.0, 371.0)),
        Detection("cat", 0.05, (0.0, 0.0, 500.0, 375.0)),
    ),
)
BARE = Entry("c.jpg", 20, 10, {}, ())
FAILURE = Failure("d.jpg", "truncated-image", "the end of the image is missing")
NO_IDS = ImageList({}, {})

FILE_NAMES = st.binary(min_size=1).filter(lambda name: b"\0" not in name).map(os.fsdecode)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SPANS = st.tuples(NUMBERS, NUMBERS).map(sorted).filter(lambda span: span[0] < span[1])
BOXES = st.tuples(SPANS, SPANS).map(lambda s: (s[0][0], s[1][0], s[0][1], s[1][1]))
ENTRIES = st.builds(
    Entry,
    FILE_NAMES,
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.dictionaries(st.text(), st.integers(0, 10**4), max_size=3),
    st.lists(
        st.builds(Detection, st.text(), NUMBERS, BOXES),
        max_size=3,
    ).map(tuple),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(["file", "width", "height", "proposals", "detections"])
            | st.sampled_from(["label", "score", "box"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


def write_and_read(path: Path, records: list[Entry | Failure]) -> bytes:
    """Write records to a file and return its bytes."""
    native.write(path, HEADER, records, NO_IDS)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("records", "images", "failed"),
    [
        pytest.param([], [], [], id="no images"),
        pytest.param([FAILURE], [], [FAILURE], id="failures only"),
        pytest.param([BARE], [BARE], [], id="an image without objects"),
        pytest.param([FULL, FAILURE, BARE], [FULL, BARE], [FAILURE], id="both kinds"),
    ],
)
def test_the_file_follows_its_description(
    records: list[Entry | Failure], images: list[Entry], failed: list[Failure], tmp_path: Path
) -> None:
    assert json.loads(write_and_read(tmp_path / "dets.json", records)) == {
        "format": "detections/1",
        "bundle": {"name": "voc20", "sha256": "1a2b"},
        "settings": {"detections": {"nms_iou": 0.3}},
        "classes": ["cat", "dog"],
        "images": [entry.to_json() for entry in images],
        "failed": [failure.to_json() for failure in failed],
    }


def test_entries_and_failures_as_json() -> None:
    assert FULL.to_json() == {
        "file": "a/b.jpg",
        "width": 500,
        "height": 375,
        "proposals": {"selective_search": 1104, "multibox": 200, "merged": 1287},
        "detections": [
            {"label": "dog", "score": 0.931204, "box": [48.0, 240.0, 195.0, 371.0]},
            {"label": "cat", "score": 0.05, "box": [0.0, 0.0, 500.0, 375.0]},
        ],
    }
    assert FAILURE.to_json() == {
        "file": "d.jpg",
        "error": "truncated-image",
        "message": "the end of the image is missing",
    }


def test_each_image_is_a_line(tmp_path: Path) -> None:
    lines = write_and_read(tmp_path / "dets.json", [FULL, BARE]).splitlines()
    assert [json.loads(line.rstrip(b","))["file"] for line in lines[2:4]] == ["a/b.jpg", "c.jpg"]


@given(st.lists(ENTRIES, max_size=3, unique_by=lambda entry: entry.file))
@example([])
@settings(max_examples=50)
def test_written_files_are_read_back(entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dets.json"
        first = write_and_read(path, [*entries, FAILURE])
        assert native.read(path) == (("cat", "dog"), entries)
        assert write_and_read(path, [FAILURE, *native.read(path)[1]]) == first


@pytest.mark.parametrize("name", ["a b.jpg", "фото.jpg", os.fsdecode(b"caf\xe9.jpg"), 'a"\\b.jpg'])
def test_unusual_file_names_are_read_back(name: str, tmp_path: Path) -> None:
    entry = Entry(name, 1, 1, {}, ())
    failure = Failure(name, "empty-image", name)
    content = write_and_read(tmp_path / "dets.json", [entry, failure])
    assert native.read(tmp_path / "dets.json")[1] == [entry]
    assert json.loads(content)["failed"] == [failure.to_json()]


def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "dets.json"
    path.write_bytes(b"old")

    def fail_after_one() -> Any:
        yield FULL
        raise FormatError("dets.json.journal", "is broken")

    with pytest.raises(FormatError, match="is broken"):
        native.write(path, HEADER, fail_after_one(), NO_IDS)
    assert path.read_bytes() == b"old"


def entry_json(**changes: Any) -> dict[str, Any]:
    """Return the JSON of an entry, with other values of some keys."""
    return FULL.to_json() | changes


def file_json(**changes: Any) -> dict[str, Any]:
    """Return the JSON of a file without images, with other values of some keys."""
    start: dict[str, Any] = {"format": "detections/1", "classes": ["cat"], "images": []}
    return start | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"{", "not JSON", id="cut off"),
        pytest.param(b'"caf\xe9"', "is not UTF-8 text", id="not UTF-8"),
        pytest.param([], "must be an object", id="a list"),
        pytest.param({"images": []}, "must be an object", id="no format"),
        pytest.param(file_json(format="detections/2"), "must be an object", id="another version"),
        pytest.param(file_json(images=None), '"images" must be a list', id="null for images"),
        pytest.param(file_json(images={}), '"images" must be a list', id="images by name"),
        pytest.param(file_json(classes="cat"), '"classes" must be a list', id="a class's name"),
        pytest.param(file_json(classes=20), '"classes" must be a list', id="a number of classes"),
        pytest.param(file_json(images=[FULL.to_json(), 5]), r"images\[1\]", id="no entry"),
        pytest.param(file_json(images=[{}]), r"images\[0\].*'file'", id="an empty entry"),
        pytest.param(
            file_json(images=[entry_json(file=5)]), "file must be", id="a number for file"
        ),
        pytest.param(file_json(images=[entry_json(width="5")]), "width", id="a text for width"),
        pytest.param(file_json(images=[entry_json(detections=[{}])]), "'label'", id="no label"),
        pytest.param(
            file_json(
                images=[entry_json(detections=[{"label": "cat", "score": 1, "box": [1, 2]}])]
            ),
            r"images\[0\]",
            id="half a box",
        ),
        pytest.param(
            file_json(images=[entry_json(detections=[{"label": "cat", "score": 10**400}])]),
            r"images\[0\]",
            id="an enormous score",
        ),
    ],
)
def test_broken_files_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "dets.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(FormatError, match=message) as caught:
        native.read(path)
    assert caught.value.file == str(path)


@pytest.mark.parametrize("name", ["missing.json", "."], ids=["missing", "a folder"])
def test_unreadable_files_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        native.read(tmp_path / name)


def read_or_error(path: Path) -> list[Entry] | FormatError:
    """Return the entries of a file, or the error of reading it."""
    try:
        return native.read(path)[1]
    except FormatError as error:
        return error


@given(JSON)
@example([entry_json(detections={"label": "cat"})])
@example([entry_json(detections=None)])
def test_any_json_is_read_or_refused(images: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dets.json"
        path.write_text(json.dumps(file_json(images=images)), encoding="utf-8")
        result = read_or_error(path)
    if isinstance(result, FormatError):
        assert result.file == str(path)
    else:
        assert all(isinstance(entry, Entry) for entry in result)
        assert len(result) == len(images)


def test_an_image_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dets.json"
    entry = Entry("a/b.jpg", 1, 1, {}, ())
    write_and_read(path, [entry, Entry("b.jpg", 1, 1, {}, ()), entry])
    with pytest.raises(FormatError, match=r"images\[2\]: a/b\.jpg is images\[0\] already"):
        native.read(path)

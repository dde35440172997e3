"""What every format writes is read back, whatever the names of images and classes are."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from detector.bundles.manifest import check_class_name
from detector.common.text_files import read_lines
from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import FormatError
from detector.evaluation import detections
from detector.formats import FORMATS, ilsvrc
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Header
from detector.results import Detection

Row = tuple[str, str, float, float, float, float, float]  # file, class, score, x1, y1, x2, y2

PARTS = [
    *(
        "a",
        "b",
        "0001",
        " ",
        "  ",
        ",",
        '"',
        "'",
        "\\",
        ".",
        "..",
        "_",
        "_test_",
        "_det_",
        "-",
        "%",
    ),
    *(
        "é",
        "фото",
        "写真",
        "\u0301",
        "\u200d",
        "\u00a0",
        "\U0001f431",
        ";",
        "#",
        "=",
        ".txt",
        "classes",
    ),
]
SIDE = 640


def names(*parts: str) -> st.SearchStrategy[str]:
    """Return a strategy of names of files or classes that are made of odd parts."""
    return st.lists(st.sampled_from([*PARTS, *parts]), min_size=1, max_size=5).map("".join)


def is_class_name(name: str) -> bool:
    try:
        check_class_name(name)
    except ValueError:
        return False
    return True


def is_unicode(name: str) -> bool:
    return os.fsencode(name) == name.encode("utf-8", "replace")


def can_be_file(name: str) -> bool:
    return not name.startswith("/") and not {"..", "."} & set(name.split("/"))


FILES = st.lists(
    st.builds(
        "{}{}".format,
        names("/", "\n", os.fsdecode(b"\xe9")).filter(can_be_file),
        st.sampled_from([".jpg", ".png", ""]),
    )
    .map(os.path.normpath)
    .filter(can_be_file),
    min_size=1,
    max_size=4,
    unique=True,
)
CLASSES = st.lists(names().filter(is_class_name), min_size=1, max_size=4, unique=True)
EDGES = st.tuples(st.integers(0, SIDE - 1), st.integers(0, SIDE - 1), st.integers(1, SIDE))


class Run(NamedTuple):
    """Names and detections of a run."""

    header: Header
    entries: list[Entry]

    @property
    def files(self) -> list[str]:
        return [entry.file for entry in self.entries]

    @property
    def rows(self) -> list[Row]:
        """All detections, in order."""
        return sorted(
            (entry.file, item.label, item.score, *item.box)
            for entry in self.entries
            for item in entry.detections
        )

    @property
    def truth(self) -> GroundTruth:
        """A ground truth with these images and classes."""
        empty = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
        images = (
            AnnotatedImage(file, SIDE, SIDE, *empty, image_id=number)
            for number, file in enumerate(self.files, start=1)
        )
        classes = {name: number for number, name in enumerate(self.header.classes, start=1)}
        return GroundTruth(classes, tuple(images))


@st.composite
def runs(draw: st.DrawFn, classes: st.SearchStrategy[list[str]] = CLASSES) -> Run:
    """Return a run whose numbers all formats can express exactly."""
    labels = draw(classes)
    entries: list[Entry] = []
    for file in draw(FILES):
        found: list[Detection] = []
        for label in draw(st.lists(st.sampled_from(labels), max_size=3)):
            x, y, side = draw(EDGES)
            box = (x / 2, y / 2, (x + side) / 2, (y + side) / 2)
            found.append(Detection(label, draw(st.integers(1, 64)) / 64, box))
        entries.append(Entry(file, SIDE, SIDE, {}, tuple(found)))
    return Run(Header({}, {}, tuple(labels)), entries)


def written(name: str, run: Run, folder: Path) -> Path:
    """Write a run in a format, if the format can express it, and return the path."""
    path = folder / "out"
    ids = ImageList.from_files(run.files)
    try:
        FORMATS[name].check(run.files, run.header.classes, ids)
    except FormatError:
        assume(False)
    FORMATS[name].write(path, run.header, iter(run.entries), ids)
    return path


def scored(found: detections.Detections, run: Run, labels: Iterable[str]) -> Iterator[Row]:
    """Yield detections that `detector-eval` has read, with names in place of positions."""
    classes = list(labels)
    for image, label, score, box in zip(*found.found, strict=True):
        x1, y1, x2, y2 = box.tolist()
        yield run.files[image], classes[label], float(score), x1, y1, x2, y2


@pytest.mark.parametrize("name", ["native", "coco", "voc"])
@given(run=runs())
@settings(max_examples=40)
def test_detections_are_scored_as_they_were_written(name: str, run: Run) -> None:
    with TemporaryDirectory() as folder:
        path = written(name, run, Path(folder))
        found = detections.read(path, run.truth)
        assert sorted(scored(found, run, run.header.classes)) == run.rows


@given(run=runs(st.just(["dog", "tv or monitor"])))
@settings(max_examples=40)
def test_submissions_are_scored_as_they_were_written(run: Run) -> None:
    by_label = {number - 1: name for name, number in ilsvrc.class_numbers().items()}
    with TemporaryDirectory() as folder:
        path = written("ilsvrc", run, Path(folder))
        found = detections.read_submission(path, run.truth)
    labels = [by_label[label] for label in range(200)]
    rows = [
        (file, ilsvrc.class_numbers()[label], round(score, 6), x1, y1, x2 + 1, y2 + 1)
        for file, label, score, x1, y1, x2, y2 in scored(found, run, labels)
    ]
    expected = [(file, ilsvrc.class_numbers()[label], *rest) for file, label, *rest in run.rows]
    assert sorted(rows) == sorted(expected)


@given(run=runs())
@settings(max_examples=40)
def test_tables_hold_what_was_written(run: Run) -> None:
    assume(all(is_unicode(file) for file in run.files))
    with TemporaryDirectory() as folder:
        path = written("csv", run, Path(folder))
        with open(path, encoding="utf-8", newline="") as file:
            _, *rows = csv.reader(file)
    assert sorted((file, label, *map(float, rest)) for file, label, *rest in rows) == run.rows


@given(run=runs())
@settings(max_examples=40)
def test_yolos_files_hold_what_was_written(run: Run) -> None:
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        out = written("yolo", run, Path(folder))
        classes = read_lines(out / "classes.txt")
        assert classes == list(run.header.classes)
        for file in run.files:
            for line in read_lines(out / Path(file).with_suffix(".txt")):
                label, x, y, width, height, score = line.split()
                centre = np.array([float(x), float(y)]) * SIDE
                half = np.array([float(width), float(height)]) * SIDE / 2
                corners = np.round([*(centre - half), *(centre + half)], 1)
                rows.append((file, classes[int(label)], float(score), *corners.tolist()))
        inside = {path.relative_to(out) for path in out.rglob("*") if path.is_file()}
        assert inside == set(FORMATS["yolo"].files(run.files, run.header.classes))
    assert sorted(rows) == run.rows

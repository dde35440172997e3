from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from detector import errors
from detector.errors import (
    BundleError,
    DetectorError,
    FormatError,
    ImageError,
    SettingsError,
    TruncatedImage,
)


def family(root: type[DetectorError]) -> Iterator[type[DetectorError]]:
    """A class and all that inherit from it."""
    yield root
    for child in root.__subclasses__():
        yield from family(child)


ALL = [kind for kind in family(DetectorError) if kind.__module__ == errors.__name__]
FORMAT_ERRORS = [kind for kind in ALL if issubclass(kind, FormatError)]
IMAGE_ERRORS = [kind for kind in FORMAT_ERRORS if issubclass(kind, ImageError)]


def test_every_error_is_in_the_hierarchy() -> None:
    defined = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    assert {kind for kind in defined if issubclass(kind, Exception)} == set(ALL)
    assert len(IMAGE_ERRORS) >= 8


def test_codes_in_files_and_problem_details_are_stable() -> None:
    assert {kind.__name__: kind.code for kind in ALL} == {
        "DetectorError": "error",
        "SettingsError": "bad-settings",
        "OutputError": "unwritable-output",
        "WorkerError": "no-workers",
        "TrainingError": "bad-training",
        "FormatError": "bad-format",
        "BundleError": "bad-bundle",
        "ImageError": "bad-image",
        "UnreadableImage": "unreadable-image",
        "EmptyImage": "empty-image",
        "NotAnImage": "not-an-image",
        "UnsupportedImage": "unsupported-image",
        "OversizedImage": "oversized-image",
        "TruncatedImage": "truncated-image",
        "BrokenImage": "broken-image",
        "ExcessiveImage": "excessive-image",
        "MissingProposals": "missing-proposals",
        "LostWorker": "lost-worker",
    }


@pytest.mark.parametrize(
    ("error", "text"),
    [
        pytest.param(SettingsError("device 'tpu': allowed are …"), "device 'tpu': allowed are …"),
        pytest.param(FormatError("a.json", "is empty"), "a.json: is empty"),
        pytest.param(FormatError("val.txt", "not a line", 7), "val.txt:7: not a line"),
        pytest.param(FormatError(Path("a/b.json"), "is empty"), "a/b.json: is empty"),
        pytest.param(BundleError("bundle.json", "no classes", 1), "bundle.json:1: no classes"),
        pytest.param(TruncatedImage("a b.jpg", "is cut"), "a b.jpg: is cut"),
    ],
    ids=["no file", "file", "file and line", "path", "bundle", "image"],
)
def test_text(error: DetectorError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind not in FORMAT_ERRORS])
def test_errors_without_a_file_can_be_sent_to_other_processes(kind: type[DetectorError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("what was wrong")))
    assert type(copy) is kind
    assert (str(copy), copy.code) == ("what was wrong", kind.code)


@pytest.mark.parametrize("line", [None, 3])
@pytest.mark.parametrize("kind", [kind for kind in FORMAT_ERRORS if kind not in IMAGE_ERRORS])
def test_errors_in_files_can_be_sent_to_other_processes(
    kind: type[FormatError], line: int | None
) -> None:
    error = kind(Path("a") / "ü.json", "what was wrong", line)
    assert (error.file, error.message, error.line) == ("a/ü.json", "what was wrong", line)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert (str(copy), copy.code) == (str(error), kind.code)


@pytest.mark.parametrize("file", ["a b.jpg", Path("a.jpg"), os.fsdecode(b"caf\xe9.jpg")])
@pytest.mark.parametrize("kind", IMAGE_ERRORS)
def test_errors_of_images_can_be_sent_to_other_processes(
    kind: type[ImageError], file: str | Path
) -> None:
    error = kind(file, "what was wrong")
    assert (error.file, error.message, error.line) == (str(file), "what was wrong", None)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert (str(copy), copy.code) == (str(error), kind.code)

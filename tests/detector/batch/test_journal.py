from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.batch.journal import Journal
from detector.errors import DetectorError, FormatError, SettingsError

PRINT = {"bundle": "1a", "settings": {"detections": {"nms_iou": 0.3}, "list": (1, 2)}}


def record(name: str, digest: str = "d", value: int = 0) -> dict[str, object]:
    return {"file": name, "digest": digest, "value": value}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sub" / "out.json.journal"


def begun(path: Path, fingerprint: Mapping[str, object], *, overwrite: bool = False) -> Journal:
    journal = Journal(path)
    try:
        journal.begin(fingerprint, overwrite=overwrite)
    except DetectorError:
        journal.close()
        raise
    return journal


def test_records_are_kept(path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9 \xc3\xa9\n.png")
    with begun(path, PRINT) as journal:
        assert journal.digest("a") is None
        journal.append(record("a", "1"))
        journal.append(record(odd, "2"))
        assert journal["a"]["digest"] == "1"
    with begun(path, PRINT) as journal:
        assert [journal.digest(name) for name in ("a", odd, "b")] == ["1", "2", None]
        assert journal[odd] == record(odd, "2")


def test_the_last_record_of_an_image_counts(path: Path) -> None:
    with begun(path, PRINT) as journal:
        journal.append(record("a", value=1))
        journal.append(record("a", value=2))
        assert journal["a"]["value"] == 2
    with begun(path, PRINT) as journal:
        assert journal["a"]["value"] == 2


@given(st.integers(0, 400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_whatever_is_torn_off_the_end_whole_records_remain(path: Path, kept: int) -> None:
    path.unlink(missing_ok=True)
    with begun(path, PRINT) as journal:
        for number in range(5):
            journal.append(record(f"image {number}", value=number))
    data = path.read_bytes()
    path.write_bytes(data[:kept])
    whole = max(0, data[:kept].count(b"\n") - 1)
    with begun(path, PRINT) as journal:
        digests = [journal.digest(f"image {number}") for number in range(5)]
        assert digests == ["d"] * whole + [None] * (5 - whole)
        journal.append(record("after"))
    with begun(path, PRINT) as journal:
        assert journal["after"] == record("after")


def test_another_fingerprint_is_refused_and_named(path: Path) -> None:
    with begun(path, PRINT) as journal:
        journal.append(record("a"))
    other = {"bundle": "1a", "settings": {"detections": {"nms_iou": 0.5}, "list": (1, 2)}}
    message = r"computed differently \(settings.detections.nms_iou was 0.3, is 0.5\); .*--overwrite"
    with pytest.raises(SettingsError, match=message):
        begun(path, other)
    with begun(path, PRINT) as journal:
        assert journal.digest("a") == "d", "the refused run changed nothing"
    with begun(path, other, overwrite=True) as journal:
        assert journal.digest("a") is None


def test_two_runs_on_one_output_are_kept_apart(path: Path) -> None:
    with begun(path, PRINT) as journal:
        journal.append(record("a"))
        with pytest.raises(SettingsError, match="another run is writing this output"):
            Journal(path)
        assert journal["a"] == record("a")


@pytest.mark.parametrize("letter", ["a letter\nto somebody\n", "my only copy", '{"finger": 1}'])
def test_other_files_are_refused(path: Path, letter: str) -> None:
    path.parent.mkdir()
    path.write_text(letter)
    with pytest.raises(FormatError, match=r"journal:1: not a line of a journal"):
        begun(path, PRINT)
    assert path.read_text() == letter


def test_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be written"):
        Journal(tmp_path / "file" / "x.journal")

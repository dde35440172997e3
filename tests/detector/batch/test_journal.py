"""The record of a run's finished images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.batch.journal import Journal
from detector.errors import DetectorError, FormatError, SettingsError

FINGERPRINT = {"bundle": "1a", "settings": {"detections": {"nms_iou": 0.3}, "list": (1, 2)}}


def make_record(name: str, digest: str = "d", value: int = 0) -> dict[str, object]:
    """Return the record of an image."""
    return {"file": name, "digest": digest, "value": value}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sub" / "out.json.journal"


def open_journal(
    path: Path, fingerprint: Mapping[str, object], *, overwrite: bool = False
) -> Journal:
    """Open a journal and begin, as a run does. Close it if it is refused."""
    journal = Journal(path)
    try:
        journal.begin(fingerprint, overwrite=overwrite)
    except DetectorError:
        journal.close()
        raise
    return journal


def test_records_are_read_back(path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9 \xc3\xa9\n.png")
    with open_journal(path, FINGERPRINT) as journal:
        assert journal.digest("a") is None
        journal.append(make_record("a", "1"))
        journal.append(make_record(odd, "2"))
        assert journal["a"]["digest"] == "1"
    with open_journal(path, FINGERPRINT) as journal:
        assert [journal.digest(name) for name in ("a", odd, "b")] == ["1", "2", None]
        assert journal[odd] == make_record(odd, "2")


def test_the_last_record_of_an_image_counts(path: Path) -> None:
    with open_journal(path, FINGERPRINT) as journal:
        journal.append(make_record("a", value=1))
        journal.append(make_record("a", value=2))
        assert journal["a"]["value"] == 2
    with open_journal(path, FINGERPRINT) as journal:
        assert journal["a"]["value"] == 2


@given(st.integers(0, 400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_complete_records_survive_a_torn_end(path: Path, length: int) -> None:
    path.unlink(missing_ok=True)
    with open_journal(path, FINGERPRINT) as journal:
        for number in range(5):
            journal.append(make_record(f"image {number}", value=number))

    data = path.read_bytes()
    path.write_bytes(data[:length])
    complete = max(0, data[:length].count(b"\n") - 1)

    with open_journal(path, FINGERPRINT) as journal:
        digests = [journal.digest(f"image {number}") for number in range(5)]
        assert digests == ["d"] * complete + [None] * (5 - complete)
        journal.append(make_record("after"))
    with open_journal(path, FINGERPRINT) as journal:
        assert journal["after"] == make_record("after")


def test_another_fingerprint_is_refused(path: Path) -> None:
    with open_journal(path, FINGERPRINT) as journal:
        journal.append(make_record("a"))
    other = {"bundle": "1a", "settings": {"detections": {"nms_iou": 0.5}, "list": (1, 2)}}
    message = r"computed differently \(settings.detections.nms_iou was 0.3, is 0.5\); .*--overwrite"
    with pytest.raises(SettingsError, match=message):
        open_journal(path, other)
    with open_journal(path, FINGERPRINT) as journal:
        assert journal.digest("a") == "d", "the refused run changed nothing"
    with open_journal(path, other, overwrite=True) as journal:
        assert journal.digest("a") is None


def test_two_runs_cannot_share_an_output(path: Path) -> None:
    with open_journal(path, FINGERPRINT) as journal:
        journal.append(make_record("a"))
        with pytest.raises(SettingsError, match="another run is writing this output"):
            Journal(path)
        assert journal["a"] == make_record("a")


@pytest.mark.parametrize("text", ["a letter\nto somebody\n", "my only copy", '{"finger": 1}'])
def test_other_files_are_refused(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(FormatError, match=r"journal:1: not a line of a journal"):
        open_journal(path, FINGERPRINT)
    assert path.read_text() == text


def test_paths_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be written"):
        Journal(tmp_path / "file" / "x.journal")

"""The record of a run's finished images."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import resource
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.batch.journal import Journal
from detector.errors import DetectorError, FormatError, SettingsError
from tests.support.damage import damage_bytes

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
@pytest.mark.parametrize("overwrite", [False, True])
def test_other_files_are_refused(path: Path, text: str, overwrite: bool) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(FormatError, match=r"journal: is not a journal: remove it, or name"):
        open_journal(path, FINGERPRINT, overwrite=overwrite)
    assert path.read_text() == text


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    (tmp_path / "folder").mkdir()
    for name, message in (("pipe", "is no file"), ("null", "is no file"), ("folder", "folder: ")):
        with pytest.raises(SettingsError, match=message):
            Journal(tmp_path / name)


def test_a_file_system_without_locks_is_a_warning(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with open_journal(path, FINGERPRINT) as journal:
        journal.append(make_record("a"))
    assert "cannot be locked on this file system" in caplog.text


def test_a_first_line_that_runs_into_others_is_refused(path: Path) -> None:
    with open_journal(path, FINGERPRINT) as journal:
        journal.append(make_record("a"))
    damaged = path.read_bytes().replace(b"\n", b" ")
    path.write_bytes(damaged)
    with pytest.raises(FormatError, match=r"first line of this journal is damaged.*--overwrite"):
        open_journal(path, FINGERPRINT)
    assert path.read_bytes() == damaged, "nothing finished is dropped without a word"


def test_a_full_disk_is_named_and_keeps_what_was_written(path: Path) -> None:
    with open_journal(path, FINGERPRINT) as journal:
        journal.append(make_record("a"))
        size = path.stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        try:
            with pytest.raises(OSError, match=r"File too large.*out\.json\.journal"):
                journal.append(make_record("b"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert path.stat().st_size == size
        assert (journal.digest("a"), journal.digest("b")) == ("d", None)
    with open_journal(path, FINGERPRINT) as journal:
        assert journal.digest("a") == "d"


def test_a_damaged_first_line_is_refused_and_nothing_is_lost(path: Path) -> None:
    with open_journal(path, FINGERPRINT) as journal:
        journal.append(make_record("a"))
    data = path.read_bytes()
    damaged = data.replace(b"0.3", b"0.4", 1)
    path.write_bytes(damaged)
    with pytest.raises(FormatError, match=r"first line of this journal is damaged.*--overwrite"):
        open_journal(path, FINGERPRINT)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda line: line.replace(b'"value": 1', b'"value": 2'), id="a digit"),
        pytest.param(lambda line: line.replace(b"image 1", b"image 7"), id="a name"),
        pytest.param(lambda line: line.replace(b"\n", b"\r\n"), id="another line end"),
        pytest.param(lambda line: bytes(len(line) - 1) + b"\n", id="zeros"),
        pytest.param(lambda line: line[:20] + line[30:], id="a gap"),
        pytest.param(lambda line: line[:20] + b"\xff" + line[21:], id="no text"),
        pytest.param(lambda line: line[:-1], id="two lines in one"),
        pytest.param(lambda line: b"[" * 10_000 + b"\n", id="nested"),
        pytest.param(lambda line: b"\n", id="empty"),
    ],
)
def test_a_damaged_line_is_named_and_its_image_forgotten(
    damage: Any, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_journal(path, FINGERPRINT) as journal:
        for number in range(4):
            journal.append(make_record(f"image {number}", value=number))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = damage(lines[2])
    path.write_bytes(b"".join(lines))

    with open_journal(path, FINGERPRINT) as journal:
        assert journal.digest("image 1") is None
        assert journal.digest("image 7") is None
        for number in (0, 3):
            assert journal[f"image {number}"] == make_record(f"image {number}", value=number)
        journal.append(make_record("image 1", value=1))
    assert f"{path}:3: this line is damaged" in caplog.text
    with open_journal(path, FINGERPRINT) as journal:
        assert journal["image 1"] == make_record("image 1", value=1)


@given(st.integers(0, 2**32))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_no_damage_changes_a_record(path: Path, seed: int) -> None:
    path.unlink(missing_ok=True)
    records = [make_record(f"image {number}", value=number) for number in range(5)]
    with open_journal(path, FINGERPRINT) as journal:
        for record in records:
            journal.append(record)
    path.write_bytes(damage_bytes(random.Random(seed), path.read_bytes()))
    try:
        journal = open_journal(path, FINGERPRINT)
    except (SettingsError, FormatError):
        return
    with journal:
        assert all(journal[name] in records for name in journal)


def test_paths_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be written"):
        Journal(tmp_path / "file" / "x.journal")

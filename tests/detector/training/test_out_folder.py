from __future__ import annotations

import json
from pathlib import Path

import pytest

from detector.errors import SettingsError
from detector.training.out_folder import CHECKPOINT, LOG, how_to_continue, prepare_folder

RESULTS = ("weights.safetensors", "member.json")
LINE = json.dumps({"step": 1, "loss": 2.0})


def prepare(out: Path, *inputs: Path, resume: bool = False) -> None:
    prepare_folder(out, RESULTS, inputs, resume=resume)


def test_folders_that_may_be_used(tmp_path: Path) -> None:
    prepare(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "notes.txt").touch()
    (tmp_path / LOG).touch()  # of a training that was interrupted before its first step
    prepare(tmp_path)
    (tmp_path / LOG).write_text(f"{LINE}\n")
    prepare(tmp_path, resume=True)
    for name in (CHECKPOINT, *RESULTS):
        (tmp_path / name).touch()
    prepare(tmp_path, resume=True)


def test_a_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).touch()
    with pytest.raises(SettingsError, match="has a checkpoint: give --resume, or another --out"):
        prepare(tmp_path)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", RESULTS)
def test_results_without_a_checkpoint_are_not_overwritten(
    name: str, resume: bool, tmp_path: Path
) -> None:
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match=f"has {name}, but no checkpoint that it belongs to"):
        prepare(tmp_path, resume=resume)


@pytest.mark.parametrize("content", [b"notes\n", b"[1]\n", b"3", b"\xff\xfe\xff", b"[" * 99999])
def test_a_file_that_is_no_log_is_not_overwritten(content: bytes, tmp_path: Path) -> None:
    (tmp_path / LOG).write_bytes(content)
    with pytest.raises(SettingsError, match="has a log: give --resume to start over"):
        prepare(tmp_path)
    with pytest.raises(SettingsError, match="is not the log of a training: choose another --out"):
        prepare(tmp_path, resume=True)


def test_inputs_are_not_overwritten(tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    start.touch()
    out = tmp_path / "out"
    out.mkdir()
    for name in (CHECKPOINT, RESULTS[0]):
        (out / name).symlink_to(start)
        with pytest.raises(SettingsError, match="would overwrite a file that the command reads"):
            prepare(out, start, resume=True)
        (out / name).unlink()
    with pytest.raises(SettingsError, match="which the command reads: name a file elsewhere"):
        prepare(out / "new", tmp_path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(SettingsError, match="out is not a folder that can be written to"):
        prepare(tmp_path / "out")


def test_what_a_killed_training_was_writing_is_removed(tmp_path: Path) -> None:
    partial = tmp_path / ".0123456789abcdef.partial"
    partial.touch()
    prepare(tmp_path)
    assert not partial.exists()


def test_what_is_said_of_an_interruption(tmp_path: Path) -> None:
    assert how_to_continue(tmp_path / "new").startswith("no step was saved: the same command")
    (tmp_path / CHECKPOINT).touch()
    assert how_to_continue(tmp_path) == "the same command with --resume goes on from here"

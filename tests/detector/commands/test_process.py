"""The standard streams of a command, and Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

SHOW = "import sys; from detector.commands.launch import detector_bundle as c; sys.exit(c())"

HANGING = """
import sys, time
from detector.commands import bundle, launch
def hang(arguments):
    print("started", flush=True)
    try:
        time.sleep(60)
    finally:
        time.sleep({cleanup})
bundle._show = hang
sys.exit(launch.detector_bundle())
"""


@pytest.mark.parametrize(
    ("redirection", "code", "errors"),
    [
        ("2>&-", 2, b""),
        ("2>/dev/full", 2, b""),
        (">&-", 2, b"error: absent: no bundle"),
        ("<&- >&- 2>&-", 2, b""),
    ],
)
def test_streams_that_cannot_be_written(redirection: str, code: int, errors: bytes) -> None:
    script = f'"{sys.executable}" -c "{SHOW}" show absent {redirection}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(errors)
    assert b"Traceback" not in done.stderr


def test_a_full_standard_output_is_one_error() -> None:
    script = f'"{sys.executable}" -c "{SHOW}" show > /dev/full'
    done = subprocess.run(["bash", "-c", script], capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr == b"error: No space left on device\n"


def test_files_do_not_get_the_numbers_of_closed_streams(tmp_path: Path) -> None:
    program = (
        "import os; from detector.commands.process import prepare_streams; prepare_streams();"
        f"file = open({str(tmp_path / 'out')!r}, 'wb'); assert file.fileno() > 2;"
        "os.write(2, b'a message of a library')"
    )
    script = f'"{sys.executable}" -c "{program}" <&- >&- 2>&-'
    subprocess.run(["bash", "-c", script], cwd=ROOT, check=True)
    assert (tmp_path / "out").read_bytes() == b""


@pytest.mark.parametrize(
    ("cleanup", "signals", "message"),
    [(0, 1, b"interrupted\n"), (60, 2, b""), (60, 3, b""), (60, 1, b"")],
    ids=["once", "twice", "three times", "once, but tidying up hangs"],
)
def test_interrupted(cleanup: int, signals: int, message: bytes) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", HANGING.format(cleanup=cleanup), "show"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == b"started\n"
    for _ in range(signals):
        time.sleep(0.2)
        program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=30)
    assert program.returncode == 130
    assert errors == message


def test_an_interruption_that_a_library_turns_into_another_error() -> None:
    code = HANGING.format(cleanup=0).replace(
        "    finally:",
        '    except KeyboardInterrupt:\n        raise ImportError("failed")\n    finally:',
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code, "show"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert program.stdout is not None
    program.stdout.readline()
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=30)
    assert (program.returncode, errors) == (130, b"interrupted\n")


def test_interrupted_while_it_is_being_imported() -> None:
    program = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-c", SHOW, "show"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert program.stderr is not None
    for line in program.stderr:
        if line.split()[-1].startswith(b"pydantic"):
            program.send_signal(signal.SIGINT)
            break
    _, errors = program.communicate(timeout=30)
    assert program.returncode in {0, 130}
    assert b"Traceback" not in errors

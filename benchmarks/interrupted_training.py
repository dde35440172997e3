"""Trainings interrupted at random moments: how they end, and what they go on to.

    python -m benchmarks.interrupted_training [--count 20] [--seed 0] [--only regions,multibox]

Each kind of training is run once undisturbed. Then it is started again and gets, as from a terminal
with all its processes, one, two or three SIGINTs half a second apart, or one SIGTERM, at a moment
drawn from its duration. It must end within 10 seconds, without a traceback and without leaving a
process, and the same command with `--resume` must end with the same weights and the same log.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image as PillowImage

from tests.support.images import paint
from tests.support.tiny_bundle import write_tiny_weights

LIMIT = 10.0
"""Seconds within which an interrupted training must end."""

PROGRAM = "import sys; from detector.commands.launch import detector_train as c; sys.exit(c())"

SIGNALS = (
    (signal.SIGINT,),
    (signal.SIGINT, signal.SIGINT),
    (signal.SIGINT, signal.SIGINT, signal.SIGINT),
    (signal.SIGTERM,),
)
"""What a training gets, in turn."""

SHARED_SETTINGS = (
    "optimisation.steps=24",
    "optimisation.precision=float32",
    "run.log_every=5",
    "run.checkpoint_every=1000",
)
"""Only an interruption and a validation write checkpoints."""

SETTINGS = {
    "classifier": (
        "crop_size=96",
        "architecture.width=0.125",
        "patches.batch_size=8",
        "validation.every=8",
    ),
    "regions": (
        'warp={crop_size=64, resampling="area"}',
        "architecture.width=0.25",
        "sampling={foreground=4, background=4}",
        "validation.every=8",
    ),
    "multibox": (
        "size=64",
        "priors=6",
        "hidden=16",
        "architecture.width=0.25",
        "pictures.batch_size=8",
        "validation.every=8",
    ),
}
"""Settings of each kind of training."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Trainings interrupted at random moments.")
    parser.add_argument("--count", type=int, default=20, help="moments for each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(SETTINGS), metavar="KIND,KIND")
    arguments = parser.parse_args()

    # In the background of a shell script SIGINT is ignored, also in the processes started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with TemporaryDirectory() as folder:
        inputs = Path(folder, "inputs")
        make_inputs(inputs)
        for kind in arguments.only.split(","):
            rng = random.Random(f"{kind} {arguments.seed}")
            longest, ends = interrupt(kind, inputs, Path(folder), arguments.count, rng)
            print(
                f"{kind}: {arguments.count} moments, ended after at most {longest:.1f} s; ", end=""
            )
            print("; ".join(f"{number} x {end}" for end, number in ends.most_common()), flush=True)


def make_inputs(folder: Path) -> None:
    """Make photos with annotations, a folder of photos for each class, and initial weights."""
    paint(folder / "photos", 6)
    folder.joinpath("weights").mkdir()
    write_tiny_weights(folder / "weights")
    rng = np.random.default_rng(0)
    for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        (folder / "classes" / name).mkdir(parents=True)
        for number in range(6):
            photo = (np.array(colour) + rng.integers(-30, 30, (70, 90, 3))).astype(np.uint8)
            PillowImage.fromarray(photo).save(folder / "classes" / name / f"{number}.png")


def interrupt(
    kind: str, inputs: Path, folder: Path, count: int, rng: random.Random
) -> tuple[float, Counter[str]]:
    """Interrupt a training at random moments, and check what it leaves and goes on to.

    Args:
        kind: Kind of training.
        inputs: Folder of its inputs.
        folder: Where outputs are written.
        count: Number of moments.
        rng: Source of the moments.

    Returns:
        The longest time from the first signal to the end, in seconds, and how often each last line
        was printed.
    """
    whole = folder / kind / "whole" / "out"
    started = time.monotonic()
    check_done(start(kind, inputs, whole))
    duration = time.monotonic() - started
    expected = contents(whole)

    longest = 0.0
    ends: Counter[str] = Counter()
    for number in range(count):
        out = folder / kind / str(number) / "out"  # the cache of proposals is beside it
        process = start(kind, inputs, out)
        moment = rng.uniform(0.2, duration)
        time.sleep(moment)
        seconds, end = send(process, SIGNALS[number % len(SIGNALS)])
        print(f"{kind} {moment:.2f} of {duration:.2f} s: {seconds:.1f} s, {end}", file=sys.stderr)
        longest = max(longest, seconds)
        ends[end] += 1

        if process.returncode != 0:
            check_done(start(kind, inputs, out, "--resume"))
        assert contents(out) == expected, f"{kind}: another result after {moment:.2f} s"
        shutil.rmtree(out.parent)
    return longest, ends


def start(kind: str, inputs: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """Start a training as a shell starts a job: as the first process of a group."""
    if kind == "classifier":
        files = ["--data", inputs / "classes", "--validation", inputs / "classes"]
    else:
        data = inputs / "photos.json"
        files = ["--data", data, "--validation", data]
        files += ["--weights", inputs / "weights" / "0.safetensors"]
    settings = [f"--set={setting}" for setting in (*SHARED_SETTINGS, *SETTINGS[kind])]
    return subprocess.Popen(
        [
            *(sys.executable, "-c", PROGRAM, kind, *map(str, files), *settings),
            *("--out", str(out), "--device", "cpu", "--quiet", *options),
        ],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def send(process: subprocess.Popen[str], signals: tuple[signal.Signals, ...]) -> tuple[float, str]:
    """Send signals to all processes of a training.

    Returns:
        The seconds until it had ended, and its last line or how it ended.
    """
    started = time.monotonic()
    for number in signals:
        if process.poll() is not None:
            break
        os.killpg(process.pid, number)
        for _ in range(10):
            time.sleep(0.05 if process.poll() is None else 0)
    _, errors = process.communicate(timeout=LIMIT)
    seconds = time.monotonic() - started
    assert "Traceback" not in errors, errors
    assert process.returncode in {0, 130, *(-number for number in signals)}, errors

    time.sleep(0.3)
    assert not (left := session(process.pid)), f"processes are left: {left}"
    lines = errors.splitlines()
    return seconds, lines[-1] if lines else f"exit code {process.returncode} without a word"


def check_done(process: subprocess.Popen[str]) -> None:
    """Wait for a training that nothing disturbs."""
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def contents(out: Path) -> dict[str, object]:
    """Return what a training has written, without times."""
    names = {path.name for path in out.iterdir()}
    assert not [name for name in names if name.endswith(".partial")], names
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {
        "names": names,
        "weights": (out / "weights.safetensors").read_bytes(),
        "log": [{key: line[key] for key in line if key != "seconds"} for line in log],
    }


def session(pid: int) -> list[str]:
    """Return the commands of the processes of a session that still run."""
    left = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, owner = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(owner) == pid and state != "Z":
                left.append((folder / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return left


if __name__ == "__main__":
    main()

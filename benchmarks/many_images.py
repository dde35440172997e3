"""The memory of a run over many images: after 500 of them, and at the end.

    python -m benchmarks.many_images [--count 10000] [--bundle NAME|DIR] [--preset fast]

The images are one of scikit-image's photos at 500x375 under many names. Each has 20 random boxes as
its proposals (`--proposals-in`). Memory is that of the run and its workers together; shared pages
count once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks.memory import HEIGHT, WIDTH, make_images
from benchmarks.soak import children, memory
from detector.formats.proposals import to_json
from proposals import Proposals
from proposals.baselines import random_boxes

BOXES = 20
"""Number of proposals per image."""

EARLY = 500
"""Number of images after which memory is measured first."""


def main() -> None:
    parser = argparse.ArgumentParser(description="The memory of a run over many images.")
    parser.add_argument("--count", type=int, default=10_000, help="number of images")
    parser.add_argument("--bundle", default="voc20")
    parser.add_argument("--preset", default="fast")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder, arguments.count)
        options = ["--bundle", arguments.bundle, "--preset", arguments.preset]
        started = time.monotonic()
        memories = watch_run(folder, options)
        seconds = time.monotonic() - started

    early = memories[min(number for number in memories if number >= EARLY)]
    late = memories[max(number for number in memories if number < arguments.count)]
    print(
        f"{arguments.count} images in {seconds:.0f} s: "
        f"{early:.0f} MiB after {EARLY}, {late:.0f} MiB at the end, {late / early - 1:+.1%}; "
        f"maximum {max(memories.values()):.0f} MiB"
    )


def make_inputs(folder: Path, count: int) -> None:
    """Make one photo under many names, and a file of proposals for them."""
    rng = np.random.default_rng(0)
    with open(folder / "proposals.jsonl", "w") as file:
        for image in make_images(folder / "images", count):
            boxes = random_boxes(WIDTH, HEIGHT, BOXES, rng)
            proposals = Proposals.from_one_source(boxes, "selective_search")
            file.write(json.dumps(to_json(image.name, WIDTH, HEIGHT, proposals)) + "\n")


def watch_run(folder: Path, options: list[str]) -> dict[int, float]:
    """Run `detector-run` and measure its memory every second.

    Args:
        folder: The folder of the inputs.
        options: Further options of the command.

    Returns:
        Memory in MiB, by the number of finished images.
    """
    program = [sys.executable, "-m", "detector.commands.run", "--quiet", *options]
    program += ["--images", str(folder / "images"), "--out", str(folder / "dets.json")]
    program += ["--proposals-in", str(folder / "proposals.jsonl")]
    memories: dict[int, float] = {}
    with subprocess.Popen(program) as run:
        while run.poll() is None:
            time.sleep(1)
            finished = count_lines(folder / "dets.json.journal") - 1
            with suppress(OSError):  # a process has just ended
                memories[finished] = sum(map(memory, [run.pid, *children(run.pid)]))
    if run.returncode:
        raise SystemExit(run.returncode)
    return memories


def count_lines(file: Path) -> int:
    """Return the number of lines of a file, or 0 if it does not exist yet."""
    try:
        return file.read_bytes().count(b"\n")
    except OSError:
        return 0


if __name__ == "__main__":
    main()

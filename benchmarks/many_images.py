"""The memory of a run over many images: after 500 of them, and at the end.

    python -m benchmarks.many_images [--count 10000] [--bundle NAME|DIR] [--preset fast]

Images are one of scikit-image's photos at 500x375 under many names, each with 20 random boxes as
its proposals (`--proposals-in`). Memory is that of the run and its workers together, what they
share counted once.
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

from benchmarks.memory import HEIGHT, WIDTH, make_photos
from benchmarks.soak import children, memory
from detector.formats.proposals import to_json
from proposals import Proposals
from proposals.baselines import random_boxes

BOXES = 20
"""Proposals of each image."""

EARLY = 500
"""Images after which memory is measured first."""


def main() -> None:
    parser = argparse.ArgumentParser(description="The memory of a run over many images.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--bundle", default="voc20")
    parser.add_argument("--preset", default="fast")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, arguments.count)
        options = ["--images", str(folder / "photos"), "--out", str(folder / "dets.json")]
        options += ["--proposals-in", str(folder / "proposals.jsonl"), "--quiet"]
        options += ["--bundle", arguments.bundle, "--preset", arguments.preset]
        program = [sys.executable, "-m", "detector.commands.run", *options]
        started, seen = time.monotonic(), dict[int, float]()
        with subprocess.Popen(program) as run:
            while run.poll() is None:
                time.sleep(1)
                finished = count_lines(folder / "dets.json.journal") - 1
                with suppress(OSError):  # a process has just ended
                    seen[finished] = sum(map(memory, [run.pid, *children(run.pid)]))
        if run.returncode:
            raise SystemExit(run.returncode)
        early = seen[min(number for number in seen if number >= EARLY)]
        late = seen[max(number for number in seen if number < arguments.count)]
        took = time.monotonic() - started
    print(
        f"{arguments.count} images in {took:.0f} s: {early:.0f} MiB after {EARLY}, {late:.0f} MiB"
    )
    print(f"at the end, {late / early - 1:+.1%}; the most in between {max(seen.values()):.0f} MiB")


def make(folder: Path, count: int) -> None:
    """Photos under many names, and a file of proposals for them."""
    rng = np.random.default_rng(0)
    with open(folder / "proposals.jsonl", "w") as file:
        for photo in make_photos(folder / "photos", count):
            boxes = random_boxes(WIDTH, HEIGHT, BOXES, rng)
            proposals = Proposals.from_one_source(boxes, "selective_search")
            file.write(json.dumps(to_json(photo.name, WIDTH, HEIGHT, proposals)) + "\n")


def count_lines(file: Path) -> int:
    try:
        return file.read_bytes().count(b"\n")
    except OSError:  # not begun yet
        return 0


if __name__ == "__main__":
    main()

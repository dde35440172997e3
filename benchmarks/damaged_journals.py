"""What becomes of a run that goes on from a damaged journal.

    python -m benchmarks.damaged_journals [--count 500] [--seed 0]

A run over ten images leaves a journal of detections and one of proposals. Each time one of them is
damaged at random, and the same run is begun again: it has to write the same bytes, or to end with
an error of one line. Images that it computes again are taken from the first run.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from PIL import Image as PillowImage

from detector import Detector
from detector.batch.executor import Executor, Finished
from detector.batch.inputs import Input, find_images
from detector.batch.local_executor import LocalExecutor
from detector.batch.outputs import Outputs
from detector.batch.runner import run
from detector.batch.workers import Task
from detector.bundles.pack import pack
from detector.errors import DetectorError
from tests.support.damage import damage_bytes
from tests.support.images import scene
from tests.support.tiny_bundle import RECIPE, write_tiny_weights

IMAGES = 10
"""Number of images of the run."""


class RecordingExecutor:
    """Computes each image once, and has its result at hand afterwards."""

    def __init__(self, executor: Executor) -> None:
        self.header = executor.header
        self.settings = executor.settings
        self.fingerprint = executor.fingerprint
        self._executor = executor
        self._finished: dict[str, Finished] = {}

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Finished]:
        """Yield each image."""
        for task in tasks:
            if task.name not in self._finished:
                (self._finished[task.name],) = self._executor([task])
            yield self._finished[task.name]


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs that go on from damaged journals.")
    parser.add_argument("--count", type=int, default=500, help="number of damaged journals")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = pack(folder / "tiny", RECIPE, write_tiny_weights(folder))
        inputs = make_inputs(folder)
        with Detector.load(bundle, device="cpu") as detector:
            executor = RecordingExecutor(LocalExecutor(detector, workers=1))
            good = folder / "good"
            run(executor, inputs, outputs_in(good))
            outcomes = Counter(
                try_damage(seed, good, folder / "damaged", executor, inputs)
                for seed in range(arguments.seed, arguments.seed + arguments.count)
            )
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:6} {outcome}")


def make_inputs(folder: Path) -> list[Input]:
    """Write images, one of which is broken."""
    images = folder / "images"
    images.mkdir()
    for number in range(IMAGES - 1):
        PillowImage.fromarray(scene(number, height=24)).save(images / f"image {number}.png")
    (images / "broken.png").write_text("text")
    return find_images([str(images)])


def outputs_in(folder: Path) -> Outputs:
    """Return the outputs of a run that writes to a folder."""
    return Outputs(folder / "dets.json", proposals=folder / "proposals.jsonl")


def try_damage(seed: int, good: Path, folder: Path, executor: Executor, inputs: list[Input]) -> str:
    """Damage a journal, run again, and say what happened."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    rng = random.Random(seed)
    journals = sorted(folder.glob("*.journal"))
    damaged = rng.choice(journals)
    content = rng.choice(DAMAGES)(rng, damaged.read_bytes())
    if rng.random() < 0.02:
        content = next(file for file in journals if file != damaged).read_bytes()
    damaged.write_bytes(content)

    try:
        summary = run(executor, inputs, outputs_in(folder))
    except DetectorError as error:
        unchanged = damaged.read_bytes() == content
        is_line = len(str(error).splitlines()) == 1 and str(damaged) in str(error)
        return "one line, journal kept" if is_line and unchanged else f"seed {seed}: WRONG ERROR"
    except Exception as error:
        return f"seed {seed}: TRACEBACK {error!r}"
    for file in ("dets.json", "proposals.jsonl"):
        if (folder / file).read_bytes() != (good / file).read_bytes():
            return f"seed {seed}: OTHER RESULT in {file}"
    return "same bytes, images computed again" if summary.computed else "same bytes"


def change_digit(rng: random.Random, data: bytes) -> bytes:
    """Return bytes in which one digit is another."""
    position = rng.choice([index for index, byte in enumerate(data) if byte in b"0123456789"])
    return data[:position] + str(rng.randrange(10)).encode() + data[position + 1 :]


def change_lines(rng: random.Random, data: bytes) -> bytes:
    """Return bytes in which lines are swapped, doubled, merged, lost or end otherwise."""
    lines = data.splitlines(keepends=True)
    first, second = rng.sample(range(len(lines)), 2)
    match rng.randrange(8):
        case 0:
            lines[first], lines[second] = lines[second], lines[first]
        case 1:
            lines.insert(second, lines[first])
        case 2:
            lines[first] = lines[first].rstrip(b"\n")
        case 3:
            del lines[first]
        case 4:
            lines = [line.replace(b"\n", b"\r\n") for line in lines]
        case 5:
            lines = lines[:1] + rng.sample(lines[1:], len(lines) - 1)
        case 6:
            lines[first] = lines[first][: len(lines[first]) // 2] + lines[second]
        case 7:
            lines = [line.replace(b"\n", rng.choice((b"", b" ", b"\0"))) for line in lines]
    return b"".join(lines)


def insert_oddity(rng: random.Random, data: bytes) -> bytes:
    """Return bytes with something among them that text or JSON seldom has."""
    position = rng.randrange(len(data) + 1)
    oddities = (
        b"\xff\xfe",
        b"\0" * 100,
        b"9" * 5000,
        b"1e999",
        b"[" * 5000,
        b"\xe2\x80\xa8",
        b"\n",
    )
    return data[:position] + rng.choice(oddities) + data[position:]


DAMAGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    damage_bytes,
    change_digit,
    change_lines,
    insert_oddity,
)


if __name__ == "__main__":
    main()

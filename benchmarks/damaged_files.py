"""Thousands of damaged detections, bundles and journals: how each of them ends.

    python -m benchmarks.damaged_files [--count 2000] [--journals 500] [--seed 0]

Files are flipped, cut, repeated, and given values of other types, as in the tests. Each must be
refused in one line, or be read as it literally stands. After a damaged journal, the same command
must end in one line or write the same bytes as with a sound one. Annotations have a command of
their own, `benchmarks.damaged_annotations`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from detector.bundles.bundle import Bundle
from detector.bundles.pack import pack
from detector.commands.run import command
from tests.detector.bundles.test_hostile_bundles import load_or_refuse, replace_weights
from tests.detector.formats.test_damaged_detections import KINDS, Kind
from tests.support.damage import damage_bytes, swap_value
from tests.support.images import paint
from tests.support.tiny_bundle import RECIPE, write_tiny_weights


def main() -> None:
    parser = argparse.ArgumentParser(description="Thousands of damaged files.")
    parser.add_argument(
        "--count", type=int, default=2000, help="of each kind of detections, and of bundles"
    )
    parser.add_argument("--journals", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    logging.disable(logging.WARNING)
    rng = random.Random(arguments.seed)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundle = pack(folder / "bundle", RECIPE, write_tiny_weights(folder))
        for kind in KINDS:
            attempt = detections(rng, kind, folder / f"damaged {kind.file}")
            report(kind.file, arguments.count, attempt)
        report("bundles", arguments.count, bundles(rng, bundle, folder / "damaged"))
        report("journals", arguments.journals, journals(rng, bundle, folder / "run"))


def report(name: str, count: int, attempt: Callable[[], bool]) -> None:
    """Make attempts, and print how many files were read and the longest time."""
    read = 0
    longest = 0.0
    for _ in range(count):
        started = time.perf_counter()
        read += attempt()
        longest = max(longest, time.perf_counter() - started)
    print(
        f"{name:<24}{count:>6} files, {count - read} refused, {read} read, longest {longest:.2f} s"
    )


def detections(rng: random.Random, kind: Kind, folder: Path) -> Callable[[], bool]:
    """Return what damages one file of detections, image ids or proposals, and reads it."""
    folder.mkdir()
    path = folder / kind.file

    def attempt() -> bool:
        path.write_bytes(kind.damaged(rng))
        return kind.check(path)

    return attempt


def bundles(rng: random.Random, bundle: Bundle, directory: Path) -> Callable[[], bool]:
    """Return what damages one file of a bundle, and verifies it."""
    manifest = (bundle.directory / "bundle.json").read_bytes()
    weights = (bundle.directory / "member_1.safetensors").read_bytes()
    header = weights[:20_000]  # most damage shall meet it
    shutil.copytree(bundle.directory, directory)

    def attempt() -> bool:
        file = directory / "bundle.json"
        file.write_bytes(manifest)
        match rng.choice(("value", "bytes", "weights", "weights with their digest")):
            case "value":
                file.write_text(json.dumps(swap_value(rng, json.loads(manifest))))
            case "bytes":
                file.write_bytes(damage_bytes(rng, manifest))
            case "weights":
                damaged = damage_bytes(rng, weights)
                (directory / "member_1.safetensors").write_bytes(damaged)
            case _:
                replace_weights(directory, damage_bytes(rng, header) + weights[len(header) :])
        read = load_or_refuse(directory)
        (directory / "member_1.safetensors").write_bytes(weights)
        return read

    return attempt


def journals(rng: random.Random, bundle: Bundle, folder: Path) -> Callable[[], bool]:
    """Return what damages the journal of a run, and runs the same command again."""
    paint(folder / "photos", 4)
    out = folder / "dets.json"
    arguments = ["--images", str(folder / "photos"), "--out", str(out), "--quiet"]
    arguments += ["--bundle", str(bundle.directory), "--device", "cpu"]
    assert command(arguments) == 0
    expected = out.read_bytes()
    journal = folder / "dets.json.journal"
    sound = journal.read_bytes()

    def attempt() -> bool:
        journal.write_bytes(damage_bytes(rng, sound))
        out.unlink(missing_ok=True)
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            code = command(arguments)
        if code == 0:
            assert out.read_bytes() == expected, "another result"
            return True
        assert code == 2
        assert errors.getvalue().startswith("error: ")
        assert errors.getvalue().count("\n") == 1, errors.getvalue()
        return False

    return attempt


if __name__ == "__main__":
    main()

"""Thousands of damaged bundles: how each of them ends, and how long and how much memory it takes.

    python -m benchmarks.damaged_bundles [--count 2000] [--seed 0] [--kind KIND]

`bundle.json`, weights and the model card of a small bundle are flipped, cut, and given values of
other types, with digests that are corrected or not. `detector-bundle show` and `verify`, loading
and `detector-run` must refuse a bundle in one line, or it must detect with finite scores. What
counts as wrong is defined in `tests/support/damaged_bundles.py`.
"""

from __future__ import annotations

import argparse
import collections
import resource
import signal
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from detector.bundles.bundle import Bundle
from detector.bundles.manifest import Architecture, MultiBoxRecipe
from detector.bundles.pack import pack
from detector.models.multibox import multibox_shapes
from tests.support.damaged_bundles import KINDS, Outcome, Trials
from tests.support.tiny_bundle import RECIPE, random_weights, write_tiny_weights

SECONDS = 60
"""Time after which a bundle counts as one that hangs."""

MOST_MEMORY = 1 << 20
"""Most memory of the process in KiB."""


class HangError(BaseException):
    """A bundle takes too long. No handler of errors in the program catches it."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Thousands of damaged bundles.")
    parser.add_argument("--count", type=int, default=2000, help="number of bundles of all kinds")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first bundle")
    parser.add_argument("--kind", choices=KINDS, help="one kind only")
    arguments = parser.parse_args()

    signal.signal(signal.SIGALRM, stop)
    names = [arguments.kind] if arguments.kind else list(KINDS)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(make_bundle(Path(folder)), Path(folder))
        print(f"{'':<20}{'bundles':>8}{'refused':>9}{'other':>7}{'same':>7}{'wrong':>7}  longest")
        for position, name in enumerate(names):
            count = len(range(position, arguments.count, len(names)))
            failures += try_kind(trials, name, range(arguments.seed, arguments.seed + count))

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"most memory: {memory >> 10} MiB")
    assert not failures, f"{failures} bundles end in another way than they should"
    assert memory < MOST_MEMORY, "a bundle takes more than 1 GiB"


def make_bundle(folder: Path) -> Bundle:
    """Pack the test suite's small bundle with a MultiBox."""
    multibox = MultiBoxRecipe(
        size=64, priors=8, hidden=8, architecture=Architecture(width=0.25, normalisation="none")
    )
    weights = random_weights(multibox_shapes(multibox), seed=0)
    weights["priors"] = np.full((8, 4), [0.1, 0.2, 0.7, 0.9], np.float32)
    save_file(weights, folder / "multibox.safetensors")
    recipe = RECIPE.model_copy(update={"multibox": multibox})
    return pack(
        folder / "sound", recipe, write_tiny_weights(folder), folder / "multibox.safetensors"
    )


def try_kind(trials: Trials, name: str, seeds: range) -> int:
    """Try damaged bundles of a kind, print a row, and return how many end wrongly."""
    outcomes: collections.Counter[Outcome | None] = collections.Counter()
    longest = 0.0
    for seed in seeds:
        start = time.perf_counter()
        signal.alarm(SECONDS)
        try:
            outcome = trials.attempt(KINDS[name], seed)
        except (Exception, HangError):
            outcome = None
            print(f"{name}, seed {seed}:")
            traceback.print_exc()
        finally:
            signal.alarm(0)
        outcomes[outcome] += 1
        longest = max(longest, time.perf_counter() - start)

    figures = (outcomes[Outcome.REFUSED], outcomes[Outcome.OTHER], outcomes[Outcome.SAME])
    columns = "".join(
        f"{number:>{width}}" for number, width in zip(figures, (9, 7, 7), strict=True)
    )
    print(f"{name:<20}{len(seeds):>8}{columns}{outcomes[None]:>7}  {longest:.2f} s", flush=True)
    return outcomes[None]


def stop(*_: object) -> None:
    """End the try of a bundle."""
    raise HangError


if __name__ == "__main__":
    main()

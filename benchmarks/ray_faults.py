"""What becomes of a run on a Ray cluster when machines die or join, the head dies, or on Ctrl-C.

    python -m benchmarks.ray_faults [--count 120] [--only CASE]

Each case has a new cluster of two machines, which are groups of processes on this one. One part of
it is killed (`kill -9`) when a share of the images is done, and a third machine may join. A row
shows how long the run took after that, its exit code, whether its output, or that of the same
command given again after an error, has the bytes of a run without a cluster, and what it wrote to
stderr. Processes left are those of the command's actors.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image as PillowImage
from ray.cluster_utils import Cluster

from detector.bundles.pack import pack
from tests.support.images import scene
from tests.support.tiny_bundle import RECIPE, write_tiny_weights

LIMIT = 400
"""Seconds after which a run counts as hanging."""

MARK = "DETECTOR_BENCHMARK"
"""A variable that all processes of a case have."""


class Case(NamedTuple):
    """What happens to a run."""

    victim: str
    """"head" or "other" machine, "gcs" (what holds the cluster together), "command" or "none"."""
    share: float
    """Share of the images that is done by then."""
    joins: bool
    """Whether a third machine joins at the same time."""

    def __str__(self) -> str:
        return f"{self.victim}-{self.share}{'-join' if self.joins else ''}"


CASES = [
    *(
        Case(victim, share, joins)
        for victim in ("other", "head")
        for share in (0.1, 0.25, 0.75)
        for joins in (False, True)
    ),
    Case("none", 0.25, True),
    Case("gcs", 0.25, False),
    Case("command", 0.25, False),
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs on clusters that lose machines.")
    parser.add_argument("--count", type=int, default=120, help="number of images")
    parser.add_argument("--only", default="", help="part of the names of the cases")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder, arguments.count)
        started = time.monotonic()
        subprocess.run(program(folder, "local.json"), check=True)
        print(f"without a cluster: {time.monotonic() - started:.0f} s", flush=True)

        for case in CASES:
            if arguments.only in str(case):
                print(f"{case!s:16} {try_case(case, folder, arguments.count)}", flush=True)


def make_inputs(folder: Path, count: int) -> None:
    """Write images and a bundle."""
    images = folder / "images"
    images.mkdir()
    for number in range(count):
        PillowImage.fromarray(scene(number, height=100)).save(images / f"{number}.png")
    pack(folder / "tiny", RECIPE, write_tiny_weights(folder))


def program(folder: Path, out: str, *options: str) -> list[str]:
    """Return the command line of a run."""
    run = [sys.executable, "-m", "detector.commands.run", "--quiet", "--backend", "torch"]
    inputs = ["--images", str(folder / "images"), "--bundle", str(folder / "tiny")]
    return [*run, *inputs, "--out", str(folder / out), *options]


def try_case(case: Case, folder: Path, count: int) -> str:
    """Run a case and describe what happened."""
    out = folder / f"{case}.json"
    ray_program = program(folder, out.name, "--engine", "ray")
    with started_cluster(str(case)) as (cluster, other):
        environment = {**os.environ, "RAY_ADDRESS": cluster.address}
        run = subprocess.Popen(
            ray_program, env=environment, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        wait_for_share(folder / f"{out.name}.journal", case.share * count, run)
        if case.joins:
            cluster.add_node(num_cpus=2)
        kill(case.victim, cluster, other, run)

        started = time.monotonic()
        try:
            _, errors = run.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            run.kill()
            return f"hangs for more than {LIMIT} s"
        seconds = time.monotonic() - started
        time.sleep(3.0)
        left = working_processes(str(case))

    if run.returncode:
        subprocess.run(program(folder, out.name), check=True)
    same = out.read_bytes() == (folder / "local.json").read_bytes()
    return (
        f"{seconds:4.0f} s, exit code {run.returncode}, {'same' if same else 'OTHER'} bytes, "
        f"{left} processes left, stderr: {errors.strip()!r}"
    )


@contextmanager
def started_cluster(mark: str) -> Iterator[tuple[Cluster, Any]]:
    """Start a cluster of two machines, and end it."""
    os.environ |= {MARK: mark, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        yield cluster, cluster.add_node(num_cpus=2)
    finally:
        cluster.shutdown()


def wait_for_share(journal: Path, done: float, run: subprocess.Popen[str]) -> None:
    """Wait until a number of images is in a run's journal."""
    while run.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") - 1 >= done:
            return
        time.sleep(0.05)


def kill(victim: str, cluster: Cluster, other: Any, run: subprocess.Popen[str]) -> None:
    """Kill a part of a case."""
    if victim == "command":
        run.send_signal(signal.SIGINT)
    elif victim != "none":
        node: Any = other if victim == "other" else cluster.head_node
        (process,) = node.all_processes["gcs_server" if victim == "gcs" else "raylet"]
        os.kill(process.process.pid, signal.SIGKILL)


def working_processes(mark: str) -> int:
    """Return the number of processes of a case that belong to actors."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = f"{MARK}={mark}\0".encode() in (process / "environ").read_bytes()
            command = (process / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        found += is_ours and (b"Actor" in command or b"multiprocessing" in command)
    return found


if __name__ == "__main__":
    main()

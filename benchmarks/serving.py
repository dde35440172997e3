"""The service under load: throughput, waiting times, and the overhead of HTTP.

    python -m benchmarks.serving [--images DIR] [--bundle NAME|DIR] [--presets fast default] \
        [--clients 1 4 16] [--requests 100] [--backend auto]

`detector-serve` runs as a process of its own, and each client sends photos one after another.

Rows: "direct" is `Detector.detect` in this process, without a service. "in turn" has the largest
number of clients, but only one of them sends at a time, so nothing is batched.

Columns: "over" is the median of a client's waiting time minus the stages that the answer names.
With one client it is the time of HTTP and of the transfer between processes; with several clients
it includes the waiting lines and the classifier's time for other images of the same batch.
"health" is the 99th percentile of the time of `GET /healthz`, which is called ten times a second.
"""

from __future__ import annotations

import argparse
import itertools
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx2
import numpy as np

from benchmarks.stages import photos
from detector import Detector


class Timing(NamedTuple):
    """Seconds of one photo."""

    total: float
    """Seconds that the client waited."""
    stages: float
    """Seconds of the stages that the answer names."""


def main() -> None:
    arguments = parse_arguments()
    files = [file.read_bytes() for file in photos(arguments.images)[:64]]
    count = arguments.requests
    max_clients = max(arguments.clients)

    print("preset   clients  images/s    p50 s    p99 s   over ms  health ms")
    for preset in arguments.presets:
        timings = time_detector(arguments, preset, files)
        rate = len(timings) / sum(timing.total for timing in timings)
        print(row(preset, "direct", rate, timings))

    with serving("--bundle", arguments.bundle, "--backend", arguments.backend) as url:
        # The first request warms the service up.
        send_photos(url, arguments.presets[0], files, clients=1, count=1)

        for preset in arguments.presets:
            for clients, in_turn in [*((c, False) for c in arguments.clients), (max_clients, True)]:
                send = partial(send_photos, url, preset, files, clients=clients, count=count)
                with measuring_health(url) as health:
                    started = time.perf_counter()
                    timings = send(in_turn=in_turn)
                    rate = len(timings) / (time.perf_counter() - started)
                name = "in turn" if in_turn else str(clients)
                print(row(preset, name, rate, timings, health))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The service under load.")
    parser.add_argument("--images", type=Path, help="a folder of photos (scikit-image's)")
    parser.add_argument("--bundle", default="voc20")
    parser.add_argument("--presets", nargs="+", default=["fast", "default"])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=100, help="in each row")
    parser.add_argument("--backend", default="auto", choices=("auto", "torch", "openvino"))
    return parser.parse_args()


def row(
    preset: str, clients: str, rate: float, timings: Sequence[Timing], health: Sequence[float] = ()
) -> str:
    overhead = statistics.median(timing.total - timing.stages for timing in timings)
    p50, p99 = np.percentile([timing.total for timing in timings], [50, 99])
    health_p99 = float(np.percentile(health, 99)) if health else float("nan")
    return (
        f"{preset:<9}{clients:>7}{rate:>10.3f}{p50:>9.2f}{p99:>9.2f}"
        f"{1000 * overhead:>10.1f}{1000 * health_p99:>11.1f}"
    )


def time_detector(
    arguments: argparse.Namespace, preset: str, files: Sequence[bytes]
) -> list[Timing]:
    """Time the detector in this process, one photo after another."""
    timings = []
    with Detector.load(arguments.bundle, preset=preset, backend=arguments.backend) as detector:
        detector.detect(files[0])  # warms up
        for photo in itertools.islice(itertools.cycle(files), arguments.requests):
            started = time.perf_counter()
            result = detector.detect(photo)
            total = time.perf_counter() - started
            timings.append(Timing(total, sum(result.seconds.values())))
    return timings


def send_photos(
    url: str,
    preset: str,
    files: Sequence[bytes],
    *,
    clients: int,
    count: int,
    in_turn: bool = False,
) -> list[Timing]:
    """Send photos from several clients at once.

    Args:
        url: The service's address.
        preset: The preset of all requests.
        files: The photos, which are repeated if there are more requests.
        clients: Number of clients.
        count: Number of requests of all clients together.
        in_turn: Whether only one client sends at a time.
    """
    turn = threading.Lock() if in_turn else nullcontext()

    def run_client(number: int) -> list[Timing]:
        timings = []
        photos_of_client = itertools.islice(itertools.cycle(files), number, count, clients)
        with httpx2.Client(base_url=url, timeout=600) as client:
            for photo in photos_of_client:
                started = time.perf_counter()
                with turn:
                    answer = client.post("/detect", content=photo, params={"preset": preset})
                answer.raise_for_status()
                total = time.perf_counter() - started
                seconds = answer.json()["seconds"]
                stages = seconds["decode"] + seconds["proposals"] + seconds["classify"]
                timings.append(Timing(total, stages))
        return timings

    with ThreadPoolExecutor(clients) as pool:
        return list(itertools.chain.from_iterable(pool.map(run_client, range(clients))))


@contextmanager
def measuring_health(url: str) -> Iterator[list[float]]:
    """Collect the seconds of answers to /healthz in the meantime."""
    seconds: list[float] = []
    finished = threading.Event()

    def ask() -> None:
        with httpx2.Client(base_url=url, timeout=60) as client:
            while not finished.wait(0.1):
                started = time.perf_counter()
                client.get("/healthz").raise_for_status()
                seconds.append(time.perf_counter() - started)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seconds
    finally:
        finished.set()
        thread.join()


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """Run the command as a process and yield its address."""
    settings = ("--set", "service.deadline=600", "--set", "service.max_crops=1000000")
    command = [sys.executable, "-m", "service.command", "--port", "0", *settings, *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = iter(process.stderr)
    # The log is read to its end, because the process would block on a full pipe.
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.extend(lines))
    try:
        address = next(
            match for line in lines if (match := re.search(r"running on (http://[\d.:]+)", line))
        )
        reader.start()
        yield address[1]
    finally:
        process.terminate()
        process.wait()
        if reader.is_alive():
            reader.join()
        process.stderr.close()
    assert not [line for line in log if "Traceback" in line], "an error of the service"


if __name__ == "__main__":
    main()

"""The service under load: images a second, waiting times, and what HTTP itself costs.

    python -m benchmarks.serving [--images DIR] [--bundle NAME|DIR] [--presets fast default] \
        [--clients 1 4 16] [--requests 100] [--backend auto]

`detector-serve` runs as a process of its own; each client sends photos one after another. "direct"
is `Detector.detect` in this process, without any service. "in turn" is without batching: the most
clients of all, of which one at a time sends. "over" is the median of a client's waiting time less
the stages that the answer names: with one client HTTP and processes, else waiting lines, too.
"health" is the slowest answer but one in a hundred to `GET /healthz`, asked for ten times a second
meanwhile.
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


class Sent(NamedTuple):
    """A photo: the client's seconds, and those of the stages that the answer names."""

    seconds: float
    stages: float


def main() -> None:
    parser = argparse.ArgumentParser(description="The service under load.")
    parser.add_argument("--images", type=Path, help="a folder of photos (scikit-image's)")
    parser.add_argument("--bundle", default="voc20")
    parser.add_argument("--presets", nargs="+", default=["fast", "default"])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=100, help="in each row")
    parser.add_argument("--backend", default="auto", choices=("auto", "torch", "openvino"))
    arguments = parser.parse_args()
    files = [file.read_bytes() for file in photos(arguments.images)[:64]]
    count, most = arguments.requests, max(arguments.clients)
    print("preset   clients  images/s    p50 s    p99 s   over ms  health ms")
    for preset in arguments.presets:
        sent = direct(arguments, preset, files)
        print(row(preset, "direct", len(sent) / sum(one.seconds for one in sent), sent))
    with serving("--bundle", arguments.bundle, "--backend", arguments.backend) as url:
        load(url, arguments.presets[0], files, clients=1, count=1)  # everything is warm
        for preset in arguments.presets:
            for clients, in_turn in [*((c, False) for c in arguments.clients), (most, True)]:
                send = partial(load, url, preset, files, clients=clients, count=count)
                with asking_for_health(url) as health:
                    started = time.perf_counter()
                    sent = send(in_turn=in_turn)
                    rate = len(sent) / (time.perf_counter() - started)
                name = "in turn" if in_turn else str(clients)
                print(row(preset, name, rate, sent, health))


def row(
    preset: str, clients: str, rate: float, sent: Sequence[Sent], health: Sequence[float] = ()
) -> str:
    over = statistics.median(one.seconds - one.stages for one in sent)
    p50, p99 = np.percentile([one.seconds for one in sent], [50, 99])
    slowest = float(np.percentile(health, 99)) if health else float("nan")
    return (
        f"{preset:<9}{clients:>7}{rate:>10.3f}{p50:>9.2f}{p99:>9.2f}"
        f"{1000 * over:>10.1f}{1000 * slowest:>11.1f}"
    )


def direct(arguments: argparse.Namespace, preset: str, files: Sequence[bytes]) -> list[Sent]:
    """The detector's own time for one photo after another, in this process."""
    sent = []
    loaded = Detector.load(arguments.bundle, preset=preset, backend=arguments.backend)
    with loaded as detector:
        detector.detect(files[0])
        for photo in itertools.islice(itertools.cycle(files), arguments.requests):
            started = time.perf_counter()
            result = detector.detect(photo)
            sent.append(Sent(time.perf_counter() - started, sum(result.seconds.values())))
    return sent


def load(
    url: str,
    preset: str,
    files: Sequence[bytes],
    *,
    clients: int,
    count: int,
    in_turn: bool = False,
) -> list[Sent]:
    """What so many clients meet, which send so many photos together."""
    turn = threading.Lock() if in_turn else nullcontext()

    def one(first: int) -> list[Sent]:
        sent = []
        own = itertools.islice(itertools.cycle(files), first, count, clients)
        with httpx2.Client(base_url=url, timeout=600) as client:
            for photo in own:
                started = time.perf_counter()
                with turn:
                    answer = client.post("/detect", content=photo, params={"preset": preset})
                answer.raise_for_status()
                seconds = time.perf_counter() - started
                stages = answer.json()["seconds"]
                named = stages["decode"] + stages["proposals"] + stages["classify"]
                sent.append(Sent(seconds, named))
        return sent

    with ThreadPoolExecutor(clients) as pool:
        return list(itertools.chain.from_iterable(pool.map(one, range(clients))))


@contextmanager
def asking_for_health(url: str) -> Iterator[list[float]]:
    """The seconds of answers to /healthz meanwhile."""
    seconds: list[float] = []
    over = threading.Event()

    def ask() -> None:
        with httpx2.Client(base_url=url, timeout=60) as client:
            while not over.wait(0.1):
                started = time.perf_counter()
                client.get("/healthz").raise_for_status()
                seconds.append(time.perf_counter() - started)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seconds
    finally:
        over.set()
        thread.join()


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """The command as a process; its address."""
    settings = ("--set", "service.deadline=600", "--set", "service.max_crops=1000000")
    command = [sys.executable, "-m", "service.command", "--port", "0", *settings, *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = iter(process.stderr)
    reading = threading.Thread(target=lambda: list(lines))  # so that it never blocks
    try:
        found = next(f for line in lines if (f := re.search(r"running on (http://[\d.:]+)", line)))
        reading.start()
        yield found[1]
    finally:
        process.terminate()
        process.wait()
        if reading.is_alive():
            reading.join()
        process.stderr.close()


if __name__ == "__main__":
    main()

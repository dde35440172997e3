"""The service under load: images a second, waiting times, and what HTTP itself costs.

    python benchmarks/serving.py [--images DIR] [--bundle NAME|DIR] [--presets fast default] \
        [--clients 1 4 16] [--rounds 3] [--backend auto]

`detector-serve` runs as a process of its own; each client sends photos one after another. One
client is the throughput of one image at a time. "over" is the median of a client's waiting time
less the stages that the answer names: HTTP, waiting lines and processes. "health" is the slowest
answer but one in a hundred to `GET /healthz`, asked for ten times a second meanwhile.
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
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2
import numpy as np
import skimage.data

SAMPLES = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png")


class Sent(NamedTuple):
    """A request: the client's seconds, and those that the answer names."""

    seconds: float
    stages: float


def main() -> None:
    parser = argparse.ArgumentParser(description="The service under load.")
    parser.add_argument("--images", type=Path, help="a folder of photos (scikit-image's)")
    parser.add_argument("--bundle", default="voc20")
    parser.add_argument("--presets", nargs="+", default=["fast", "default"])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3, help="photos that each client sends")
    parser.add_argument("--backend", default="auto", choices=("auto", "torch", "openvino"))
    arguments = parser.parse_args()
    samples = [Path(skimage.data.__path__[0]) / name for name in SAMPLES]
    files = sorted(arguments.images.iterdir())[:64] if arguments.images else samples
    photos = [file.read_bytes() for file in files]
    print("preset   clients  images/s    p50 s    p99 s   over ms  health ms")
    with serving("--bundle", arguments.bundle, "--backend", arguments.backend) as url:
        load(url, arguments.presets[0], photos, clients=1, rounds=1)  # everything is warm
        for preset in arguments.presets:
            for clients in arguments.clients:
                started = time.perf_counter()
                with asking_for_health(url) as health:
                    sent = load(url, preset, photos, clients=clients, rounds=arguments.rounds)
                rate = len(sent) / (time.perf_counter() - started)
                waits = [one.seconds for one in sent]
                over = statistics.median(one.seconds - one.stages for one in sent)
                p50, p99 = np.percentile(waits, [50, 99])
                slowest = float(np.percentile(health, 99)) if health else float("nan")
                print(
                    f"{preset:<9}{clients:>7}{rate:>10.3f}{p50:>9.2f}{p99:>9.2f}"
                    f"{1000 * over:>10.1f}{1000 * slowest:>11.1f}"
                )


def load(
    url: str, preset: str, photos: Sequence[bytes], *, clients: int, rounds: int
) -> list[Sent]:
    """What so many clients meet, each of which sends so many photos."""

    def one(first: int) -> list[Sent]:
        sent = []
        with httpx2.Client(base_url=url, timeout=600) as client:
            for photo in itertools.islice(itertools.cycle(photos), first, first + rounds):
                started = time.perf_counter()
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
    try:
        found = next(f for line in lines if (f := re.search(r"running on (http://[\d.:]+)", line)))
        threading.Thread(target=lambda: list(lines), daemon=True).start()  # so it never blocks
        yield found[1]
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()

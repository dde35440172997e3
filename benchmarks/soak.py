"""The service for minutes at full load.

    python -m benchmarks.soak [--minutes 10] [--clients 16] [--bundle NAME|DIR] [--preset fast]

Memory, descriptors and processes must not grow, and a killed worker must be replaced. Clients send
good and broken uploads. After a third of the time a worker is killed, which may cost one answer.
The first tenth of the time warms the service up. Memory is that of the service and its workers
together.
"""

from __future__ import annotations

import argparse
import collections
import io
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx2
import numpy as np
from PIL import Image as PillowImage

from benchmarks.serving import serving

Statuses = collections.Counter[int]

GROWTH = 0.05
"""Largest growth of memory after the warm-up, as a share."""


class State(NamedTuple):
    """Resources of a process and its children."""

    mib: float
    """Memory in MiB."""
    descriptors: int
    """Number of open files and sockets."""
    processes: int
    """Number of processes."""


def main() -> None:
    parser = argparse.ArgumentParser(description="The service for minutes at full load.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--bundle", default="voc20")
    parser.add_argument("--preset", default="fast")
    arguments = parser.parse_args()

    options = ("--bundle", arguments.bundle, "--preset", arguments.preset)
    soak(60 * arguments.minutes, arguments.clients, *options)


def soak(seconds: float, clients: int, *options: str, growth: float = GROWTH) -> Statuses:
    """Load the service for some time and check its promises.

    Args:
        seconds: Duration of the load.
        clients: Number of clients that send at the same time.
        options: Options of `detector-serve`.
        growth: Largest allowed growth of memory after the warm-up, as a share.

    Returns:
        Number of answers of each status.
    """
    finished = threading.Event()
    with (
        serving("--set", "service.workers=2", *options) as url,
        ThreadPoolExecutor(clients) as pool,
    ):
        (service,) = [
            pid
            for pid in children(os.getpid())
            if b"service.command" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        sending = [pool.submit(send, url, number, finished) for number in range(clients)]
        try:
            first, last = watch(service, seconds)
        finally:
            finished.set()
        statuses = sum((client.result() for client in sending), Statuses())

    print(dict(statuses))
    print(f"memory: {last.mib / first.mib - 1:+.1%}")
    assert statuses.keys() <= {200, 400, 503}, "an answer that is none of these"
    assert statuses[503] <= 1, "more than the image that the killed worker had"
    assert last.mib < (1 + growth) * first.mib, "memory grew"
    assert last.descriptors <= first.descriptors + clients, "descriptors were left behind"
    assert last.processes == first.processes, "processes were left behind or lost"
    return statuses


def watch(service: int, seconds: float) -> tuple[State, State]:
    """Watch the service, and kill one of its workers after a third of the time.

    Args:
        service: Process id of the service.
        seconds: Duration.

    Returns:
        The states after a tenth of the time and at the end.
    """
    started = time.monotonic()
    has_killed = False
    first: State | None = None
    print("seconds  MiB  descriptors  processes")
    while (elapsed := time.monotonic() - started) < seconds:
        time.sleep(seconds / 20)
        last = state(service)
        if elapsed > seconds / 10:
            first = first or last
        print(f"{elapsed:>7.0f}{last.mib:>6.0f}{last.descriptors:>12}{last.processes:>11}")

        if elapsed > seconds / 3 and not has_killed:
            has_killed = True
            victim = max(children(service), key=memory)
            os.kill(victim, signal.SIGKILL)
            print(f"killed worker {victim}")
    assert first is not None
    return first, last


def send(url: str, number: int, finished: threading.Event) -> Statuses:
    """Send good and broken images until the time is over.

    Args:
        url: The service's address.
        number: Number of the client, which seeds its images.
        finished: Set at the end of the time.

    Returns:
        Number of answers of each status.
    """
    statuses = Statuses()
    rng = np.random.default_rng(number)
    with httpx2.Client(base_url=url, timeout=600) as client:
        while not finished.is_set():
            data = random_png(rng)
            if rng.random() < 0.3:
                data = data[: rng.integers(len(data))]
            statuses[client.post("/detect", content=data).status_code] += 1
    return statuses


def random_png(rng: np.random.Generator) -> bytes:
    """Return a small image of a few rectangles, for which detection is quick."""
    image = np.full((int(rng.integers(8, 60)), 300, 3), 128, np.uint8)
    for _ in range(4):
        x, y = rng.integers(0, 300), rng.integers(0, len(image))
        image[y : y + rng.integers(2, 40), x : x + rng.integers(5, 100)] = rng.integers(0, 256, 3)
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def children(pid: int) -> list[int]:
    """Return the ids of the processes that a process started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def memory(pid: int) -> float:
    """Return the memory of a process in MiB; shared pages count in proportion (PSS)."""
    fields = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n")
    (kib,) = [line.split()[1] for line in fields if line.startswith("Pss:")]
    return int(kib) / 1024


def state(pid: int) -> State:
    """Return the resources of a process and its children."""
    pids = [pid, *children(pid)]
    descriptors = sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in pids)
    return State(sum(map(memory, pids)), descriptors, len(pids))


if __name__ == "__main__":
    main()

"""Minutes at full load: memory, descriptors and processes stay; a killed worker is replaced.

    python -m benchmarks.soak [--minutes 10] [--clients 16] [--bundle DIR]

Good and broken uploads in turn; a third of the way through a worker is killed. The first tenth of
the time warms up. Memory is that of the service and its workers together.
"""

from __future__ import annotations

import argparse
import collections
import io
import os
import signal
import threading
import time
from pathlib import Path

import httpx2
import numpy as np
from PIL import Image as PillowImage

from benchmarks.serving import serving


def main() -> None:
    parser = argparse.ArgumentParser(description="The service for minutes at full load.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--bundle", default="voc20")
    arguments = parser.parse_args()
    statuses: collections.Counter[int] = collections.Counter()
    over = threading.Event()
    with serving("--bundle", arguments.bundle, "--set", "service.workers=2") as url:
        (service,) = [
            pid
            for pid in children(os.getpid())
            if b"service.command" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        clients = [
            threading.Thread(target=send, args=(url, number, over, statuses))
            for number in range(arguments.clients)
        ]
        for client in clients:
            client.start()
        seconds = 60 * arguments.minutes
        started, killed = time.monotonic(), False
        first: tuple[float, int, int] | None = None
        print("seconds  MiB  descriptors  processes  answers")
        while (now := time.monotonic() - started) < seconds:
            time.sleep(seconds / 20)
            last = state(service)
            if now > seconds / 10:
                first = first or last
            print(f"{now:>7.0f}{last[0]:>6.0f}{last[1]:>12}{last[2]:>11}  {dict(statuses)}")
            if now > seconds / 3 and not killed:
                killed = True
                victim = max(children(service), key=memory)
                os.kill(victim, signal.SIGKILL)
                print(f"killed worker {victim}")
        over.set()
        for client in clients:
            client.join()
        assert first is not None
    print(f"memory: {last[0] / first[0] - 1:+.1%}, descriptors: {last[1] - first[1]:+}")
    bad = {status for status in statuses if status >= 500} - {503, 504}
    assert not bad, bad
    assert last[2] == first[2], "processes were left behind or lost"


def send(url: str, number: int, over: threading.Event, statuses: collections.Counter[int]) -> None:
    """Photos and broken ones, until it is over."""
    rng = np.random.default_rng(number)
    with httpx2.Client(base_url=url, timeout=600) as client:
        while not over.is_set():
            data = picture(rng)
            if rng.random() < 0.3:
                data = data[: rng.integers(len(data))]
            answer = client.post("/detect", content=data, params={"preset": "fast"})
            statuses[answer.status_code] += 1


def picture(rng: np.random.Generator) -> bytes:
    """A small picture of a few rectangles, which is quick to work on."""
    image = np.full((int(rng.integers(8, 60)), 300, 3), 128, np.uint8)
    for _ in range(4):
        x, y = rng.integers(0, 300), rng.integers(0, len(image))
        image[y : y + rng.integers(2, 40), x : x + rng.integers(5, 100)] = rng.integers(0, 256, 3)
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def memory(pid: int) -> float:
    """MiB of a process that are its own."""
    fields = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n")
    (kib,) = [line.split()[1] for line in fields if line.startswith("Pss:")]
    return int(kib) / 1024


def state(pid: int) -> tuple[float, int, int]:
    """MiB, file descriptors and number of a process and those that it started."""
    every = [pid, *children(pid)]
    descriptors = sum(len(list(Path(f"/proc/{one}/fd").iterdir())) for one in every)
    return sum(map(memory, every)), descriptors, len(every)


if __name__ == "__main__":
    main()

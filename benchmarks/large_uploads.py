"""Many large uploads at once: the service's answers, and the memory of all its processes.

    python -m benchmarks.large_uploads [--count 64] [--mib 20] [--bundle NAME|DIR] [--preset fast]

The uploads are JPEGs of noise, sent as forms and as bodies. The memory is that of the service and
its workers together (PSS), before, at its peak, and within ten seconds after the last answer.
"""

from __future__ import annotations

import argparse
import collections
import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx2
import numpy as np
from PIL import Image

from benchmarks.serving import serving
from benchmarks.soak import children, memory

LARGEST = 1536.0
"""Bound of the memory in MiB, as docs/operations.md has it."""

GROWTH = 1.1
"""How much larger the memory may be afterwards."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Many large uploads at once.")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--mib", type=int, default=20)
    parser.add_argument("--bundle", default="voc20")
    parser.add_argument("--preset", default="fast")
    arguments = parser.parse_args()

    options = ("--bundle", arguments.bundle, "--preset", arguments.preset)
    uploads = attack_service(arguments.count, arguments.mib << 20, *options)

    print(dict(uploads.statuses))
    print(
        f"MiB before {uploads.before:.0f}, at the peak {uploads.peak:.0f}, "
        f"after {uploads.after:.0f}"
    )
    assert uploads.peak < LARGEST, "more memory than documented"
    assert uploads.after < GROWTH * uploads.before, "memory grew"


class Uploads(NamedTuple):
    """What many uploads at once did to a service."""

    statuses: collections.Counter[str]
    """Number of answers of each kind."""
    before: float
    """MiB of all processes, after two uploads."""
    peak: float
    """Largest MiB of all processes."""
    after: float
    """MiB of all processes, once they are at rest again."""


def attack_service(count: int, size: int, *options: str) -> Uploads:
    """Start a service, and send it uploads at once.

    Args:
        count: Number of uploads.
        size: Size of each in bytes.
        options: Options of `detector-serve`.
    """
    image = noise(size)
    print(f"{count} uploads of {len(image) / 2**20:.1f} MiB")
    with serving(*options) as url:
        (service,) = [
            pid
            for pid in children(os.getpid())
            if b"service.command" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        attack(url, image, 2)  # everything has been used once
        time.sleep(2)
        before = tree_memory(service)
        peak = Peak(service)
        statuses = attack(url, image, count)
        largest = peak.stop()

        for _ in range(10):
            time.sleep(1)
            after = tree_memory(service)
            if after < GROWTH * before:
                break
        assert httpx2.get(f"{url}/readyz").status_code == 200
    return Uploads(statuses, before, largest, after)


def noise(size: int) -> bytes:
    """Return a JPEG of noise that has a little less than this number of bytes."""
    rng = np.random.default_rng(0)
    data = b""
    side = 1000
    for _ in range(2):  # the first shows how many bytes a pixel takes
        buffer = io.BytesIO()
        pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
        data = buffer.getvalue()
        side = int(side * (0.98 * size / len(data)) ** 0.5)
    return data


def attack(url: str, image: bytes, count: int) -> collections.Counter[str]:
    """Send an image many times at once and count the answers."""

    def send(number: int) -> str:
        try:
            if number % 2:
                answer = httpx2.post(f"{url}/detect", content=image, timeout=300)
            else:
                answer = httpx2.post(f"{url}/detect", files={"image": image}, timeout=300)
        except httpx2.HTTPError as error:
            return type(error).__name__
        return f"{answer.status_code} {answer.json().get('type', '')}".strip()

    with ThreadPoolExecutor(count) as senders:
        return collections.Counter(senders.map(send, range(count)))


def tree_memory(pid: int) -> float:
    """Return the memory of a process and its children in MiB."""
    total = 0.0
    for each in (pid, *children(pid)):
        try:
            total += memory(each)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            continue
    return total


class Peak:
    """Looks at the memory of a process and its children twenty times a second.

    Args:
        pid: The process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._largest = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> float:
        """Stop looking, and return the largest memory in MiB."""
        self._stopped.set()
        self._thread.join()
        return self._largest

    def _watch(self) -> None:
        while not self._stopped.wait(0.05):
            self._largest = max(self._largest, tree_memory(self._pid))


if __name__ == "__main__":
    main()

"""Thousands of broken uploads: the service's answers, and whether its memory grows.

    python -m benchmarks.uploads [--count 2000] [--bundle DIR]

The uploads are those of the test suite: cut, flipped, nested, of wrong types, and decompression
bombs. Every hundredth client declares another length than it sends, or is slow.
"""

from __future__ import annotations

import argparse
import collections
import os
import time

import httpx2

from benchmarks.serving import serving
from benchmarks.soak import GROWTH, children, state
from tests.service.test_uploads import FINE, misbehave, uploads


def main() -> None:
    parser = argparse.ArgumentParser(description="Thousands of broken uploads.")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--bundle", default="voc20")
    arguments = parser.parse_args()

    statuses: collections.Counter[int] = collections.Counter()
    options = ("--bundle", arguments.bundle, "--set", "service.upload_deadline=1")
    with serving(*options) as url, httpx2.Client(base_url=url) as client:
        (service,) = [pid for pid in children(os.getpid()) if children(pid)]
        for number, request in enumerate(uploads(arguments.count)):
            if number % 100 == 99:
                status = misbehave(url, number)
            else:
                status = client.post("/detect", **request, timeout=600).status_code
            assert status in FINE
            statuses[status] += 1
            if number == arguments.count // 10:
                before = state(service)

        time.sleep(2)  # until abandoned connections are closed
        after = state(service)
        assert client.get("/readyz").status_code == 200

    print(dict(statuses))
    print(f"MiB {before.mib:.0f} to {after.mib:.0f} ({after.mib / before.mib - 1:+.1%})")
    print(f"descriptors {before.descriptors} to {after.descriptors}")
    assert after.mib < (1 + GROWTH) * before.mib, "memory grew"
    assert after[1:] == before[1:], "descriptors or processes were left behind"


if __name__ == "__main__":
    main()

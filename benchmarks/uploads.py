"""Broken uploads by the thousand: what the service answers, and whether its memory comes back.

    python -m benchmarks.uploads [--count 2000] [--bundle DIR]

The uploads are the test suite's: cut, flipped, nested, of wrong types, and bombs.
"""

from __future__ import annotations

import argparse
import collections
import os

import httpx2

from benchmarks.serving import serving
from benchmarks.soak import children, state
from tests.service.test_uploads import FINE, uploads


def main() -> None:
    parser = argparse.ArgumentParser(description="Broken uploads by the thousand.")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--bundle", default="voc20")
    arguments = parser.parse_args()
    statuses: collections.Counter[int] = collections.Counter()
    with serving("--bundle", arguments.bundle) as url, httpx2.Client(base_url=url) as client:
        (service,) = [pid for pid in children(os.getpid()) if children(pid)]
        for number, request in enumerate(uploads(arguments.count)):
            answer = client.post("/detect", **request, timeout=600)
            assert answer.status_code in FINE, answer.text
            statuses[answer.status_code] += 1
            if number == arguments.count // 10:
                before = state(service)
        after = state(service)
        assert client.get("/readyz").status_code == 200
    print(dict(statuses))
    print(f"MiB {before[0]:.0f} to {after[0]:.0f} ({after[0] / before[0] - 1:+.1%})")
    print(f"descriptors {before[1]} to {after[1]}, processes {before[2]} to {after[2]}")


if __name__ == "__main__":
    main()

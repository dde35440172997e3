"""Clients that attack the service: what they get, and how long they can hold a connection.

    python -m benchmarks.hostile_clients [--clients 20] [--seconds 300] [--bundle voc20]

Each kind of client comes many times at once, while another client asks for `/healthz`, and sends an
image afterwards. Finally all descriptors are taken and the workers killed. At the end the service
must have the descriptors that it had before, be ready, and have logged no traceback.
"""

from __future__ import annotations

import argparse
import collections
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import numpy as np

from benchmarks.serving import serving
from benchmarks.soak import children, random_png, state

DETECT = b"POST /detect HTTP/1.1\r\nhost: x\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
SCRIPT = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n"

Attack = Callable[[socket.socket, float], None]
"""Sends to a connection until it is closed, or until a time."""


def endless_body(request_line: bytes) -> Attack:
    """A body of small chunks that has no end."""

    def attack(client: socket.socket, end: float) -> None:
        client.sendall(request_line + b" HTTP/1.1\r\nhost: x\r\n" + CHUNKED)
        while time.monotonic() < end:
            client.sendall(b"1\r\nx\r\n")
            time.sleep(0.05)

    return attack


def silence_after(start: bytes) -> Attack:
    """The start of a request, and nothing more."""
    return lambda client, end: client.sendall(start)


def reading_nothing(client: socket.socket, end: float) -> None:
    """Requests for large answers, which are not read."""
    client.sendall(20 * SCRIPT)
    while time.monotonic() < end:
        time.sleep(1)
        client.sendall(b"x")  # fails when the connection is closed


def trickling_head(client: socket.socket, end: float) -> None:
    """A head that grows by a byte a second."""
    client.sendall(b"GET / HTTP/1.1\r\nx-slow: ")
    while time.monotonic() < end:
        client.sendall(b"x")
        time.sleep(1)


ATTACKS: dict[str, Attack] = {
    "endless body, read": endless_body(b"POST /detect"),
    "endless body, not read": endless_body(b"POST /healthz"),
    "endless body of an unknown path": endless_body(b"POST /absent"),
    "body that stops": silence_after(DETECT + b"content-length: 1000000\r\n\r\nI am"),
    "body of 100 continue that never comes": silence_after(
        DETECT + b"expect: 100-continue\r\ncontent-length: 9\r\n\r\n"
    ),
    "no head": silence_after(b""),
    "head that stops": silence_after(b"GET / HTTP/1.1\r\nhost"),
    "head that trickles": trickling_head,
    "answers not read": reading_nothing,
    "idle after an answer": silence_after(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"),
    "broken chunk": silence_after(DETECT + CHUNKED + b"zz\r\n"),
    "no HTTP": silence_after(bytes(range(256)) * 300),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Clients that attack the service.")
    parser.add_argument("--clients", type=int, default=20, help="of each kind at once")
    parser.add_argument("--seconds", type=float, default=300, help="longest time of an attack")
    parser.add_argument("--bundle", default="voc20")
    arguments = parser.parse_args()

    with (
        serving("--bundle", arguments.bundle, "--preset", "fast") as url,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        image = random_png(np.random.default_rng(0))
        assert client.post("/detect", content=image).status_code == 200
        (service,) = [pid for pid in children(os.getpid()) if children(pid)]
        before = state(service)

        for name, attack in ATTACKS.items():
            attack_many(name, attack, client, arguments.clients, arguments.seconds)
            assert client.post("/detect", content=image).status_code == 200
        exhaust_descriptors(service, client, image)

        time.sleep(1)
        after = state(service)
        print(f"MiB {before.mib:.0f} to {after.mib:.0f}")
        print(f"descriptors {before.descriptors} to {after.descriptors}")
        assert after.descriptors <= before.descriptors, "descriptors were left behind"


def attack_many(
    name: str, attack: Attack, client: httpx2.Client, count: int, seconds: float
) -> None:
    """Attack from many connections at once, and print what they got and how long they lasted."""
    url = str(client.base_url)
    slowest = 0.0
    with ThreadPoolExecutor(count) as attackers:
        running = [attackers.submit(attack_once, url, attack, seconds) for _ in range(count)]
        while not all(future.done() for future in running):
            started = time.monotonic()
            assert client.get("/healthz").status_code == 200
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.1)
    answers = collections.Counter(future.result()[0] for future in running)
    longest = max(future.result()[1] for future in running)
    print(f"{name}: {dict(answers)}, ended after at most {longest:.1f} s", end="")
    print(f", /healthz within {1000 * slowest:.0f} ms")
    assert longest < seconds, "a connection stays open"


def attack_once(url: str, attack: Attack, seconds: float) -> tuple[str, float]:
    """Attack from one connection, and return the status of the answer and the seconds it lasted."""
    address = urlsplit(url)
    started = time.monotonic()
    answer = b""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((address.hostname, address.port))
        client.settimeout(seconds)
        with suppress(OSError):
            attack(client, started + seconds)
        with suppress(OSError):
            while more := client.recv(65536):
                answer = answer or more
    return answer[9:12].decode() or "none", time.monotonic() - started


def exhaust_descriptors(service: int, client: httpx2.Client, image: bytes) -> None:
    """Take the service's descriptors and then a worker, and print how its readiness follows."""
    limits = resource.prlimit(service, resource.RLIMIT_NOFILE)
    open_now = len(list(Path(f"/proc/{service}/fd").iterdir()))
    resource.prlimit(service, resource.RLIMIT_NOFILE, (open_now, limits[1]))
    workers = [
        pid
        for pid in children(service)
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    seconds = wait_for_readiness(client, 503)
    status = client.post("/detect", content=image).status_code
    print(f"workers killed, no descriptor free: 503 after {seconds:.1f} s, image {status}")
    assert status == 503

    resource.prlimit(service, resource.RLIMIT_NOFILE, limits)
    seconds = wait_for_readiness(client, 200)
    status = client.post("/detect", content=image).status_code
    print(f"descriptors free again: 200 after {seconds:.1f} s, image {status}")
    assert status == 200


def wait_for_readiness(client: httpx2.Client, status: int) -> float:
    """Wait until `/readyz` has a status, and return the seconds that took."""
    started = time.monotonic()
    while client.get("/readyz").status_code != status:
        assert time.monotonic() < started + 30, f"/readyz is never {status}"
        time.sleep(0.05)
    return time.monotonic() - started


if __name__ == "__main__":
    main()

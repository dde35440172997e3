from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

import service.body_limit
from detector.bundles.bundle import Bundle
from tests.service.test_workers import SLOW
from tests.support.serving import Running, serving

LIMIT = 10_000


@pytest.fixture(scope="module")
def small(tiny_bundle: Bundle) -> Iterator[Running]:
    with serving(tiny_bundle, max_bytes=LIMIT, upload_deadline=0.5) as running:
        yield running


def test_a_declared_length(small: Running) -> None:
    with small.client() as client:
        answer = client.post("/detect", content=bytes(LIMIT + 1))
        assert (answer.status_code, answer.json()["type"]) == (413, "oversized-body")
        assert client.post("/detect", content=bytes(LIMIT)).json()["type"] == "not-an-image"


@pytest.mark.parametrize("content_type", ["image/png", "multipart/form-data; boundary=x"])
def test_a_body_without_length(small: Running, content_type: str) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(20):
            yield bytes(1000)

    with small.client() as client:
        headers = {"content-type": content_type}
        answer = client.post("/detect", content=chunks(), headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (413, "oversized-body")


def raw(running: Running, head: str, body: bytes = b"") -> bytes:
    """What the service answers to bytes as they are."""
    address = urlsplit(running.url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 0), timeout=10) as sender:
        sender.sendall(f"POST /detect HTTP/1.1\r\nhost: x\r\n{head}\r\n".encode() + body)
        answer = b""
        while more := sender.recv(65536):
            answer += more
        return answer


def test_a_slow_sender(small: Running) -> None:
    started = time.monotonic()
    answer = raw(small, "content-length: 100\r\nconnection: close\r\n", b"I am")
    assert b"408 Request Timeout" in answer
    assert b'"slow-upload"' in answer
    assert time.monotonic() - started < 8


def test_a_large_body_is_refused_before_it_is_sent(small: Running) -> None:
    head = f"content-length: {LIMIT + 1}\r\nexpect: 100-continue\r\nconnection: close\r\n"
    assert raw(small, head).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "head",
    [
        "content-length: -1\r\n",
        "content-length: many\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "transfer-encoding: odd\r\n",
    ],
)
def test_broken_lengths(small: Running, head: str) -> None:
    assert raw(small, head + "connection: close\r\n", b"x" * 50).startswith(
        (b"HTTP/1.1 400", b"HTTP/1.1 501")
    )
    with small.client() as client:
        assert client.get("/readyz").status_code == 200


def test_clients_that_leave_free_their_places(tiny_bundle: Bundle) -> None:
    with serving(tiny_bundle, max_requests=5) as running, running.client() as client:

        def wait_for(places: int) -> None:
            for _ in range(100):
                if f"detector_running_requests {places}.0" in client.get("/metrics").text:
                    return
                time.sleep(0.05)
            raise AssertionError(f"there are never {places} places taken")

        address = urlsplit(running.url)
        senders = [
            socket.create_connection((address.hostname, address.port), timeout=10) for _ in range(5)
        ]
        for sender in senders:
            sender.sendall(b"POST /detect HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nI am")
        wait_for(5)
        refused = client.post("/detect", content=b"x")
        assert (refused.status_code, refused.json()["type"]) == (503, "busy")
        assert int(refused.headers["retry-after"]) > 0
        for sender in senders:
            sender.close()
        wait_for(0)
        assert client.post("/detect", content=b"x").status_code == 400


def test_a_deadline(tiny_bundle: Bundle) -> None:
    with serving(tiny_bundle, deadline=0.1) as running, running.client() as client:
        late = client.post("/detect", content=SLOW)
        assert (late.status_code, late.json()["type"]) == (504, "deadline")
        assert "detector_running_requests 0.0" in client.get("/metrics").text


def test_all_bodies_together_have_a_limit(tiny_bundle: Bundle) -> None:
    with serving(tiny_bundle, max_waiting_bytes=100_000) as running, running.client() as client:
        address = urlsplit(running.url)
        slow = socket.create_connection((address.hostname, address.port), timeout=10)
        slow.sendall(b"POST /detect HTTP/1.1\r\nhost: x\r\ncontent-length: 90000\r\n\r\n")
        slow.sendall(bytes(60_000))
        time.sleep(0.3)
        refused = client.post("/detect", content=bytes(60_000))
        assert (refused.status_code, refused.json()["type"]) == (503, "busy")
        assert int(refused.headers["retry-after"]) > 0
        assert client.post("/detect", content=bytes(5_000)).status_code == 400

        slow.close()
        for _ in range(100):
            if client.post("/detect", content=bytes(60_000)).status_code == 400:
                break
            time.sleep(0.05)
        assert client.post("/detect", content=bytes(200_000)).status_code == 400, "one alone"


def send_for_ever(sender: socket.socket) -> None:
    """Send chunks of a body for ten seconds, or until the service closes the connection."""
    for _ in range(1000):
        sender.sendall(b"1\r\nx\r\n")
        time.sleep(0.01)


@pytest.mark.parametrize("request_line", ["POST /healthz", "GET /healthz", "POST /absent"])
def test_a_body_that_nobody_reads_ends_its_connection(
    small: Running, request_line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.body_limit, "DISCARD_SECONDS", 0.3)
    address = urlsplit(small.url)
    head = f"{request_line} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=10) as sender:
        sender.sendall(head.encode())
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_for_ever(sender)


def test_a_body_that_stops_is_not_waited_for(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.body_limit, "IDLE_SECONDS", 0.3)
    with serving(tiny_bundle) as running:
        answer = raw(running, "content-length: 100\r\nconnection: close\r\n", b"I am")
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"no byte of the body came for 0.3 seconds" in answer


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/healthz", {}, 405),
        ("/detect?score_treshold=1", {}, 422),
        ("/detect", {"headers": {"content-encoding": "gzip"}}, 415),
        ("/detect", {"content": bytes(3 * LIMIT)}, 413),
    ],
)
def test_a_refused_request_leaves_its_connection_usable(
    small: Running, path: str, options: dict[str, Any], status: int
) -> None:
    with small.client() as client:
        for _ in range(2):
            answer = client.post(path, **{"content": bytes(LIMIT)} | options)
            assert answer.status_code == status
            assert "connection" not in answer.headers


def test_the_body_of_a_refused_request_is_not_waited_for(small: Running) -> None:
    head = b"POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nI am"
    address = urlsplit(small.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as sender:
        sender.sendall(head)
        answer = b""
        while more := sender.recv(65536):
            answer += more
    assert answer.startswith(b"HTTP/1.1 405")
    assert b"connection: close" in answer

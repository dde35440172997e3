from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from detector.bundle import Bundle
from tests.service.conftest import Running, serving

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


def test_many_fields(small: Running) -> None:
    part = b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n\r\n'
    with small.client() as client:
        headers = {"content-type": "multipart/form-data; boundary=x"}
        answer = client.post("/detect", content=part * 9 + b"--x--\r\n", headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (400, "bad-form")
        assert "more than 8 fields" in answer.json()["detail"]


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


def test_a_client_that_leaves_frees_its_place(small: Running) -> None:
    address = urlsplit(small.url)
    for _ in range(5):
        sender = socket.create_connection((address.hostname or "", address.port or 0), timeout=10)
        sender.sendall(b"POST /detect HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nI am")
        sender.close()
    with small.client() as client:
        for _ in range(100):
            if "detector_running_requests 0.0" in client.get("/metrics").text:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("places are still taken")

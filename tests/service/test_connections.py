from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import service.connections
from detector.bundles.bundle import Bundle
from service.connections import LoopErrors
from tests.support.serving import Running, serving

SCRIPT = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n"
"""A request for a large answer."""

FRAGMENTS = st.sampled_from(
    [
        b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /detect HTTP/1.1\r\nhost: x\r\n",
        b"content-length: 5\r\n",
        b"transfer-encoding: chunked\r\n",
        b"expect: 100-continue\r\n",
        b"connection: upgrade\r\nupgrade: websocket\r\n",
        b"\r\n",
        b"3\r\nabc\r\n",
        b"zz\r\n",
        b"0\r\n\r\n",
    ]
)
"""Parts of requests, which need not fit together."""


@contextmanager
def connected(running: Running) -> Iterator[socket.socket]:
    """A connection whose system keeps little of what it receives."""
    address = urlsplit(running.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect((address.hostname, address.port))
        yield client


def read_all(client: socket.socket) -> int:
    """Read until the connection ends, and return the number of bytes."""
    count = 0
    with suppress(ConnectionResetError):
        while more := client.recv(2**20):
            count += len(more)
    return count


def test_a_head_that_never_ends_is_not_waited_for(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.connections, "HEAD_SECONDS", 0.5)
    with serving(tiny_bundle) as running, running.client() as client:
        for start in (
            b"",
            b"GET / HTTP/1.1\r\nhost",
            b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET",
        ):
            with connected(running) as sender:
                sender.sendall(start)
                read_all(sender)
        assert client.get("/readyz").status_code == 200


def test_an_answer_that_nobody_reads_ends_its_connection(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.connections, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(service.connections, "ANSWER_RATE", 1e9)
    with serving(tiny_bundle) as running, running.client() as client:
        size = len(client.get("/docs/assets/swagger-ui-bundle.js").content)
        with connected(running) as reader:
            reader.sendall(20 * SCRIPT)
            wait_for(lambda: len(unread(running)) == 1)
            wait_for(lambda: not unread(running))
            assert read_all(reader) < 20 * size


def test_unread_answers_together_have_a_limit(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.connections, "MAX_UNREAD_BYTES", 10_000)
    with serving(tiny_bundle) as running, connected(running) as slowest:
        slowest.sendall(20 * SCRIPT)
        wait_for(lambda: len(unread(running)) == 1)
        first = unread(running)
        with connected(running) as other:
            other.sendall(20 * SCRIPT)
            wait_for(lambda: len(unread(running)) == 1 and unread(running) != first)


def unread(running: Running) -> list[Any]:
    """Return the connections whose clients do not read."""
    connections: set[Any] = running.server.server_state.connections
    return [connection for connection in list(connections) if connection.flow.write_paused]


def wait_for(happens: Callable[[], bool]) -> None:
    for _ in range(400):
        if happens():
            return
        time.sleep(0.05)
    raise AssertionError("it does not happen")


def test_a_broken_body_is_no_error_of_the_service(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /detect HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    for body in (b"zz\r\n", b"3\r\nabc\r\nzz\r\n", b"3\r\nabcdef"):
        with connected(running) as client:
            client.sendall(head + body)
            assert client.recv(4096).startswith(b"HTTP/1.1 400")
    assert [record for record in caplog.records if record.exc_info] == []


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(FRAGMENTS, min_size=1, max_size=8))
def test_any_order_of_parts(
    running: Running, caplog: pytest.LogCaptureFixture, parts: list[bytes]
) -> None:
    with connected(running) as client:
        client.sendall(b"".join(parts))
        client.shutdown(socket.SHUT_WR)
        client.settimeout(0.05)
        with suppress(TimeoutError):
            read_all(client)
    assert [record for record in caplog.records if record.exc_info] == []


def test_connections_leave_descriptors_for_workers(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.connections, "_descriptors_for_connections", lambda: 0)
    with connected(running) as client:
        assert client.recv(4096).startswith(b"HTTP/1.1 503")
        assert client.recv(4096) == b""


def test_a_connection_that_cannot_be_accepted_is_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handle = LoopErrors()
    loop = asyncio.new_event_loop()
    for _ in range(3):
        error = OSError(errno.EMFILE, "Too many open files")
        handle(loop, {"message": "socket.accept() failed", "exception": error})
    assert [record.message for record in caplog.records] == [
        "no connection can be accepted: Too many open files"
    ]

    handle(loop, {"message": "another error", "exception": ValueError("odd")})
    assert caplog.records[-1].levelno == logging.ERROR
    loop.close()

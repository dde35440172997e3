"""Whatever is sent to the service, it answers, and with no 5xx but 503 and 504."""

from __future__ import annotations

import io
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from schemathesis.specs.openapi.checks import positive_data_acceptance

from detector.bundles.bundle import Bundle
from tests.support.images import scene
from tests.support.serving import Running, serving

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
FINE = {200, 400, 408, 413, 415, 422, 503, 504}


def image(seed: int, form: str) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(scene(seed, 60, 6)).save(buffer, format=form)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes that says that it has many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(100_000), 9))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data))]


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(len(data), size=rng.integers(1, 20)):
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def mixed(data: bytes, rng: np.random.Generator) -> bytes:
    middle = rng.integers(len(data))
    return data[middle:] + data[:middle]


def repeated(data: bytes, rng: np.random.Generator) -> bytes:
    return data * int(rng.integers(2, 4))


def large(_: bytes, rng: np.random.Generator) -> bytes:
    return bomb(*map(int, rng.integers(1, 2**31 - 1, 2)))


MUTATIONS = (cut, flipped, flipped, mixed, repeated, large)


def sent(data: bytes, rng: np.random.Generator) -> dict[str, Any]:
    """A request with an image: raw or in a form, whole or nested, with a right type or another."""
    kind = rng.integers(5)
    if kind == 0:
        types = ("image/png", "image/x", "application/octet-stream", "text/plain", "multipart/x")
        return {"content": data, "headers": {"content-type": types[rng.integers(len(types))]}}
    if kind == 1:
        return {"files": {"image": ("a.png", data)}}
    inner = (
        b'--in\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n'
        + data
        + b"\r\n--in--\r\n"
    )
    if kind == 2:  # nested
        return {"files": {"image": ("a", inner, "multipart/form-data; boundary=in")}}
    boundary = "in" if kind == 3 else "other"
    content_type = f"multipart/form-data; boundary={boundary}"
    return {"content": cut(inner, rng), "headers": {"content-type": content_type}}


def uploads(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Requests that a service should survive."""
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        data = image(int(rng.integers(50)), FORMATS[rng.integers(len(FORMATS))])
        mutate: Callable[[bytes, np.random.Generator], bytes]
        mutate = MUTATIONS[rng.integers(len(MUTATIONS))]
        yield sent(mutate(data, rng), rng)


def misbehave(url: str, seed: int) -> int:
    """Send fewer bytes than declared, and wait or go; or send more. The answer's status."""
    rng = np.random.default_rng(seed)
    address, data = urlsplit(url), image(seed % 50, "PNG")
    declared = len(data) + int(rng.integers(-len(data) + 1, len(data)))
    head = f"POST /detect HTTP/1.1\r\nhost: x\r\ncontent-length: {declared}\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=60) as sender:
        sender.sendall(f"{head}connection: close\r\n\r\n".encode() + data)
        answer = sender.recv(65536)
    return int(answer.split()[1])


def test_clients_that_misbehave(tiny_bundle: Bundle) -> None:
    with serving(tiny_bundle, upload_deadline=0.3) as running:
        statuses = {misbehave(running.url, seed) for seed in range(12)}
        with running.client() as client:
            assert client.get("/readyz").status_code == 200
    assert {400, 408} <= statuses <= FINE


def test_many_fields(client: httpx2.Client) -> None:
    part = b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/detect", content=part * 9 + b"--x--\r\n", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (400, "bad-form")
    assert "more than 8 fields" in answer.json()["detail"]


def test_mutated_uploads(running: Running) -> None:
    statuses: dict[int, int] = {}
    with running.client() as client:
        for request in uploads(200):
            answer = client.post("/detect", **request)
            assert answer.status_code in FINE, answer.text
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert client.get("/readyz").status_code == 200
    assert {200, 400, 413, 415} <= statuses.keys()


def test_bombs(client: httpx2.Client) -> None:
    for sides in [(30_000, 30_000), (2**31 - 1, 1), (50_000_001, 1)]:
        answer = client.post("/detect", content=bomb(*sides))
        assert (answer.status_code, answer.json()["type"]) == (413, "oversized-image")


@pytest.mark.filterwarnings("ignore")  # schemathesis' own
def test_openapi_description(tiny_bundle: Bundle) -> None:
    """Every operation answers as its description says, whatever the parameters."""
    with serving(tiny_bundle) as running:
        schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")

        for operation in schema.get_all_operations():
            case_of = operation.ok().as_strategy()  # type: ignore[union-attr]

            @given(case=case_of)
            @settings(
                max_examples=10,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                database=None,
            )
            def run(case: schemathesis.Case[Any]) -> None:
                answer = case.call()
                assert answer.status_code < 500 or answer.status_code in (503, 504), answer.text
                case.validate_response(answer, excluded_checks=[positive_data_acceptance])

            run()


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=2000))
def test_any_bytes(client: httpx2.Client, data: bytes) -> None:
    assert client.post("/detect", content=data).status_code in FINE

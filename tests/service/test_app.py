from __future__ import annotations

import httpx2

from detector.bundles.bundle import Bundle
from tests.service.conftest import serving


def test_other_paths_and_methods(client: httpx2.Client) -> None:
    assert client.get("/nothing").json()["type"] == "not-found"
    answer = client.get("/detect")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_other_origins(tiny_bundle: Bundle, client: httpx2.Client) -> None:
    origin = {"origin": "https://example.org"}
    assert "access-control-allow-origin" not in client.get("/model", headers=origin).headers
    settings = {"cors_origins": ("https://example.org",)}
    with serving(tiny_bundle, **settings) as running, running.client() as other:
        allowed = other.get("/model", headers=origin).headers["access-control-allow-origin"]
        assert allowed == "https://example.org"

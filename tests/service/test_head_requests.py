from __future__ import annotations

import httpx2
import pytest

from tests.support.serving import metric


@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/readyz", "/metrics", "/model"])
def test_head_is_answered_as_get_without_a_body(client: httpx2.Client, path: str) -> None:
    get = client.get(path)
    head = client.head(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


def test_head_of_what_has_no_get(client: httpx2.Client) -> None:
    answer = client.head("/detect")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


def test_head_counts_as_the_route_that_it_asks_for(client: httpx2.Client) -> None:
    name = 'detector_requests_total{path="/model",status="200"}'
    before = metric(client, name)
    client.head("/model")
    assert metric(client, name) == before + 1

from __future__ import annotations

import re

import httpx2

from tests.service.routes.test_detect import JPEG, encoded
from tests.support.serving import metric


def test_state(client: httpx2.Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    model = client.get("/model").json()
    assert model["classes"] == ["cat", "dog", "person"]
    assert list(model["presets"]) == ["default", "fast"]
    assert model["presets"]["fast"]["classifier"]["members"] == 1


def test_metrics(client: httpx2.Client) -> None:
    names = (
        "detector_images_total",
        'detector_requests_total{path="/detect",status="200"}',
        'detector_stage_seconds_count{stage="classify"}',
    )
    before = [metric(client, name) for name in names]
    client.post("/detect", content=encoded(0), headers=JPEG)
    assert [metric(client, name) for name in names] == [one + 1 for one in before]
    for name in ("detector_waiting_crops", "detector_running_requests"):
        assert re.search(rf"^{name} 0.0$", client.get("/metrics").text, re.MULTILINE)

"""Fixtures for tests of the service: one that serves the tiny bundle, and a client."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from detector.bundles.bundle import Bundle
from tests.support.serving import Running, serving


@pytest.fixture(scope="session")
def running(tiny_bundle: Bundle) -> Iterator[Running]:
    with serving(tiny_bundle, workers=2) as running:
        yield running


@pytest.fixture
def client(running: Running) -> Iterator[httpx2.Client]:
    with running.client() as client:
        yield client

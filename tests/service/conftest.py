"""The service on a real port, with the tiny bundle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
import uvicorn

from detector import Detector
from detector.bundles.bundle import Bundle
from detector.settings import Settings
from service.app import create_app
from service.settings import ServiceSettings

Serve = Callable[..., Any]


class Running:
    """A service that runs in a thread of this process."""

    def __init__(self, app: Any, url: str, detector: Detector) -> None:
        self.app, self.url, self.detector = app, url, detector

    def client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=60, **options)


@contextmanager
def serving(bundle: Bundle, *, keys: tuple[str, ...] = (), **settings: Any) -> Iterator[Running]:
    """The service with a bundle and some settings that differ from the defaults."""
    detector = Detector(bundle, device="cpu")
    presets = {"default": detector.settings, "fast": Settings.read(preset="fast")}
    app = create_app(
        lambda: detector,
        ServiceSettings(**({"workers": 1} | settings)),
        presets=presets,
        keys=keys,
    )
    config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=10)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Running(app, f"http://127.0.0.1:{port}", detector)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def running(tiny_bundle: Bundle) -> Iterator[Running]:
    with serving(tiny_bundle, workers=2) as running:
        yield running


@pytest.fixture
def client(running: Running) -> Iterator[httpx2.Client]:
    with running.client() as client:
        yield client

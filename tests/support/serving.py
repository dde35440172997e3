"""The service in a thread of this process, on a real port."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import uvicorn

from detector import Detector
from detector.bundles.bundle import Bundle
from detector.settings import Settings
from service.app import create_app
from service.connections import BoundedProtocol
from service.settings import ServiceSettings


class Running:
    """A service that runs in a thread of this process.

    Args:
        app: The application.
        url: Its address.
        server: The server, which runs it.
        detectors: The detector of each preset, the default one first.
    """

    def __init__(
        self, app: Any, url: str, server: uvicorn.Server, detectors: dict[str, Detector]
    ) -> None:
        self.app = app
        self.server = server
        self.url = url
        self.detectors = detectors
        self.detector = detectors["default"]

    def client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=60, **options)


@contextmanager
def serving(bundle: Bundle, *, keys: tuple[str, ...] = (), **settings: Any) -> Iterator[Running]:
    """Serve a bundle under settings that override the defaults."""
    detector = Detector.load(bundle, device="cpu")
    fast = Detector(detector.networks, Settings.read(preset="fast"))
    detectors = {"default": detector, "fast": fast}
    app = create_app(detectors, ServiceSettings(**({"workers": 1} | settings)), keys=keys)

    config = uvicorn.Config(
        app, port=0, http=BoundedProtocol, log_config=None, timeout_graceful_shutdown=10
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        time.sleep(0.01)

    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Running(app, f"http://127.0.0.1:{port}", server, detectors)
    finally:
        server.should_exit = True
        thread.join()
        detector.close()


def metric(client: httpx2.Client, name: str) -> float:
    """Return a metric's value, or 0 if /metrics does not have it."""
    text = client.get("/metrics").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0

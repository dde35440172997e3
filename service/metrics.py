"""The service's metrics, which Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

STAGES = ("decode", "proposals", "classify", "total")
SECONDS_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
REGIONS_BUCKETS = (32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counts and times, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "detector_requests_total", "Requests answered", ["path", "status"], registry=registry
        )
        self.images = Counter(
            "detector_images_total", "Images whose objects were found", registry=registry
        )
        self.seconds = Histogram(
            "detector_stage_seconds",
            "Seconds of an image in each stage",
            ["stage"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self.batch = Histogram(
            "detector_batch_crops",
            "Regions that the classifier took up at once",
            buckets=REGIONS_BUCKETS,
            registry=registry,
        )
        self.waiting = Gauge(
            "detector_waiting_crops", "Regions that wait for the classifier", registry=registry
        )
        self.running = Gauge(
            "detector_running_requests", "Detections in work or waiting", registry=registry
        )
        self.lost = Counter(
            "detector_lost_workers_total", "Worker processes that died", registry=registry
        )
        ProcessCollector(registry=registry)

        # Every stage is exposed from the start, with a count of 0.
        for stage in STAGES:
            self.seconds.labels(stage)

    def observe(self, seconds: Mapping[str, float]) -> None:
        """Count an image.

        Args:
            seconds: Its time in each of `STAGES`.
        """
        self.images.inc()
        for stage in STAGES:
            self.seconds.labels(stage).observe(seconds[stage])

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

"""What runs on the machines of a Ray cluster: an actor that preprocesses, and one that classifies.

Both have a method `load`, which is called first, and a method `work`, which is called for each
image. Images travel between them as bytes, and not through the process that gives out the work.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from detector.batch.executor import DetectedImage
from detector.batch.local_executor import predict_or_fail, propose_or_fail
from detector.batch.workers import Task, make_pool, wait_for
from detector.bundles.bundle import Bundle
from detector.detector import Detector, load_networks, resolve_runtime
from detector.image_types import FailedImage, PreprocessedImage
from detector.preprocessing import Preprocessor
from detector.runtime import BackendName
from detector.settings import Settings


class PreprocessingActor:
    """Worker processes of one machine. Several images are worked on at the same time.

    Args:
        preprocessor: What the processes do.
        workers: Number of processes.
    """

    def __init__(self, preprocessor: Preprocessor, workers: int) -> None:
        _end_with_machine()
        self._limits = preprocessor.limits
        self._pool = make_pool(preprocessor, workers)

    def load(self) -> None:
        """Do nothing: processes start when there is work."""

    def work(self, task: Task) -> tuple[FailedImage | None, bytes]:
        """Preprocess an image.

        Returns:
            The failure of the image, or None, and the preprocessed image for `ClassifyingActor`.
        """
        future = self._pool.submit(task, self._limits)
        image = wait_for(self._pool, task, future, self._limits)
        if isinstance(image, FailedImage):
            return image, b""
        return None, pickle.dumps(image)


class ClassifyingActor:
    """A detector on one machine or one GPU. It works on one image after the other."""

    _detector: Detector

    def __init__(self) -> None:
        _end_with_machine()

    def load(
        self,
        files: Mapping[str, bytes],
        settings: Settings,
        device: str,
        backend: BackendName | Literal["auto"],
    ) -> Mapping[str, Any]:
        """Load the networks and return the fingerprint of the detector.

        Args:
            files: Contents of the bundle's files by name.
            settings: The settings of the detector.
            device: "cpu" or "cuda".
            backend: "auto", "torch" or "openvino".
        """
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
            bundle = Bundle.load(folder)
            runtime = resolve_runtime(bundle, settings, device=device, backend=backend)
            self._detector = Detector(load_networks(bundle, settings, runtime), settings)
        return self._detector.fingerprint

    def work(self, task: Task, preprocessed: bytes) -> bytes:
        """Propose, classify and select the detections of an image.

        Returns:
            The finished image without its pixels, pickled.
        """
        image: PreprocessedImage = pickle.loads(preprocessed)
        proposed = propose_or_fail(self._detector, task.name, image)
        (finished,) = predict_or_fail(self._detector, [(task, proposed)])
        if isinstance(finished, DetectedImage):
            finished = replace(finished, pixels=None)
        return pickle.dumps(finished)


def _end_with_machine() -> None:
    """End this process when Ray's own process on this machine, its parent, dies."""
    parent = os.getppid()

    def wait_for_end() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from detector import Detector
from detector.backends.choice import (
    BackendName,
    choose_backend,
    choose_batch_size,
    make_backend,
)
from detector.bundles.bundle import Bundle
from detector.errors import SettingsError
from detector.settings import Settings


def test_auto_suits_the_device() -> None:
    assert choose_backend("auto", torch.device("cpu")) == "openvino"
    assert choose_backend("auto", torch.device("cuda")) == "torch"
    assert choose_backend("torch", torch.device("cpu")) == "torch"


@pytest.mark.parametrize(
    ("device", "name", "size"),
    [("cpu", "auto", 128), ("cpu", "torch", 32), ("cuda", "auto", 256)],
)
def test_batch_size_suits_the_device_and_the_engine(
    device: str, name: BackendName, size: int
) -> None:
    assert choose_batch_size("auto", torch.device(device), name) == size
    assert choose_batch_size(7, torch.device(device), name) == 7


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("caffe", "cpu", "backend 'caffe': allowed are auto, torch and openvino"),
        ("openvino", "cuda", "backend openvino runs on the processor, not on cuda"),
    ],
)
def test_what_cannot_be(name: Any, device: str, message: str, tiny_bundle: Bundle) -> None:
    network = tiny_bundle.network(tiny_bundle.manifest.members[0])
    with pytest.raises(SettingsError, match=message):
        make_backend(name, network, 64, torch.device(device), "float32")


def test_backends_find_the_same(tiny_bundle: Bundle, photos: Path) -> None:
    names: tuple[BackendName, ...] = ("torch", "openvino")
    exact = Settings.read(assignments=["classifier.precision=float32"])
    found = []
    for name in names:
        with Detector(tiny_bundle, exact, device="cpu", backend=name) as detector:
            found.append(detector.detect(photos / "a.png").detections)
            assert detector.fingerprint["backend"] == f"{name} cpu float32"
    for one, other in zip(*found, strict=True):
        assert (one.label, one.box) == (other.label, other.box)
        assert one.score == pytest.approx(other.score, abs=1e-5)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from detector import Detector, runtime
from detector.bundles.bundle import Bundle
from detector.common import cpu
from detector.errors import SettingsError
from detector.runtime import FloatPrecision, Runtime
from detector.settings import Settings


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one GPU."""
    monkeypatch.setattr(runtime, "_count_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))


def test_auto_suits_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_count_gpus", lambda: 0)
    assert Runtime.resolve().device == "cpu"
    assert Runtime.resolve().backend == "openvino"
    assert Runtime.resolve(backend="torch").backend == "torch"


@pytest.mark.usefixtures("gpu")
def test_auto_suits_the_gpu() -> None:
    resolved = Runtime.resolve(quantized=True)
    assert resolved == Runtime("cuda:0", "torch", "bfloat16", "bfloat16", 256)
    assert resolved.describe() == "torch cuda bfloat16"
    assert Runtime.resolve(device="cpu").backend == "openvino"


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("device", "backend", "size"),
    [("cpu", "auto", 128), ("cpu", "torch", 32), ("cuda", "auto", 256)],
)
def test_batch_size_suits_the_device_and_the_backend(device: str, backend: Any, size: int) -> None:
    assert Runtime.resolve(device=device, backend=backend).batch_size == size
    assert Runtime.resolve(device=device, backend=backend, batch_size=7).batch_size == 7


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "device 'tpu': allowed are auto, cpu, cuda and cuda:N"),
        ({"device": "cpu:1"}, "allowed are"),
        ({"device": "cuda:"}, "allowed are"),
        ({"device": "cuda:1"}, "this machine has 1 GPUs"),
        ({"backend": "caffe"}, "backend 'caffe': allowed are auto, torch and openvino"),
        (
            {"backend": "openvino", "device": "cuda"},
            "backend openvino runs on the processor, not on cuda",
        ),
    ],
)
def test_what_is_not_possible_is_an_error(options: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Runtime.resolve(**options)


def test_a_precision_that_is_asked_for_is_taken() -> None:
    precisions: tuple[FloatPrecision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        resolved = Runtime.resolve(device="cpu", precision=precision)
        assert resolved.precision == resolved.float_precision == precision


@pytest.mark.parametrize(
    ("flags", "quantized", "precision"),
    [
        ({"avx512_vnni", "avx512_bf16"}, True, "int8"),
        ({"avx512_vnni", "avx512_bf16"}, False, "bfloat16"),
        ({"avx512_bf16"}, True, "bfloat16"),
        ({"avx2"}, True, "float32"),
    ],
)
def test_the_fastest_native_precision_is_taken(
    flags: set[str], quantized: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "_flags", lambda: flags)
    assert Runtime.resolve(device="cpu", quantized=quantized).precision == precision
    if "avx512_vnni" in flags:
        resolved = Runtime.resolve(device="cpu", precision="int8", quantized=True)
        assert resolved.precision == "int8"
        assert resolved.describe() == "openvino cpu int8 bfloat16"
        with pytest.raises(SettingsError, match="int8: the backend openvino alone has it"):
            Runtime.resolve(device="cpu", backend="torch", precision="int8", quantized=True)
        with pytest.raises(SettingsError, match="int8: the bundle has no ranges for it"):
            Runtime.resolve(device="cpu", precision="int8")
    else:
        with pytest.raises(SettingsError, match="this processor has no VNNI or AMX"):
            Runtime.resolve(device="cpu", precision="int8", quantized=True)


def test_backends_find_the_same(tiny_bundle: Bundle, photos: Path) -> None:
    names = ("torch", "openvino")
    exact = Settings.read(assignments=["classifier.precision=float32"])
    detections = []
    for name in names:
        with Detector.load(tiny_bundle, settings=exact, device="cpu", backend=name) as detector:  # type: ignore[arg-type]
            detections.append(detector.detect(photos / "a.png").detections)
            assert detector.fingerprint["backend"] == f"{name} cpu float32"
    for one, other in zip(*detections, strict=True):
        assert (one.label, one.box) == (other.label, other.box)
        assert one.score == pytest.approx(other.score, abs=1e-5)

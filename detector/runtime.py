"""Which hardware and arithmetic run the networks: decided once, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from detector.common.cpu import has_bfloat16, has_int8
from detector.errors import SettingsError, install_hint

BackendName = Literal["torch", "openvino"]
Precision = Literal["int8", "bfloat16", "float32"]
FloatPrecision = Literal["bfloat16", "float32"]

GPU_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))
"""Devices of the drivers of NVIDIA, of GPUs under WSL, and of AMD."""

IMAGES_PER_GPU_BATCH = 8
"""Number of images whose regions share batches on a GPU. On a processor each image has its own."""


@dataclass(frozen=True)
class Runtime:
    """Where and how the networks run.

    Args:
        device: "cpu", or a GPU such as "cuda:0".
        backend: The library that runs the networks.
        precision: Arithmetic of the classifiers' convolutions.
        float_precision: Arithmetic of everything that is not in 8-bit integers.
        batch_size: Number of crops in a batch.
    """

    device: str
    backend: BackendName
    precision: Precision
    float_precision: FloatPrecision
    batch_size: int

    @classmethod
    def resolve(
        cls,
        *,
        device: str = "auto",
        backend: BackendName | Literal["auto"] = "auto",
        precision: Precision | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] = "auto",
        quantized: bool = False,
    ) -> Runtime:
        """Choose what "auto" means on this machine.

        Args:
            device: "auto" (the first GPU, or else the processor), "cpu", "cuda" or "cuda:N".
            backend: "auto" is OpenVINO on a processor and PyTorch on a GPU.
            precision: "auto" is the fastest one that is native.
            batch_size: "auto" suits the device and the backend.
            quantized: Whether the networks have the activation ranges that int8 needs.

        Raises:
            SettingsError: The device is missing, the backend cannot use it, or the precision is
                not available.
        """
        device = _resolve_device(device)
        on_gpu = device != "cpu"
        backend = _resolve_backend(backend, device)
        float_precision = _native_float_precision(device)

        if precision == "int8":
            _check_int8(backend, quantized=quantized)
        elif precision == "auto":
            int8 = quantized and backend == "openvino" and has_int8()
            precision = "int8" if int8 else float_precision
        if precision != "int8":
            float_precision = precision

        if batch_size == "auto":
            # A GPU needs large batches to be busy. OpenVINO works on a few crops at a time, and
            # its cores run dry at the end of each batch.
            batch_size = 256 if on_gpu else 128 if backend == "openvino" else 32
        return cls(device, backend, precision, float_precision, batch_size)

    @property
    def on_gpu(self) -> bool:
        """Whether the networks run on a GPU."""
        return self.device != "cpu"

    @property
    def images_per_batch(self) -> int:
        """Number of images whose regions share batches in a run."""
        return IMAGES_PER_GPU_BATCH if self.on_gpu else 1

    def describe(self) -> str:
        """Return the part of a run's fingerprint that tells which arithmetic computed it."""
        arithmetic = self.precision
        kind = self.device.partition(":")[0]
        if arithmetic == "int8":
            return f"{self.backend} {kind} {arithmetic} {self.float_precision}"
        return f"{self.backend} {kind} {arithmetic}"


def _resolve_device(name: str) -> str:
    kind, colon, number = name.partition(":")
    known = name == "auto" or kind in ("cpu", "cuda")
    if not known or (colon and (kind == "cpu" or not number.isdecimal())):
        raise SettingsError(f"device {name!r}: allowed are auto, cpu, cuda and cuda:N")
    if kind == "cpu":
        return "cpu"

    gpus = _count_gpus()
    if name == "auto":
        return "cuda:0" if gpus else "cpu"
    index = int(number or 0)
    if index >= gpus:
        raise SettingsError(f"device {name!r}: this machine has {gpus} GPUs that torch can use")
    return f"cuda:{index}"


def _resolve_backend(name: BackendName | Literal["auto"], device: str) -> BackendName:
    if name not in ("auto", "torch", "openvino"):
        raise SettingsError(f"backend {name!r}: allowed are auto, torch and openvino")
    if name == "openvino" and device != "cpu":
        raise SettingsError(f"backend openvino runs on the processor, not on {device}")
    if name == "auto":
        return "openvino" if device == "cpu" else "torch"
    if name == "torch" and find_spec("torch") is None:
        raise SettingsError(f"backend torch needs {install_hint('torch')}")
    return name


def _check_int8(backend: BackendName, *, quantized: bool) -> None:
    if not has_int8():
        raise SettingsError("classifier.precision int8: this processor has no VNNI or AMX")
    if backend != "openvino":
        raise SettingsError("classifier.precision int8: the backend openvino alone has it")
    if not quantized:
        raise SettingsError("classifier.precision int8: the bundle has no ranges for it")


def _native_float_precision(device: str) -> FloatPrecision:
    if device == "cpu":
        return "bfloat16" if has_bfloat16() else "float32"
    import torch

    return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"


def _count_gpus() -> int:
    """Return the number of GPUs that PyTorch can use, without importing it where there are none."""
    if not any(path.exists() for path in GPU_DRIVERS) or find_spec("torch") is None:
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0

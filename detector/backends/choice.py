"""Which engine runs a network."""

from __future__ import annotations

import sys
from typing import Literal

import torch

from detector.backends import Backend
from detector.backends.pytorch import Precision, PyTorchBackend
from detector.errors import SettingsError
from detector.googlenet import GoogLeNet

BackendName = Literal["auto", "torch", "openvino"]
"""OpenVINO is faster on processors and takes seconds to compile a network; "auto" is PyTorch."""


def make_backend(
    name: BackendName,
    network: GoogLeNet,
    crop_size: int,
    device: torch.device,
    precision: Precision,
) -> Backend:
    """A network on an engine.

    Raises:
        SettingsError: there is no such engine, or it cannot use the device.
    """
    if name not in ("auto", "torch", "openvino"):
        raise SettingsError(f"backend {name!r}: allowed are auto, torch and openvino")
    if name != "openvino":
        return PyTorchBackend(network, device, precision)
    if device.type != "cpu":
        raise SettingsError(f"backend openvino runs on the processor, not on {device}")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # reports its use
    from detector.backends.openvino_cpu import OpenVINOBackend

    return OpenVINOBackend(network, crop_size, precision)

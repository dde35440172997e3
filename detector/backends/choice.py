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
"""OpenVINO is faster on processors, and does not run on GPUs; "auto" is what suits the device."""


def choose_backend(name: BackendName, device: torch.device) -> Literal["torch", "openvino"]:
    """The engine of a name on a device.

    Raises:
        SettingsError: there is no such engine, or it cannot use the device.
    """
    if name not in ("auto", "torch", "openvino"):
        raise SettingsError(f"backend {name!r}: allowed are auto, torch and openvino")
    if name == "openvino" and device.type != "cpu":
        raise SettingsError(f"backend openvino runs on the processor, not on {device}")
    if name == "auto":
        return "openvino" if device.type == "cpu" else "torch"
    return name


def make_backend(
    name: BackendName,
    network: GoogLeNet,
    crop_size: int,
    device: torch.device,
    precision: Precision,
    *,
    digest: str | None = None,
) -> Backend:
    """A network on an engine.

    Args:
        digest: of the network's weights, if it is to be kept as the engine has it.

    Raises:
        SettingsError: there is no such engine, or it cannot use the device.
    """
    if choose_backend(name, device) == "torch":
        return PyTorchBackend(network, device, precision)
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # reports its use
    from detector.backends.openvino_cpu import OpenVINOBackend

    return OpenVINOBackend(network, crop_size, precision, digest)

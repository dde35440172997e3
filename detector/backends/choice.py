"""Which engine runs a network."""

from __future__ import annotations

import sys
from typing import Literal

import torch

from detector.backends import Backend
from detector.backends.pytorch import Precision, PyTorchBackend
from detector.bundles.manifest import MultiBoxRecipe
from detector.errors import SettingsError
from detector.models.googlenet import GoogLeNet
from detector.models.multibox_network import MultiBoxNetwork, PyTorchMultiBox
from detector.models.quantization import ActivationRanges, quantized
from proposals.multibox import Network

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


def choose_batch_size(
    setting: int | Literal["auto"], device: torch.device, name: BackendName = "auto"
) -> int:
    """Crops to a batch. "auto" is 256 on a GPU, which few do not fill; 128 for OpenVINO, which
    works on a few at a time and has cores without work at the end of each batch; 32 elsewhere.
    """
    if setting != "auto":
        return setting
    if device.type == "cuda":
        return 256
    return 128 if choose_backend(name, device) == "openvino" else 32


def make_backend(
    name: BackendName,
    network: GoogLeNet,
    crop_size: int,
    device: torch.device,
    precision: Precision,
    *,
    ranges: ActivationRanges | None = None,
    digest: str | None = None,
) -> Backend:
    """A network on an engine.

    Args:
        ranges: of its activations, which 8-bit integers need.
        digest: of the network's weights, if it is to be kept as the engine has it.

    Raises:
        SettingsError: there is no such engine, or it cannot use the device or has not the
            precision.
    """
    engine = choose_backend(name, device)
    if precision == "int8":
        if engine == "torch":
            raise SettingsError("classifier.precision int8: the backend openvino alone has it")
        if ranges is None:
            raise SettingsError("classifier.precision int8: the bundle has no ranges for it")
        network, digest = quantized(network, ranges), digest and f"{digest} in {ranges}"
    if engine == "torch":
        return PyTorchBackend(network, device, precision)
    _without_telemetry()
    from detector.backends.openvino import OpenVINOBackend

    return OpenVINOBackend(network, crop_size, precision, digest)


def make_localiser(
    name: BackendName,
    network: MultiBoxNetwork,
    recipe: MultiBoxRecipe,
    views: int,
    device: torch.device,
    precision: Precision,
    *,
    digest: str | None = None,
) -> Network:
    """MultiBox's network on an engine; see `make_backend`."""
    if choose_backend(name, device) == "torch":
        return PyTorchMultiBox(network, recipe.normalisation, device, precision)
    _without_telemetry()
    from detector.backends.openvino import OpenVINOMultiBox

    return OpenVINOMultiBox(network, recipe, views, precision, digest)


def _without_telemetry() -> None:
    """Keep OpenVINO from reporting its use."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

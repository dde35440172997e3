"""PyTorch, on a processor or a GPU: channels-last, in bfloat16 or float32."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.cores import available_cores
from detector.crops import Pixels, sums
from detector.errors import SettingsError
from detector.googlenet import GoogLeNet

Precision = Literal["bfloat16", "float32"]


class PyTorchBackend:
    """A network in PyTorch.

    Args:
        network: in evaluation mode; it is moved and converted in place.
        device: where it runs.
        precision: of its arithmetic; float32 means no TF32 either.
    """

    part = None

    def __init__(self, network: GoogLeNet, device: torch.device, precision: Precision) -> None:
        self.device = device
        self.dtype = getattr(torch, precision)
        self.network = network.to(device, self.dtype).to(memory_format=torch.channels_last)

    def place(self, pixels: Pixels) -> Pixels | Tensor:
        """The same array on a processor, its table of sums on a GPU."""
        if self.device.type == "cpu":
            return pixels
        return sums(torch.from_numpy(pixels).to(self.device).permute(2, 0, 1))  # [3, H + 1, W + 1]

    @torch.inference_mode()
    def __call__(self, crops: Tensor) -> NDArray[np.float32]:
        """Class probabilities `float32 [N, classes]` of crops `float32 [N, S, S, 3]`."""
        x = crops.to(self.device, self.dtype).permute(0, 3, 1, 2)  # NCHW, stored channels-last
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            logits = self.network(x)
        return np.asarray(logits.float().softmax(dim=1).cpu())


def choose_device(name: str) -> torch.device:
    """The device of a name: "auto" (the first GPU, else the processor), "cpu", "cuda", "cuda:N".

    Raises:
        SettingsError: an unknown name, or a GPU that is not there.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and (kind == "cpu" or not number.isdecimal())):
        raise SettingsError(f"device {name!r}: allowed are auto, cpu, cuda and cuda:N")
    if kind == "cuda" and int(number or 0) >= gpus:
        raise SettingsError(f"device {name!r}: this machine has {gpus} GPUs that torch can use")
    if kind == "cpu":  # a process sees all of the machine's cores, whatever its container's limit
        torch.set_num_threads(min(torch.get_num_threads(), available_cores()))
    return torch.device(name)


def choose_precision(
    setting: Literal["auto", "bfloat16", "float32"], device: torch.device
) -> Precision:
    """What "auto" means on a device: bfloat16 where its arithmetic is native, else float32."""
    if setting != "auto":
        return setting
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    return "bfloat16" if _processor_flags() & {"avx512_bf16", "amx_bf16", "bf16"} else "float32"


def _processor_flags() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:  # macOS
        return set()

"""PyTorch, on a processor or a GPU: channels-last, in bfloat16 or float32."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.common.cpu import available_cores
from detector.errors import SettingsError
from detector.models.googlenet import GoogLeNet
from detector.regions.crops import Pixels, sums

Precision = Literal["int8", "bfloat16", "float32"]
"""Of the arithmetic; "int8" is of classifiers' convolutions, in OpenVINO alone."""


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
        self._recorded: _Recorded | None = None

    def place(self, pixels: Pixels) -> Pixels | Tensor:
        """The same array on a processor, its table of sums on a GPU."""
        if self.device.type == "cpu":
            return pixels
        return sums(torch.from_numpy(pixels).to(self.device).permute(2, 0, 1))  # [3, H + 1, W + 1]

    @torch.inference_mode()
    def __call__(self, crops: Tensor) -> NDArray[np.float32]:
        """Class probabilities `float32 [N, classes]` of crops `float32 [N, S, S, 3]`."""
        if self.device.type == "cpu":
            return np.asarray(self._probabilities(crops))
        with _GPU, torch.cuda.device(self.device):
            if self._recorded is None or self._recorded.shape != crops.shape:
                self._recorded = None  # its memory, before more is taken
                self._recorded = _Recorded(self._probabilities, crops.to(self.device))
            return np.asarray(self._recorded(crops).cpu())

    def _probabilities(self, crops: Tensor) -> Tensor:
        x = crops.to(self.dtype).permute(0, 3, 1, 2)  # NCHW, stored channels-last
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            logits: Tensor = self.network(x)
        return logits.float().softmax(dim=1)


_GPU = threading.Lock()
"""Held from a batch's start to the copy of its results: a process records one function at a time,
and recordings on a GPU share their memory."""


@cache
def _aside(device: int) -> tuple[torch.cuda.Stream, Any]:
    """A GPU's stream for recording, and a handle to the memory of what is recorded."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream, torch.cuda.graph_pool_handle()


class _Recorded:
    """A function of tensors of one shape on the current GPU, whose kernels are recorded and
    replayed: as hundreds of small ones, they would wait for their launches.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> None:
        self.shape = example.shape
        self._input = example.clone()
        aside, pool = _aside(torch.cuda.current_device())
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            function(self._input)  # libraries choose their kernels and take their workspaces
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # Another thread cuts crops meanwhile, which is none of the recording's concern.
        with torch.cuda.graph(self._graph, pool, aside, capture_error_mode="thread_local"):
            self._output = function(self._input)

    def __call__(self, values: Tensor) -> Tensor:
        """The function's result, which the next call, and any other recording's, overwrites."""
        self._input.copy_(values)
        self._graph.replay()
        return self._output


def choose_device(name: str) -> torch.device:
    """The device of a name: "auto" (the first GPU, else the processor), "cpu", "cuda", "cuda:N".

    Raises:
        SettingsError: an unknown name, or a GPU that is not there.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    kind, colon, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not number.isdecimal())):
        raise SettingsError(f"device {name!r}: allowed are auto, cpu, cuda and cuda:N")
    if kind == "cuda" and int(number or 0) >= gpus:
        raise SettingsError(f"device {name!r}: this machine has {gpus} GPUs that torch can use")
    if kind == "cpu":  # a process sees all of the machine's cores, whatever its container's limit
        torch.set_num_threads(min(torch.get_num_threads(), available_cores()))
    return torch.device(name)


def choose_precision(
    setting: Literal["auto", "int8", "bfloat16", "float32"],
    device: torch.device,
    *,
    integers: bool = False,
) -> Precision:
    """What "auto" means on a device: 8-bit integers, if they are possible, or bfloat16, where their
    arithmetic is native, else float32.

    Raises:
        SettingsError: 8-bit integers are asked for, and the processor would saturate their sums.
    """
    if setting == "int8" and not has_integers():
        raise SettingsError("classifier.precision int8: this processor has no VNNI or AMX")
    if setting != "auto":
        return setting
    if integers and device.type == "cpu" and has_integers():
        return "int8"
    return _floats(device)


def arithmetic(precision: Precision, device: torch.device) -> str:
    """A precision, with that of what is not in 8-bit integers: it changes results as well."""
    return f"{precision} {_floats(device)}" if precision == "int8" else precision


def has_integers() -> bool:
    """Has the processor exact sums of products of 8-bit integers?"""
    return bool(_processor_flags() & {"avx512_vnni", "avx_vnni", "amx_int8"})


def _floats(device: torch.device) -> Literal["bfloat16", "float32"]:
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = bool(_processor_flags() & {"avx512_bf16", "amx_bf16", "bf16"})
    return "bfloat16" if native else "float32"


def _processor_flags() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:  # macOS
        return set()

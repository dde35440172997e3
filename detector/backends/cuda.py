"""PyTorch on a GPU, with the network's kernels recorded as a CUDA graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.backends.pytorch import probabilities
from detector.bundles.manifest import Warp
from detector.models.torch_googlenet import GoogLeNet
from detector.regions.crops import Pixels
from detector.regions.gpu_crops import cut, summed_area_table
from detector.runtime import FloatPrecision
from proposals.types import Boxes

_RECORDING = threading.Lock()
"""Held from the start of a batch until its results are copied. A process records one graph at a
time, and the graphs of a GPU share their memory."""


class CudaBackend:
    """A classifier in PyTorch on a GPU, channels-last.

    Args:
        network: A network in evaluation mode; it is moved and converted in place.
        device: The GPU, such as "cuda:0".
        precision: Arithmetic of the network; float32 uses no TF32.
    """

    micro_batch = None

    def __init__(self, network: GoogLeNet, device: str, precision: FloatPrecision) -> None:
        self._device = torch.device(device)
        self._dtype = getattr(torch, precision)
        moved = network.to(self._device, self._dtype)
        self._network = moved.to(memory_format=torch.channels_last)
        self._graph: _Graph | None = None

    def to_device(self, pixels: Pixels) -> Tensor:
        """Return the summed-area table of an image, `float64 [3, H + 1, W + 1]` on the GPU."""
        with _out_of_memory_as_memory_error():
            return summed_area_table(torch.from_numpy(pixels).to(self._device).permute(2, 0, 1))

    def cut(self, image: Tensor, boxes: Boxes, warp: Warp) -> Tensor:
        """Return the crops `float32 [N, S, S, 3]` of boxes `[N, 4]`, on the GPU."""
        with _out_of_memory_as_memory_error():
            return cut(image, boxes, warp)

    def join(self, crops: Sequence[Tensor], size: int) -> Tensor:
        """Join crops of several images to one batch `float32 [size, S, S, 3]`, padded with 0."""
        if len(crops) == 1 and len(crops[0]) == size:
            return crops[0]
        with _out_of_memory_as_memory_error():
            batch = crops[0].new_zeros(size, *crops[0].shape[1:])
            torch.cat(list(crops), out=batch[: sum(map(len, crops))])
            return batch

    @torch.inference_mode()
    def __call__(self, crops: Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
        """Return class probabilities `float32 [N, classes]` of crops `float32 [N, S, S, 3]`."""
        batch = torch.as_tensor(crops)
        with _out_of_memory_as_memory_error(), _RECORDING, torch.cuda.device(self._device):
            if self._graph is None or self._graph.shape != batch.shape:
                self._graph = None  # release its memory before the next one takes more
                self._graph = _Graph(self._probabilities, batch.to(self._device))
            return np.asarray(self._graph(batch).cpu())

    def _probabilities(self, crops: Tensor) -> Tensor:
        return probabilities(self._network, crops, self._dtype)


class _Graph:
    """The recorded kernels of a function for inputs of one shape, on the current GPU.

    The network's hundreds of small kernels would otherwise wait for their launches.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> None:
        self.shape = example.shape
        self._input = example.clone()

        # Run once beforehand: libraries choose their kernels and allocate their workspaces.
        stream, pool = _recording_stream(torch.cuda.current_device())
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function(self._input)
        torch.cuda.current_stream().wait_stream(stream)

        # "thread_local", because another thread cuts crops on the same GPU meanwhile.
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool, stream, capture_error_mode="thread_local"):
            self._output = function(self._input)

    def __call__(self, values: Tensor) -> Tensor:
        """Return the function's result; the next call of any graph on the GPU overwrites it."""
        self._input.copy_(values)
        self._graph.replay()
        return self._output


@cache
def _recording_stream(device: int) -> tuple[torch.cuda.Stream, Any]:
    """Return a GPU's stream for recording, and the memory pool that its graphs share."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream, torch.cuda.graph_pool_handle()


@contextmanager
def _out_of_memory_as_memory_error() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error)) from error

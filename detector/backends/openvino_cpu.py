"""OpenVINO, on a processor: half as fast again as PyTorch, and faster, for the same network."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
from torch import Tensor, nn

from detector import __version__
from detector.backends.pytorch import Precision
from detector.cores import available_cores
from detector.crops import Pixels
from detector.googlenet import GoogLeNet

PART = 8
"""Crops that a stream works on at once."""


class OpenVINOBackend:
    """A network compiled by OpenVINO for this machine's processor.

    Args:
        network: in evaluation mode, in float32, on the processor.
        crop_size: S, in pixels.
        precision: of its arithmetic.
        digest: of its weights, if it is to be kept on disk as OpenVINO has it: converting takes
            seconds.
    """

    part = PART

    def __init__(
        self, network: GoogLeNet, crop_size: int, precision: Precision, digest: str | None = None
    ) -> None:
        if digest is None:
            model = _convert(network, crop_size)
        else:
            model = _kept(network, crop_size, digest)
        type_ = {"bfloat16": ov.Type.bf16, "float32": ov.Type.f32}[precision]
        cores = available_cores()
        compiled = ov.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": type_,
                "NUM_STREAMS": cores,
                "INFERENCE_NUM_THREADS": cores,
                "ENABLE_CPU_PINNING": False,  # processes that make proposals need the cores too
            },
        )
        self._queue = ov.AsyncInferQueue(compiled, cores)

    def place(self, pixels: Pixels) -> Pixels | Tensor:
        """The same array."""
        return pixels

    def __call__(self, crops: Tensor) -> NDArray[np.float32]:
        """Class probabilities `float32 [N, classes]` of crops `float32 [N, S, S, 3]`.

        The batch is shared among the streams in parts of one size, the last one filled up.
        """
        parts = crops.numpy()
        if filling := -len(crops) % PART:
            parts = np.pad(parts, ((0, filling), (0, 0), (0, 0), (0, 0)))
        results: dict[int, NDArray[np.float32]] = {}

        def keep(request: ov.InferRequest, place: int) -> None:
            results[place] = request.get_output_tensor().data.copy()

        self._queue.set_callback(keep)
        for place in range(0, len(parts), PART):
            self._queue.start_async({0: parts[place : place + PART]}, place)
        self._queue.wait_all()
        return np.concatenate([results[place] for place in sorted(results)])[: len(crops)]


class _Probabilities(nn.Module):
    """A network with what stands before and after it: crops as they are stored, and softmax."""

    def __init__(self, network: GoogLeNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> Tensor:
        return cast(Tensor, self.network(crops.permute(0, 3, 1, 2))).softmax(dim=1)


def _kept(network: GoogLeNet, crop_size: int, digest: str) -> ov.Model:
    """The network as OpenVINO has it, from the disk if it was there before."""
    about = digest, crop_size, network.architecture, ov.__version__, torch.__version__, __version__
    name = hashlib.sha256(repr(about).encode()).hexdigest()[:32]
    with suppress(OSError, RuntimeError):  # damaged, or there is no home
        if (file := cache_folder() / f"{name}.xml").exists():
            return ov.Core().read_model(file)
    model = _convert(network, crop_size)
    with suppress(OSError, RuntimeError):  # a disk that is full or not for writing
        _keep(model, cache_folder() / f"{name}.xml")
    return model


def _keep(model: ov.Model, file: Path) -> None:
    """Write a model aside, and then both of its files, the one that is looked for at last."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as aside:
        ov.save_model(model, Path(aside) / file.name, compress_to_fp16=False)
        for part in (file.with_suffix(".bin"), file):
            os.replace(Path(aside) / part.name, part)


def cache_folder() -> Path:
    """The user's folder for networks as OpenVINO has them, which can be made again.

    Raises:
        RuntimeError: the user has no home.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    folder = Path(given) if given else Path.home() / ".cache"
    return folder / "going-deeper-detector" / "openvino"


def _convert(network: GoogLeNet, crop_size: int) -> ov.Model:
    """The network as OpenVINO has it, for the parts of batches."""
    crops = torch.zeros(PART, crop_size, crop_size, 3)
    exported = torch.export.export(_Probabilities(network), (crops,))
    with _quiet():
        decoder = TorchFXPythonDecoder.from_exported_program(exported)
    frontend = FrontEndManager().load_by_framework("pytorch")  # convert_model would phone home
    return frontend.convert(frontend.load(decoder))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the decoder's warnings about operations that newer versions of torch have not."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

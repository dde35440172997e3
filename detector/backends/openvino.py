"""OpenVINO, on a processor: half as fast again as PyTorch, and faster, for the same network."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
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
from detector.backends.pytorch import Precision, choose_precision
from detector.bundles.manifest import MultiBoxRecipe
from detector.common.cpu import available_cores
from detector.models import googlenet
from detector.models import multibox_network as localiser
from detector.models import quantization as quantisation
from detector.models.googlenet import GoogLeNet
from detector.models.multibox_network import MultiBoxNetwork
from detector.regions.crops import Pixels, normalise

CPU = torch.device("cpu")

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
        shape = (PART, crop_size, crop_size, 3)
        about = digest and (digest, shape, network.architecture)
        self._compiled = _Compiled(_Probabilities(network), shape, precision, about)

    def place(self, pixels: Pixels) -> Pixels | Tensor:
        """The same array."""
        return pixels

    def __call__(self, crops: Tensor) -> NDArray[np.float32]:
        """Class probabilities `float32 [N, classes]` of crops `float32 [N, S, S, 3]`.

        The batch is shared among the streams in parts of one size, the last one filled up.
        """
        (found,) = self._compiled(crops.numpy())
        return found


class OpenVINOMultiBox:
    """MultiBox's network likewise, as `MultiBox` calls it.

    Args:
        network: in evaluation mode, in float32, on the processor.
        recipe: of what shape it is.
        views: pictures of an image, which are worked on at once.
        precision: of its arithmetic, but for locations, which are float32.
        digest: of its weights, if it is to be kept on disk as OpenVINO has it.
    """

    def __init__(
        self,
        network: MultiBoxNetwork,
        recipe: MultiBoxRecipe,
        views: int,
        precision: Precision,
        digest: str | None = None,
    ) -> None:
        self._network, self._normalisation = network, recipe.normalisation
        shape = (views, recipe.size, recipe.size, 3)
        about = digest and (digest, shape, recipe)
        self._compiled = _Compiled(_Moves(network), shape, precision, about, streams=1)

    def __call__(
        self, pictures: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes `[N, K, 4]` and logits `[N, K]`, both float32, of pictures `uint8 [N, S, S, 3]`."""
        pixels = np.stack([normalise(picture, self._normalisation) for picture in pictures])
        moved, logits = self._compiled(pixels)
        return self._network.place(torch.from_numpy(moved)).numpy(), logits


class _Compiled:
    """A module for batches of one shape, on all cores this process may use.

    Args:
        about: what the module is made of, if it is to be kept on disk as OpenVINO has it.
        streams: batches that are worked on at once; one for each core, if not given.
    """

    def __init__(
        self,
        module: nn.Module,
        shape: tuple[int, ...],
        precision: Precision,
        about: object,
        streams: int | None = None,
    ) -> None:
        model = _kept(module, shape, about) if about else _convert(module, shape)
        if precision == "int8":  # which the module itself says; this is the rest's
            precision = choose_precision("auto", CPU)
        type_ = {"bfloat16": ov.Type.bf16, "float32": ov.Type.f32}[precision]
        cores = available_cores()
        compiled = ov.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": type_,
                "NUM_STREAMS": streams or cores,
                "INFERENCE_NUM_THREADS": cores,
                "ENABLE_CPU_PINNING": False,  # processes that make proposals need the cores too
            },
        )
        self._size = shape[0]
        requests = 2 * (streams or cores)  # one is at hand when another ends
        self._queue = ov.AsyncInferQueue(compiled, requests)
        self._lock = threading.Lock()

    def __call__(self, inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The module's outputs for any number of inputs, the last batch of which is filled up.

        Threads take turns: the queue has one callback.
        """
        count = len(inputs)
        if filling := -count % self._size:
            inputs = np.pad(inputs, ((0, filling), *[(0, 0)] * (inputs.ndim - 1)))
        results: dict[int, list[NDArray[np.float32]]] = {}

        def keep(request: ov.InferRequest, place: int) -> None:
            results[place] = [tensor.data.copy() for tensor in request.output_tensors]

        with self._lock:
            self._queue.set_callback(keep)
            for place in range(0, len(inputs), self._size):
                self._queue.start_async({0: inputs[place : place + self._size]}, place)
            self._queue.wait_all()
        outputs = zip(*(results[place] for place in sorted(results)), strict=True)
        return [np.concatenate(output)[:count] for output in outputs]


class _Probabilities(nn.Module):
    """A classifier with what stands before and after it: crops as they are stored, and softmax."""

    def __init__(self, network: GoogLeNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> Tensor:
        return cast(Tensor, self.network(crops.permute(0, 3, 1, 2))).softmax(dim=1)


class _Moves(nn.Module):
    """What a localiser adds to its priors, and its logits, of pictures as they are stored."""

    def __init__(self, network: MultiBoxNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.look(pictures.permute(0, 3, 1, 2))


def _kept(module: nn.Module, shape: tuple[int, ...], about: object) -> ov.Model:
    """The module as OpenVINO has it, from the disk if it was there before."""
    files = googlenet.__file__, localiser.__file__, quantisation.__file__
    sources = [Path(file).read_bytes() for file in files]
    everything = about, ov.__version__, torch.__version__, __version__, sources
    name = hashlib.sha256(repr(everything).encode()).hexdigest()[:32]
    with suppress(OSError, RuntimeError):  # never kept, damaged, or there is no home
        file = cache_folder() / f"{name}.xml"
        if file.with_suffix(".sha256").read_bytes() == _digest(file):
            return ov.Core().read_model(file)
    model = _convert(module, shape)
    with suppress(OSError, RuntimeError):  # a disk that is full or not for writing
        _keep(model, cache_folder() / f"{name}.xml")
    return model


def _keep(model: ov.Model, file: Path) -> None:
    """Write a model's two files, and the digest that says that they are whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        aside = Path(folder) / file.name
        ov.save_model(model, aside, compress_to_fp16=False)
        aside.with_suffix(".sha256").write_bytes(_digest(aside))
        for suffix in (".bin", ".xml", ".sha256"):
            os.replace(aside.with_suffix(suffix), file.with_suffix(suffix))


def _digest(file: Path) -> bytes:
    """Of a model's two files."""
    parts = [file.read_bytes(), file.with_suffix(".bin").read_bytes()]
    return hashlib.sha256(b"".join(parts)).digest()


def cache_folder() -> Path:
    """The user's folder for networks as OpenVINO has them, which can be made again.

    Raises:
        RuntimeError: the user has no home.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    folder = Path(given) if given else Path.home() / ".cache"
    return folder / "going-deeper-detector" / "openvino"


def _convert(module: nn.Module, shape: tuple[int, ...]) -> ov.Model:
    """The module as OpenVINO has it, for inputs of one shape."""
    exported = torch.export.export(module, (torch.zeros(shape),))
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

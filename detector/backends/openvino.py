"""OpenVINO on a processor, where it is at least half as fast again as PyTorch."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
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
from detector.backends import ProcessorCrops
from detector.bundles.manifest import MultiBoxRecipe
from detector.common.cpu import available_cores
from detector.models.googlenet import GoogLeNet
from detector.models.multibox_network import MultiBoxNetwork
from detector.regions.crops import normalise
from detector.runtime import FloatPrecision

MICRO_BATCH = 8
"""Number of crops that a stream works on at once."""

GRAPH_VERSION = 1
"""Part of the names of cached networks: raise it when a change makes other graphs."""


class OpenVINOBackend(ProcessorCrops):
    """A classifier compiled by OpenVINO for this machine's processor.

    Args:
        network: A network in evaluation mode, in float32, on the processor.
        crop_size: S, in pixels.
        precision: Arithmetic of what is not in 8-bit integers; the network says itself what is.
        cache_key: Identifies the weights, if the converted network may be cached on disk.
    """

    micro_batch = MICRO_BATCH

    def __init__(
        self,
        network: GoogLeNet,
        crop_size: int,
        precision: FloatPrecision,
        cache_key: str | None = None,
    ) -> None:
        shape = (MICRO_BATCH, crop_size, crop_size, 3)
        key = cache_key and (cache_key, shape, network.architecture)
        model = _converted(_Probabilities(network), shape, key)
        self._compiled = _CompiledNetwork(model, MICRO_BATCH, precision, available_cores())

    def __call__(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return class probabilities `float32 [N, classes]` of crops `float32 [N, S, S, 3]`."""
        (found,) = self._compiled(np.asarray(crops))
        return found


class OpenVINOMultiBox:
    """MultiBox's network compiled by OpenVINO, as `proposals.multibox.MultiBox` calls it.

    Args:
        network: A network in evaluation mode, in float32, on the processor.
        recipe: The network's description.
        views: Number of views of an image, which the network sees at once.
        precision: Arithmetic of the network, except for locations, which are float32.
        cache_key: Identifies the weights, if the converted network may be cached on disk.
    """

    def __init__(
        self,
        network: MultiBoxNetwork,
        recipe: MultiBoxRecipe,
        views: int,
        precision: FloatPrecision,
        cache_key: str | None = None,
    ) -> None:
        self._network = network
        self._normalisation = recipe.normalisation
        shape = (views, recipe.size, recipe.size, 3)
        key = cache_key and (cache_key, shape, recipe)
        model = _converted(_Offsets(network), shape, key)
        self._compiled = _CompiledNetwork(model, views, precision, streams=1)

    def __call__(
        self, images: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Look at images `uint8 [N, S, S, 3]`.

        Returns:
            Boxes `float32 [N, K, 4]` as shares of the image's sides, and the logits of their
            confidences, `float32 [N, K]`.
        """
        pixels = np.stack([normalise(image, self._normalisation) for image in images])
        offsets, logits = self._compiled(pixels)
        return self._network.decode_boxes(torch.from_numpy(offsets)).numpy(), logits


class _CompiledNetwork:
    """A compiled graph for batches of one shape, on all cores that this process may use.

    Args:
        model: The graph.
        batch_size: Number of inputs in a batch.
        precision: Arithmetic of what is not in 8-bit integers.
        streams: Number of batches that are worked on at once.
    """

    def __init__(
        self, model: ov.Model, batch_size: int, precision: FloatPrecision, streams: int
    ) -> None:
        compiled = ov.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": {
                    "bfloat16": ov.Type.bf16,
                    "float32": ov.Type.f32,
                }[precision],
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": available_cores(),
                "ENABLE_CPU_PINNING": False,  # worker processes need the same cores
            },
        )
        self._batch_size = batch_size
        # Two requests a stream: one is ready when another ends.
        self._queue = ov.AsyncInferQueue(compiled, 2 * streams)
        self._lock = threading.Lock()

    def __call__(self, inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return the graph's outputs for any number of inputs; the last batch is padded.

        Threads take turns, because the queue has one callback.
        """
        count = len(inputs)
        if padding := -count % self._batch_size:
            inputs = np.pad(inputs, ((0, padding), *[(0, 0)] * (inputs.ndim - 1)))
        outputs: dict[int, list[NDArray[np.float32]]] = {}

        def collect(request: ov.InferRequest, start: int) -> None:
            outputs[start] = [tensor.data.copy() for tensor in request.output_tensors]

        with self._lock:
            self._queue.set_callback(collect)
            for start in range(0, len(inputs), self._batch_size):
                self._queue.start_async({0: inputs[start : start + self._batch_size]}, start)
            self._queue.wait_all()
        columns = zip(*(outputs[start] for start in sorted(outputs)), strict=True)
        return [np.concatenate(column)[:count] for column in columns]


class _Probabilities(nn.Module):
    """A classifier from crops as they are stored to probabilities."""

    def __init__(self, network: GoogLeNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> Tensor:
        return cast(Tensor, self.network(crops.permute(0, 3, 1, 2))).softmax(dim=1)


class _Offsets(nn.Module):
    """MultiBox's network from images as they are stored to offsets from priors, and logits."""

    def __init__(self, network: MultiBoxNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.predict_offsets(images.permute(0, 3, 1, 2))


def _converted(module: nn.Module, shape: tuple[int, ...], key: object) -> ov.Model:
    """Return the module as OpenVINO's graph, from the disk if it has been converted before."""
    if not key:
        return _convert(module, shape)
    versions = (ov.__version__, version("torch"), __version__, GRAPH_VERSION)
    name = hashlib.sha256(repr((key, versions)).encode()).hexdigest()[:32]
    with suppress(OSError, RuntimeError):  # not cached, damaged, or there is no home
        file = cache_folder() / f"{name}.xml"
        if file.with_suffix(".sha256").read_bytes() == _digest(file):
            return ov.Core().read_model(file)

    model = _convert(module, shape)
    with suppress(OSError, RuntimeError):  # the disk is full or read-only
        _save(model, cache_folder() / f"{name}.xml")
    return model


def _save(model: ov.Model, file: Path) -> None:
    """Write a graph's two files, and the digest that tells that they are whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        temporary = Path(folder) / file.name
        ov.save_model(model, temporary, compress_to_fp16=False)
        temporary.with_suffix(".sha256").write_bytes(_digest(temporary))
        for suffix in (".bin", ".xml", ".sha256"):
            os.replace(temporary.with_suffix(suffix), file.with_suffix(suffix))


def _digest(file: Path) -> bytes:
    """Return the digest of a graph's two files."""
    parts = [file.read_bytes(), file.with_suffix(".bin").read_bytes()]
    return hashlib.sha256(b"".join(parts)).digest()


def cache_folder() -> Path:
    """Return the user's folder for converted networks, which can be deleted at any time.

    Raises:
        RuntimeError: The user has no home.
    """
    cache_home = os.environ.get("XDG_CACHE_HOME")
    folder = Path(cache_home) if cache_home else Path.home() / ".cache"
    return folder / "going-deeper-detector" / "openvino"


def _convert(module: nn.Module, shape: tuple[int, ...]) -> ov.Model:
    """Convert a module to OpenVINO's graph for inputs of one shape."""
    exported = torch.export.export(module, (torch.zeros(shape),))
    with _without_root_warnings():
        decoder = TorchFXPythonDecoder.from_exported_program(exported)
    frontend = FrontEndManager().load_by_framework("pytorch")  # convert_model would phone home
    return frontend.convert(frontend.load(decoder))


@contextmanager
def _without_root_warnings() -> Iterator[None]:
    """Hide the decoder's warnings about operations that newer versions of torch lack."""

    def refuse(record: logging.LogRecord) -> bool:
        return record.module != "fx_decoder"

    logging.root.addFilter(refuse)
    try:
        yield
    finally:
        logging.root.removeFilter(refuse)

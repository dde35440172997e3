"""The libraries that run the networks: OpenVINO and PyTorch behind the same interface.

To add a backend, write a class like `Backend` and one like `proposals.multibox.Network`, and choose
them in `make_classifier` and `make_multibox`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.bundles.manifest import Architecture, MultiBoxRecipe, Warp
from detector.models.quantization import ActivationRanges
from detector.models.weights import Weights
from detector.regions.crops import Pixels, cut
from detector.runtime import Runtime
from proposals.multibox import Network
from proposals.types import Boxes

DeviceImage = Any
"""A normalised image in the form from which a backend cuts crops."""

Crops = Any
"""Crops `float32 [N, S, S, 3]`: a numpy array, or a tensor on a GPU."""


class Backend(Protocol):
    """One classifier on one device.

    Batches have a fixed size, so that a crop's probabilities do not depend on what else is in its
    batch. A lack of memory is a `MemoryError`, on a GPU as well.
    """

    @property
    def micro_batch(self) -> int | None:
        """Number of crops that the network sees at once, or None for the whole batch."""
        ...

    def to_device(self, pixels: Pixels) -> DeviceImage:
        """Return a normalised image `float32 [H, W, 3]` in the form that `cut` wants."""
        ...

    def cut(self, image: DeviceImage, boxes: Boxes, warp: Warp) -> Crops:
        """Return the crops `float32 [N, S, S, 3]` of boxes `[N, 4]`."""
        ...

    def join(self, crops: Sequence[Crops], size: int) -> Crops:
        """Join crops of several images to one batch `float32 [size, S, S, 3]`, padded with 0."""
        ...

    def __call__(self, crops: Crops) -> NDArray[np.float32]:
        """Return class probabilities `float32 [N, classes]` of crops `float32 [N, S, S, 3]`."""
        ...


class ProcessorCrops:
    """How backends that run on the processor cut crops: by OpenCV, into numpy arrays."""

    def to_device(self, pixels: Pixels) -> Pixels:
        """Return the same array."""
        return pixels

    def cut(self, image: Pixels, boxes: Boxes, warp: Warp) -> NDArray[np.float32]:
        """Return the crops `float32 [N, S, S, 3]` of boxes `[N, 4]`."""
        return cut(image, boxes, warp)

    def join(self, crops: Sequence[NDArray[np.float32]], size: int) -> NDArray[np.float32]:
        """Join crops of several images to one batch `float32 [size, S, S, 3]`, padded with 0."""
        if len(crops) == 1 and len(crops[0]) == size:
            return crops[0]
        batch = np.zeros((size, *crops[0].shape[1:]), np.float32)
        np.concatenate(crops, out=batch[: sum(map(len, crops))])
        return batch


def make_classifier(
    weights: Weights,
    architecture: Architecture,
    crop_size: int,
    runtime: Runtime,
    *,
    activation_ranges: ActivationRanges | None = None,
) -> Backend:
    """Put a classifier on the runtime's backend.

    Args:
        weights: Tensors by their names.
        architecture: Variant of the network.
        crop_size: S, in pixels.
        runtime: Where and how it runs.
        activation_ranges: Activation ranges of the convolutions, which int8 needs.
    """
    if runtime.backend == "openvino":
        from detector.backends.openvino import OpenVINOBackend

        ranges = activation_ranges if runtime.precision == "int8" else None
        return OpenVINOBackend(weights, architecture, runtime.float_precision, ranges)

    from detector.models.torch_googlenet import make_googlenet

    network = make_googlenet(weights, architecture, crop_size)
    if runtime.on_gpu:
        from detector.backends.cuda import CudaBackend

        return CudaBackend(network, runtime.device, runtime.float_precision)
    from detector.backends.pytorch import PyTorchBackend

    return PyTorchBackend(network, runtime.float_precision)


def make_multibox(
    weights: Weights, recipe: MultiBoxRecipe, views: int, runtime: Runtime
) -> Network:
    """Put MultiBox's network on the runtime's backend.

    Args:
        weights: Tensors by their names.
        recipe: Architecture, number of priors, and kind of head.
        views: Number of views of an image, which the network sees at once.
        runtime: Where and how it runs.
    """
    if runtime.backend == "openvino":
        from detector.backends.openvino import OpenVINOMultiBox

        return OpenVINOMultiBox(weights, recipe, views, runtime.float_precision)
    from detector.backends.pytorch import PyTorchMultiBox
    from detector.models.torch_multibox import make_multibox_network

    network = make_multibox_network(weights, recipe)
    return PyTorchMultiBox(network, recipe.normalisation, runtime.device, runtime.float_precision)


def release_memory(runtime: Runtime) -> None:
    """Give back the GPU memory that PyTorch holds for later."""
    if runtime.on_gpu:
        import torch

        torch.cuda.empty_cache()

"""PyTorch on a processor, and MultiBox's network in PyTorch on any device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.backends import ProcessorCrops
from detector.bundles.manifest import Normalisation
from detector.common.cpu import available_cores
from detector.models.torch_googlenet import GoogLeNet
from detector.models.torch_multibox import MultiBoxNetwork
from detector.regions.crops import normalise
from detector.runtime import FloatPrecision


class PyTorchBackend(ProcessorCrops):
    """A classifier in PyTorch on the processor, channels-last.

    Args:
        network: A network in evaluation mode; it is converted in place.
        precision: Arithmetic of the network.
    """

    micro_batch = None

    def __init__(self, network: GoogLeNet, precision: FloatPrecision) -> None:
        limit_threads()
        self._dtype = getattr(torch, precision)
        self._network = network.to("cpu", self._dtype).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return class probabilities `float32 [N, classes]` of crops `float32 [N, S, S, 3]`."""
        return np.asarray(probabilities(self._network, torch.as_tensor(crops), self._dtype))


class PyTorchMultiBox:
    """MultiBox's network in PyTorch, in the form that `proposals.multibox.MultiBox` calls.

    Args:
        network: A network in evaluation mode; it is moved in place.
        normalisation: Normalisation of the pixels.
        device: "cpu" or a GPU such as "cuda:0".
        precision: Arithmetic of the network, except for locations, which are float32.
    """

    def __init__(
        self,
        network: MultiBoxNetwork,
        normalisation: Normalisation,
        device: str,
        precision: FloatPrecision,
    ) -> None:
        if device == "cpu":
            limit_threads()
        self._device = torch.device(device)
        self._network = network.to(self._device).to(memory_format=torch.channels_last)
        self._normalisation = normalisation
        self._half = precision == "bfloat16"

    @torch.inference_mode()
    def __call__(
        self, images: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Look at images `uint8 [N, S, S, 3]`.

        Returns:
            Boxes `float32 [N, K, 4]` as shares of the image's sides, and the logits of their
            confidences, `float32 [N, K]`.
        """
        pixels = np.stack([normalise(image, self._normalisation) for image in images])
        x = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2)  # stored channels-last
        with (
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
            torch.autocast(self._device.type, torch.bfloat16, enabled=self._half),
        ):
            boxes, logits = self._network(x)
        return np.asarray(boxes.cpu()), np.asarray(logits.cpu())


def probabilities(network: GoogLeNet, crops: Tensor, dtype: torch.dtype) -> Tensor:
    """Return class probabilities `float32 [N, classes]` of crops `float32 [N, S, S, 3]`."""
    x = crops.to(dtype).permute(0, 3, 1, 2)  # [N, 3, S, S], stored channels-last
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        logits: Tensor = network(x)
    return logits.float().softmax(dim=1)


def limit_threads() -> None:
    """Keep PyTorch within the container's limit; by default it counts the machine's cores."""
    torch.set_num_threads(min(torch.get_num_threads(), available_cores()))

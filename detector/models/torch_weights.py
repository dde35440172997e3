"""Weights as numpy arrays into PyTorch modules, and back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TypeVar

import torch

from detector.models.torch_googlenet import Trunk
from detector.models.weights import Weights, check_weights, half_precision

Network = TypeVar("Network", bound=Trunk)


def load_weights(
    network: Trunk, weights: Weights, file: Path, *, new: tuple[str, ...] = ()
) -> None:
    """Load weights into a network; all names and shapes must be those of the network.

    Args:
        network: The network; it is changed in place.
        weights: Tensors by their names.
        file: File of the weights, for the error message.
        new: Layers that keep their present weights. The file may lack them or have others.

    Raises:
        BundleError: A tensor is missing, unknown, or of another shape. The message names the first.
    """
    weights = {n: tensor for n, tensor in weights.items() if n.partition(".")[0] not in new}
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if name.partition(".")[0] not in new
    }
    check_weights(weights, shapes, file)
    tensors = {name: torch.tensor(tensor) for name, tensor in weights.items()}
    network.load_state_dict(tensors, strict=not new)


def weights_of(network: Trunk) -> Weights:
    """Return a copy of a network's weights."""
    return {name: tensor.cpu().numpy().copy() for name, tensor in network.state_dict().items()}


def as_shipped(network: Network) -> Network:
    """Return a copy in evaluation mode, with weights rounded as a bundle stores them."""
    shipped = copy.deepcopy(network).eval()
    rounded = half_precision(weights_of(network))
    shipped.load_state_dict({name: torch.tensor(tensor) for name, tensor in rounded.items()})
    return shipped

"""Files of weights, and the translation of other frameworks' names of GoogLeNet's layers."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from detector.errors import BundleError
from detector.models.googlenet import Trunk

Network = TypeVar("Network", bound=Trunk)


def read_weights(path: Path, data: bytes | None = None) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by our names, with floating-point ones in float32.

    Args:
        path: The file. Its tensors may have Caffe's or torchvision's names.
        data: Content of the file, if it has been read already.

    Raises:
        BundleError: The file is missing or is not in the safetensors format.
    """
    try:
        tensors = load(path.read_bytes() if data is None else data)
    except OSError as error:
        raise BundleError(path, f"cannot be read: {error.strerror}") from error
    except SafetensorError as error:
        raise BundleError(path, f"not a safetensors file: {error}") from error

    floats = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    return translate_names(floats)


def translate_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with Caffe's or torchvision's names replaced by ours."""
    if "fc.weight" in weights:
        return {_from_torchvision(name): tensor for name, tensor in weights.items()}
    return {name.replace("loss3.classifier.", "classifier."): t for name, t in weights.items()}


def load_weights(
    network: Trunk, weights: dict[str, Tensor], file: Path, *, new: tuple[str, ...] = ()
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
    weights = _without_layers(weights, new)
    expected = _without_layers(network.state_dict(), new)

    for name, tensor in expected.items():
        if name not in weights:
            raise BundleError(file, f"lacks {name}, which this architecture has")
        if weights[name].shape != tensor.shape:
            shapes = f"{list(weights[name].shape)}, not {list(tensor.shape)}"
            raise BundleError(file, f"{name} has shape {shapes}")

    unknown = sorted(weights.keys() - expected.keys())
    if unknown:
        raise BundleError(file, f"has {unknown[0]}, which this architecture does not have")

    network.load_state_dict(weights, strict=not new)


def _without_layers(weights: dict[str, Tensor], layers: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the tensors whose names do not begin with one of the layers."""
    return {
        name: tensor for name, tensor in weights.items() if name.partition(".")[0] not in layers
    }


_TORCHVISION_LAYERS = {
    "conv1": "conv1.7x7_s2",
    "conv2": "conv2.3x3_reduce",
    "conv3": "conv2.3x3",
    "branch1": "1x1",
    "branch2.0": "3x3_reduce",
    "branch2.1": "3x3",
    "branch3.0": "5x5_reduce",
    "branch3.1": "5x5",
    "branch4.1": "pool_proj",
    "conv": "conv",
}
"""Our names of torchvision's convolutions."""


def _from_torchvision(name: str) -> str:
    """Return our name of one of torchvision's tensors.

    For example, `inception3a.branch2.0.bn.weight` is `inception_3a.3x3_reduce.norm.weight`.
    """
    name = re.sub(r"^fc\.", "classifier.", name)
    name = re.sub(r"^aux(\d)\.fc1\.", r"loss\1.fc.", name)
    name = re.sub(r"^aux(\d)\.fc2\.", r"loss\1.classifier.", name)
    convolution = re.fullmatch(r"(?:(inception|aux)(\d\w?)\.)?([\w.]+)\.(conv|bn)\.(\w+)", name)
    if convolution is None or convolution[3] not in _TORCHVISION_LAYERS:
        return name

    kind, number, layer, part, tensor = convolution.groups()
    block = {"inception": f"inception_{number}.", "aux": f"loss{number}.", None: ""}[kind]
    norm = "norm." if part == "bn" else ""
    return f"{block}{_TORCHVISION_LAYERS[layer]}.{norm}{tensor}"


def half_precision(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights as a bundle stores them: in float16, except BatchNorm's statistics and priors.

    Those keep their type, because the variance of the first layer, which sees pixels, is beyond
    the range of float16, and because locations are offsets from the priors.
    """
    return {
        name: tensor.contiguous()
        if ".norm.running_" in name or name == "priors" or not tensor.is_floating_point()
        else tensor.to(torch.float16).contiguous()
        for name, tensor in weights.items()
    }


def as_shipped(network: Network) -> Network:
    """Return a copy in evaluation mode, with weights rounded as a bundle stores them."""
    shipped = copy.deepcopy(network).eval()
    shipped.load_state_dict(half_precision(network.state_dict()))
    return shipped

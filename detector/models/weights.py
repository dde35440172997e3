"""Files of weights, and the names that other frameworks give to GoogLeNet's layers."""

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
    """The tensors of a safetensors file by our names, in float32.

    Caffe's and torchvision's names are translated.

    Args:
        path: the file.
        data: its bytes, if they were read already.

    Raises:
        BundleError: the file is missing or not in the safetensors format.
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
    return our_names(floats)


def our_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under Caffe's or torchvision's names, under ours."""
    if "fc.weight" in weights:
        return {_from_torchvision(name): tensor for name, tensor in weights.items()}
    return {name.replace("loss3.classifier.", "classifier."): t for name, t in weights.items()}


def load_weights(
    network: Trunk, weights: dict[str, Tensor], file: Path, *, new: tuple[str, ...] = ()
) -> None:
    """Put weights into a network; all names and shapes must be the network's.

    Args:
        new: layers that keep what they have; the file may lack them or have others.

    Raises:
        BundleError: naming `file` and the first tensor that is missing, unknown or misshapen.
    """
    weights = {n: tensor for n, tensor in weights.items() if n.partition(".")[0] not in new}
    expected = {n: t for n, t in network.state_dict().items() if n.partition(".")[0] not in new}
    for name, tensor in expected.items():
        if name not in weights:
            raise BundleError(file, f"lacks {name}, which this architecture has")
        if weights[name].shape != tensor.shape:
            shapes = f"{list(weights[name].shape)}, not {list(tensor.shape)}"
            raise BundleError(file, f"{name} has shape {shapes}")
    unknown = sorted(weights.keys() - expected.keys())
    if unknown:
        raise BundleError(file, f"has {unknown[0]}, which this architecture has not")
    network.load_state_dict(weights, strict=not new)


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


def _from_torchvision(name: str) -> str:
    """`inception3a.branch2.0.bn.weight` as `inception_3a.3x3_reduce.norm.weight`, and so on."""
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
    """Weights as a bundle stores them: in float16, but for BatchNorm's statistics and priors.

    Those keep their type: the variance of a layer that sees pixels is beyond float16's range, and
    locations count from the priors.
    """
    return {
        name: tensor.contiguous()
        if ".norm.running_" in name or name == "priors" or not tensor.is_floating_point()
        else tensor.to(torch.float16).contiguous()
        for name, tensor in weights.items()
    }


def as_shipped(network: Network) -> Network:
    """A copy of a network, ready to use, with its weights rounded as a bundle stores them."""
    shipped = copy.deepcopy(network).eval()
    shipped.load_state_dict(half_precision(network.state_dict()))
    return shipped

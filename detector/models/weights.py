"""Files of weights as numpy arrays, and the translation of other frameworks' names of layers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from detector.common.config import shorten
from detector.common.text_files import read_bytes
from detector.errors import BundleError, FormatError
from detector.models.googlenet import Shapes

Weights = dict[str, NDArray[Any]]
"""Tensors by their names: float32, and integers for BatchNorm's counts."""


LARGEST_HEADER = 1 << 20
"""Largest size of the header of a file of weights in bytes. That of a GoogLeNet has 10,000."""

LARGEST_FILE = 1 << 30
"""Largest size of a file of weights in bytes."""


FARTHEST_PRIOR = 10
"""Largest coordinate of a prior, as a share of the image's sides."""


def read_weights(path: Path) -> Weights:
    """Return the tensors of a safetensors file by our names, with floating-point ones in float32.

    Args:
        path: The file. Its tensors may have Caffe's or torchvision's names.

    Raises:
        BundleError: The file is missing, too large, or not in the safetensors format.
    """
    try:
        data = read_bytes(path, limit=LARGEST_FILE)
    except FormatError as error:
        raise BundleError(path, error.message) from error
    return decode_weights(path, data)


def decode_weights(path: Path, data: bytes) -> Weights:
    """Decode the content of a file of weights; see `read_weights`."""
    # The library would make objects of thousands of bytes for each tensor that a header names.
    if int.from_bytes(data[:8], "little") > LARGEST_HEADER:
        raise BundleError(
            path, f"not a safetensors file: its header has over {LARGEST_HEADER:,} bytes"
        )
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
        # KeyError and TypeError: an unknown type. The last two: a shape that cannot be.
        raise BundleError(path, f"not a safetensors file: {shorten(str(error))}") from error

    with np.errstate(over="ignore", invalid="ignore"):  # such values are named later
        weights = translate_names(
            {
                name: tensor.astype(np.float32) if tensor.dtype.kind == "f" else tensor
                for name, tensor in tensors.items()
            }
        )
    if len(weights) < len(tensors):
        raise BundleError(path, "has a tensor twice: once by our name, once by that of Caffe")
    return weights


def translate_names(weights: Weights) -> Weights:
    """Return weights with Caffe's or torchvision's names replaced by ours."""
    if "fc.weight" in weights:
        return {_from_torchvision(name): tensor for name, tensor in weights.items()}
    return {name.replace("loss3.classifier.", "classifier."): t for name, t in weights.items()}


def check_weights(weights: Mapping[str, Any], shapes: Shapes, file: Path) -> None:
    """Check that weights are all those of a network, no others, and numbers that it can use.

    Args:
        weights: Tensors by their names.
        shapes: Expected shapes by the tensors' names.
        file: File of the weights, for the error message.

    Raises:
        BundleError: A tensor is missing, unknown, of another shape or type, or holds infinity or no
            number. The message names the first.
    """
    for name, shape in shapes.items():
        if name not in weights:
            raise BundleError(file, f"lacks {name}, which this architecture has")
        if tuple(weights[name].shape) != tuple(shape):
            shapes_in_words = f"{shorten(str(list(weights[name].shape)))}, not {list(shape)}"
            raise BundleError(file, f"{name} has shape {shapes_in_words}")

    unknown = sorted(weights.keys() - shapes.keys())
    if unknown:
        raise BundleError(file, f"has {shorten(unknown[0])}, which this architecture does not have")
    _check_values(weights, file)


def _check_values(weights: Mapping[str, Any], file: Path) -> None:
    for name, tensor in weights.items():
        kinds = "iu" if name.endswith(".num_batches_tracked") else "f"
        values = np.asarray(tensor)
        if values.dtype.kind not in kinds:
            raise BundleError(file, f"{name} has values of the type {values.dtype}")
        if kinds == "f" and not np.isfinite(values).all():
            raise BundleError(file, f"{name} has values that are infinite or not numbers")
        if name.endswith(".running_var") and (values < 0).any():
            raise BundleError(file, f"{name} has variances below 0")
        if name == "priors" and not (values[:, :2] < values[:, 2:]).all():
            raise BundleError(file, f"{name} has a box without area")
        if name == "priors" and np.abs(values).max() > FARTHEST_PRIOR:
            raise BundleError(file, f"{name} has a box far outside of the image")


def half_precision(weights: Weights) -> Weights:
    """Return weights as a bundle stores them: in float16, except BatchNorm's statistics and priors.

    Those keep their type, because the variance of the first layer, which sees pixels, is beyond
    the range of float16, and because locations are offsets from the priors. Values beyond float16
    become infinite.
    """
    with np.errstate(over="ignore"):
        return _half_precision(weights)


def _half_precision(weights: Weights) -> Weights:
    return {
        name: np.asarray(tensor, order="C")
        if ".norm.running_" in name or name == "priors" or tensor.dtype.kind != "f"
        else np.asarray(tensor, np.float16, order="C")
        for name, tensor in weights.items()
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

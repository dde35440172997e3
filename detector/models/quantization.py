"""A classifier in 8-bit integers: measure activation ranges, and round the network to them.

The input of each convolution has one scale, which spans its activation range: the lowest and the
highest value that training crops gave. Weights have a scale for each output channel (Jacob et al.,
arXiv 1712.05877). Rounding is written as fake quantization, which is floating-point arithmetic;
OpenVINO turns it into integer arithmetic.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from detector.models.googlenet import Convolution, GoogLeNet

ActivationRanges = Mapping[str, tuple[float, float]]
"""The lowest and the highest input value of each convolution, by the convolution's name."""

LARGEST_WEIGHT = 127
"""Largest integer code of an int8 weight; codes are symmetric around 0."""

LARGEST_ACTIVATION = 255
"""Largest integer code of a uint8 activation; codes start at 0."""


@torch.inference_mode()
def measure_activation_ranges(
    network: GoogLeNet, batches: Iterable[Tensor]
) -> dict[str, tuple[float, float]]:
    """Return the activation ranges of a network.

    Args:
        network: A network in evaluation mode.
        batches: Normalised crops `float32 [N, S, S, 3]`.
    """
    ranges: dict[str, tuple[float, float]] = {}

    def widen_range(name: str, _: nn.Module, inputs: tuple[Tensor]) -> None:
        lowest, highest = (float(value) for value in inputs[0].aminmax())
        low, high = ranges.get(name, (lowest, highest))
        ranges[name] = (min(lowest, low), max(highest, high))

    handles = [
        convolution.register_forward_pre_hook(partial(widen_range, name))
        for name, convolution in named_convolutions(network)
    ]
    try:
        for crops in batches:
            network(crops.permute(0, 3, 1, 2))  # [N, 3, S, S]
    finally:
        for handle in handles:
            handle.remove()
    return ranges


def quantize(network: GoogLeNet, activation_ranges: ActivationRanges) -> GoogLeNet:
    """Return a copy of a network whose convolutions compute in 8 bits.

    Raises:
        ValueError: A convolution has no activation range.
    """
    quantized = copy.deepcopy(network)
    for name, convolution in named_convolutions(quantized):
        if name not in activation_ranges:
            raise ValueError(f"there is no range for {name}")
        low, high = activation_ranges[name]
        parent_name, _, child_name = name.rpartition(".")
        parent = quantized.get_submodule(parent_name)
        parent.add_module(child_name, QuantizedConvolution(convolution, low, high))
    return quantized


def named_convolutions(network: GoogLeNet) -> list[tuple[str, Convolution]]:
    """Return the convolutions of a network with their names."""
    return [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, Convolution)
    ]


class QuantizedConvolution(nn.Module):
    """A convolution with its BatchNorm and ReLU, whose weights and inputs are rounded to 8 bits.

    Args:
        convolution: A convolution in evaluation mode.
        low: Lowest value of its input.
        high: Highest value of its input.
    """

    scales: Tensor
    zeros: Tensor

    def __init__(self, convolution: Convolution, low: float, high: float) -> None:
        super().__init__()
        weight, bias = _fold_batchnorm(convolution)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.stride = convolution.stride
        self.padding = convolution.padding

        # Weights: each output channel has a scale of its own; the zero point is 0.
        largest = weight.abs().amax(dim=(1, 2, 3)).clamp(min=1e-9)  # [outputs]
        self.register_buffer("scales", largest / LARGEST_WEIGHT)
        self.register_buffer("zeros", torch.zeros(len(weight), dtype=torch.int32))

        # Input: the range includes 0, which has an integer code, so that padding is exact.
        low = min(low, 0.0)
        high = max(high, 1e-6)
        self.scale = (high - low) / LARGEST_ACTIVATION
        self.zero = round(-low / self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[N, outputs, H / stride, W / stride]`, rounded up, for `[N, inputs, H, W]`."""
        x = torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, 0, LARGEST_ACTIVATION)
        weight = torch.fake_quantize_per_channel_affine(
            self.weight, self.scales, self.zeros, 0, -LARGEST_WEIGHT, LARGEST_WEIGHT
        )
        return functional.relu(functional.conv2d(x, weight, self.bias, self.stride, self.padding))


def _fold_batchnorm(convolution: Convolution) -> tuple[Tensor, Tensor]:
    """Return a convolution's weights and biases, multiplied and shifted by its BatchNorm."""
    weight = convolution.weight.detach()
    norm = convolution.norm
    if not isinstance(norm, nn.BatchNorm2d):
        assert convolution.bias is not None
        return weight, convolution.bias.detach()

    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    bias = norm.bias.detach() - norm.running_mean * factor
    return weight * factor[:, None, None, None], bias

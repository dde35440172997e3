"""A classifier in 8-bit integers: the ranges of its activations, and the network rounded to them.

What enters a convolution has one scale, between the least and the greatest value that training
crops gave; weights have one for each output channel (Jacob et al., arXiv 1712.05877). Rounding is
written as fake quantisation, in floating point, from which an engine makes integer arithmetic.
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
"""The least and the greatest value that enters each convolution, by its name."""

LARGEST_WEIGHT, LARGEST_ACTIVATION = 127, 255
"""Steps of a scale, from 0 and from the range's lower end."""


@torch.inference_mode()
def measure(network: GoogLeNet, batches: Iterable[Tensor]) -> dict[str, tuple[float, float]]:
    """The ranges of a network's activations for batches of crops `float32 [N, S, S, 3]`."""
    found: dict[str, tuple[float, float]] = {}

    def widen(name: str, _: nn.Module, inputs: tuple[Tensor]) -> None:
        low, high = (float(end) for end in inputs[0].aminmax())
        before = found.get(name, (low, high))
        found[name] = min(low, before[0]), max(high, before[1])

    handles = [
        convolution.register_forward_pre_hook(partial(widen, name))
        for name, convolution in convolutions(network)
    ]
    try:
        for crops in batches:
            network(crops.permute(0, 3, 1, 2))
    finally:
        for handle in handles:
            handle.remove()
    return found


def quantized(network: GoogLeNet, ranges: ActivationRanges) -> GoogLeNet:
    """A copy of a network whose convolutions have 8 bits.

    Raises:
        ValueError: a convolution has no range.
    """
    made = copy.deepcopy(network)
    for name, convolution in convolutions(made):
        if name not in ranges:
            raise ValueError(f"there is no range for {name}")
        parent, _, own = name.rpartition(".")
        made.get_submodule(parent).add_module(own, RoundedConvolution(convolution, *ranges[name]))
    return made


def convolutions(network: GoogLeNet) -> list[tuple[str, Convolution]]:
    """A network's convolutions and their names."""
    return [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, Convolution)
    ]


class RoundedConvolution(nn.Module):
    """A convolution, with its BatchNorm and ReLU, of rounded weights and rounded inputs.

    Args:
        convolution: in evaluation mode.
        low: the least value that enters it.
        high: the greatest.
    """

    scales: Tensor
    zeros: Tensor

    def __init__(self, convolution: Convolution, low: float, high: float) -> None:
        super().__init__()
        weight, bias = _folded(convolution)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.stride, self.padding = convolution.stride, convolution.padding
        largest = weight.abs().amax(dim=(1, 2, 3)).clamp(min=1e-9)  # [outputs]
        self.register_buffer("scales", largest / LARGEST_WEIGHT)
        self.register_buffer("zeros", torch.zeros(len(weight), dtype=torch.int32))
        low, high = min(low, 0.0), max(high, 1e-6)  # 0 is a step, so that padding is exact
        self.scale = (high - low) / LARGEST_ACTIVATION
        self.zero = round(-low / self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, inputs, H, W]` to `[N, outputs, H / stride, W / stride]`, rounded up."""
        x = torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, 0, LARGEST_ACTIVATION)
        weight = torch.fake_quantize_per_channel_affine(
            self.weight, self.scales, self.zeros, 0, -LARGEST_WEIGHT, LARGEST_WEIGHT
        )
        return functional.relu(functional.conv2d(x, weight, self.bias, self.stride, self.padding))


def _folded(convolution: Convolution) -> tuple[Tensor, Tensor]:
    """Weights and biases with the BatchNorm that follows, if there is one."""
    weight = convolution.weight.detach()
    norm = convolution.norm
    if not isinstance(norm, nn.BatchNorm2d):
        assert convolution.bias is not None
        return weight, convolution.bias.detach()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    return weight * factor[:, None, None, None], norm.bias.detach() - norm.running_mean * factor

"""A literal version of 8-bit convolutions, in PyTorch's fake quantization."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from detector.models.quantization import LARGEST_ACTIVATION, LARGEST_WEIGHT, ActivationRanges
from detector.models.torch_googlenet import Convolution, GoogLeNet
from detector.training.activation_ranges import named_convolutions


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

"""Measure the activation ranges of a classifier, which 8-bit integers need."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from detector.models.torch_googlenet import Convolution, GoogLeNet


@torch.inference_mode()
def measure_activation_ranges(
    network: GoogLeNet, batches: Iterable[Tensor]
) -> dict[str, tuple[float, float]]:
    """Return the lowest and the highest input value of each convolution, by its name.

    Args:
        network: A network in evaluation mode.
        batches: Normalised crops `float32 [N, S, S, 3]`.
    """
    ranges: dict[str, tuple[float, float]] = {}

    def widen_range(name: str, _: nn.Module, inputs: tuple[Tensor]) -> None:
        lowest, highest = (float(value) for value in inputs[0].aminmax())
        low, high = ranges.get(name, (lowest, highest))
        ranges[name] = (min(lowest, low), max(highest, high))

    # Hooks see the input of each convolution.
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


def named_convolutions(network: GoogLeNet) -> list[tuple[str, Convolution]]:
    """Return the convolutions of a network with their names."""
    return [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, Convolution)
    ]

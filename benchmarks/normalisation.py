"""What local response normalisation costs: crops per second with our layer, torch's, and none.

    python benchmarks/normalisation.py [--crop-size 128]

One member runs in bfloat16, channels-last, on the processor. The three variants take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.backends.pytorch import PyTorchBackend
from detector.bundles.manifest import Architecture
from detector.models.googlenet import LRN_ALPHA, LRN_SIZE
from detector.models.torch_googlenet import GoogLeNet

Layer = Literal["none", "ours", "torch's own"]
LAYERS: tuple[Layer, ...] = ("none", "ours", "torch's own")

BATCH_SIZE = 32
ROUNDS = 5
SECONDS = 2.0
"""Duration of each measurement."""


class TorchNorm(nn.LocalResponseNorm):
    """torch's own layer, which computes in float32 on a processor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.float()).to(x.dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of local response normalisation.")
    parser.add_argument("--crop-size", type=int, default=128, help="side of the crops in pixels")
    size = parser.parse_args().crop_size

    crops = 50 * torch.randn(BATCH_SIZE, size, size, 3).numpy()
    backends = {layer: make_backend(layer, size) for layer in LAYERS}
    rates: dict[Layer, list[float]] = {layer: [] for layer in LAYERS}
    for _ in range(ROUNDS):
        for layer, backend in backends.items():
            rates[layer].append(crops_per_second(backend, crops))

    for layer, measured in rates.items():
        ratios = [rate / none for rate, none in zip(measured, rates["none"], strict=True)]
        median = statistics.median(measured)
        print(f"{layer:<12}{median:>7.0f} crops a second{statistics.median(ratios):>7.2f} of none")


def make_backend(layer: Layer, crop_size: int) -> PyTorchBackend:
    """Return a network with random weights and this kind of normalisation layer."""
    architecture = Architecture(normalisation="none" if layer == "none" else "lrn")
    network = GoogLeNet(21, crop_size=crop_size, architecture=architecture).eval()
    if layer == "torch's own":
        for name in ("norm1", "norm2"):
            network.add_module(name, TorchNorm(LRN_SIZE, LRN_ALPHA))
    return PyTorchBackend(network, "bfloat16")


def crops_per_second(backend: PyTorchBackend, crops: NDArray[np.float32]) -> float:
    """Measure the rate at which a backend classifies crops `float32 [N, S, S, 3]`."""
    started = time.perf_counter()
    count = 0
    while time.perf_counter() - started < SECONDS:
        backend(crops)
        count += len(crops)
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main()

"""Measure what local response normalisation costs: crops a second with ours, torch's, and none.

    python benchmarks/normalisation.py [--crop-size 128]

One member in bfloat16, channels-last, on the processor; the three are timed in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.backends.pytorch import PyTorchBackend
from detector.bundles.manifest import Architecture
from detector.models.googlenet import LRN_ALPHA, LRN_SIZE
from detector.models.torch_googlenet import GoogLeNet

BATCH = 32
ROUNDS = 5
SECONDS = 2.0


class TorchNorm(nn.LocalResponseNorm):
    """torch's own layer, which computes in float32 on a processor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.float()).to(x.dtype)


def backend(name: str, crop_size: int) -> PyTorchBackend:
    net = Architecture(normalisation="none" if name == "none" else "lrn")
    network = GoogLeNet(21, crop_size=crop_size, architecture=net).eval()
    if name == "torch's own":
        for norm in ("norm1", "norm2"):
            network.add_module(norm, TorchNorm(LRN_SIZE, LRN_ALPHA))
    return PyTorchBackend(network, "bfloat16")


def rate(run: PyTorchBackend, crops: NDArray[np.float32]) -> float:
    started = time.perf_counter()
    done = 0
    while time.perf_counter() - started < SECONDS:
        run(crops)
        done += len(crops)
    return done / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of local response normalisation.")
    parser.add_argument("--crop-size", type=int, default=128)
    size = parser.parse_args().crop_size
    crops = 50 * torch.randn(BATCH, size, size, 3).numpy()
    backends = {name: backend(name, size) for name in ("none", "ours", "torch's own")}
    rates: dict[str, list[float]] = {name: [] for name in backends}
    for _ in range(ROUNDS):
        for name, run in backends.items():
            rates[name].append(rate(run, crops))
    for name, measured in rates.items():
        ratios = [own / none for own, none in zip(measured, rates["none"], strict=True)]
        median = statistics.median(measured)
        print(f"{name:<12}{median:>7.0f} crops a second{statistics.median(ratios):>7.2f} of none")


if __name__ == "__main__":
    main()

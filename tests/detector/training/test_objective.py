from __future__ import annotations

import math

import pytest
import torch

from detector.bundles.manifest import Architecture
from detector.models.torch_googlenet import GoogLeNet
from detector.training.objective import LabelledCrops, classification_loss
from detector.training.settings import ClassifierOptimisation

LABELS = torch.tensor([0, 2])


def network(*, auxiliary: bool) -> GoogLeNet:
    torch.manual_seed(0)
    return GoogLeNet(
        3, crop_size=96, architecture=Architecture(width=0.25), auxiliary=auxiliary
    ).eval()


def literal(logits: torch.Tensor, smoothing: float) -> float:
    losses: list[float] = []
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        total = sum(map(math.exp, row))
        target = [smoothing / 3 + (1 - smoothing) * (n == label) for n in range(3)]
        losses.append(
            -sum(t * math.log(math.exp(z) / total) for t, z in zip(target, row, strict=True))
        )
    return sum(losses) / 2


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing: float) -> None:
    crops = torch.randn(2, 96, 96, 3)
    net = network(auxiliary=False)
    loss = classification_loss(
        net, LabelledCrops(crops, LABELS), ClassifierOptimisation(label_smoothing=smoothing)
    )
    assert loss.item() == pytest.approx(literal(net(crops.permute(0, 3, 1, 2)), smoothing))


def test_auxiliary_heads_count_at_their_weight() -> None:
    crops = torch.randn(2, 96, 96, 3)
    net = network(auxiliary=True)
    loss = classification_loss(
        net, LabelledCrops(crops, LABELS), ClassifierOptimisation(auxiliary=0.3)
    )
    own, first, second = (
        literal(logits, 0.0) for logits in net.forward_with_auxiliary(crops.permute(0, 3, 1, 2))
    )
    assert loss.item() == pytest.approx(own + 0.3 * first + 0.3 * second, rel=1e-5)

"""The loss of classifiers: the cross entropy of the network and of its auxiliary heads."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from detector.models.torch_googlenet import GoogLeNet
from detector.training.settings import ClassifierOptimisation


class LabelledCrops(NamedTuple):
    """A batch of crops with their classes."""

    crops: Tensor
    """Normalised crops, `float32 [N, S, S, 3]`."""
    labels: Tensor
    """`int64 [N]`, indices of the network's outputs."""


def classification_loss(
    network: GoogLeNet, batch: LabelledCrops, optimisation: ClassifierOptimisation
) -> Tensor:
    """Return the mean loss of a batch.

    The losses of auxiliary heads are added at their weight, which is 0.3 in section 5 of the
    paper.

    Args:
        network: The classifier.
        batch: N crops and their labels.
        optimisation: Label smoothing, and the weight of auxiliary heads.
    """

    def cross_entropy(logits: Tensor) -> Tensor:
        smoothing = optimisation.label_smoothing
        return functional.cross_entropy(logits.float(), batch.labels, label_smoothing=smoothing)

    x = batch.crops.permute(0, 3, 1, 2)  # [N, 3, S, S], stored channels-last
    if not optimisation.auxiliary:
        return cross_entropy(network(x))
    logits, after_4a, after_4d = network.forward_with_auxiliary(x)  # each [N, classes]
    auxiliary = cross_entropy(after_4a) + cross_entropy(after_4d)
    return cross_entropy(logits) + optimisation.auxiliary * auxiliary

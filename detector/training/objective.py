"""What is minimised: the cross entropy of the network and of its auxiliary heads."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from detector.models.googlenet import GoogLeNet
from detector.training.settings import ClassifierOptimisation


def classification_loss(
    network: GoogLeNet, crops: Tensor, labels: Tensor, optimisation: ClassifierOptimisation
) -> Tensor:
    """The mean loss of crops `[N, S, S, 3]` with labels `int64 [N]`.

    The losses of auxiliary heads are added at their weight, which is 0.3 in section 5 of the
    paper.
    """

    def cross_entropy(logits: Tensor) -> Tensor:
        smoothing = optimisation.label_smoothing
        return functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)

    x = crops.permute(0, 3, 1, 2)  # [N, 3, S, S], stored channels-last
    if not optimisation.auxiliary:
        return cross_entropy(network(x))
    logits, after_4a, after_4d = network.forward_with_auxiliary(x)
    heads = cross_entropy(after_4a) + cross_entropy(after_4d)
    return cross_entropy(logits) + optimisation.auxiliary * heads

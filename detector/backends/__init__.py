"""Engines that run a network: crops in, probabilities out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from detector.regions.crops import Pixels


class Backend(Protocol):
    """One network on one device. Batches have one fixed size, so that results do not depend on
    what else is in a batch; a backend that works on parts of them asks for whole parts alone.
    """

    @property
    def part(self) -> int | None:
        """Crops that are worked on at once; `None`: all of a batch."""
        ...

    def place(self, pixels: Pixels) -> Pixels | Tensor:
        """A normalised image in the form from which this backend's crops are cut."""
        ...

    def __call__(self, crops: Tensor) -> NDArray[np.float32]:
        """Class probabilities `float32 [N, classes]` of crops `float32 [N, S, S, 3]`."""
        ...

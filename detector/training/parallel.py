"""Training by several processes that each have a GPU, started by `torchrun`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Self

import torch
from torch import Tensor, distributed, nn

from detector.errors import SettingsError

TIMEOUT = timedelta(days=2)
"""How long processes wait for the first one, which computes proposals and validates."""


class Group:
    """The processes of a training: one, unless `torchrun` started several.

    Every process draws the whole batch and works on its own share of it. Gradients are averaged, so
    that the weights stay equal everywhere.
    """

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def __enter__(self) -> Self:
        if self.size > 1:
            backend = "nccl" if torch.cuda.is_available() else "gloo"
            if backend == "nccl":
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            distributed.init_process_group(backend, timeout=TIMEOUT)
        return self

    def __exit__(self, *_: object) -> None:
        if self.size > 1:
            distributed.destroy_process_group()

    def device(self, name: str) -> str:
        """Return the device of this process.

        Args:
            name: The device of the training. "auto" and "cuda" are a GPU for each process.
        """
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.size > 1 and gpus and name in ("auto", "cuda"):
            return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        return name

    def share(self, batch_size: int) -> slice:
        """Return the items of a batch that this process works on.

        Raises:
            SettingsError: The items cannot be shared evenly.
        """
        if batch_size % self.size:
            raise SettingsError(
                f"a batch of {batch_size} cannot be shared evenly by {self.size} processes"
            )
        return slice(self.rank, None, self.size)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Run the block in one process after the other, starting with the first."""
        for rank in range(self.size):
            if rank == self.rank:
                yield
            self.wait()

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def mean(self, value: Tensor) -> float:
        """Return the mean of a value over the processes."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value.item() / self.size

    def any(self, value: bool, device: torch.device) -> bool:
        """Return whether a value is true in any process."""
        if self.size == 1:
            return value
        return self.mean(torch.tensor(float(value), device=device)) > 0

    def average_gradients(self, network: nn.Module) -> None:
        """Give every process the mean of the gradients of all processes."""
        if self.size == 1:
            return

        # One message instead of one for each parameter.
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.size

        sizes = [gradient.numel() for gradient in gradients]
        for gradient, mean in zip(gradients, torch.split(flat, sizes), strict=True):
            gradient.copy_(mean.view_as(gradient))

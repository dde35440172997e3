"""Decoded images, kept in memory as far as a budget goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from detector.common.cpu import available_cores
from detector.images import load
from proposals import Image


class ImageCache:
    """Images by their index, RGB `uint8 [H, W, 3]`: numpy arrays, or tensors on a GPU.

    An image that was read stays in memory until the budget is used up. The others are read again
    whenever they are needed. Training draws all images equally often, so it makes no difference
    which ones stay.

    Args:
        files: The images' files.
        budget: Memory for decoded images, in bytes.
        device: Where the images are kept.
    """

    def __init__(self, files: Sequence[Path], budget: float, device: torch.device) -> None:
        self._files = files
        self._device = device
        self._free = budget
        self._cached: dict[int, Image | Tensor] = {}
        self._readers = ThreadPoolExecutor(available_cores())

    def __len__(self) -> int:
        """Return the number of images in memory."""
        return len(self._cached)

    def read(self, indices: Iterable[int]) -> dict[int, Image | Tensor]:
        """Return the images with these indices.

        Raises:
            ImageError: One of them can no longer be read.
        """
        wanted = sorted(set(indices))
        missing = [index for index in wanted if index not in self._cached]
        decoded = dict(zip(missing, self._readers.map(self._load, missing), strict=True))

        images = {index: self._cached[index] for index in wanted if index in self._cached}
        for index, image in decoded.items():
            on_cpu = self._device.type == "cpu"
            images[index] = image if on_cpu else torch.from_numpy(image).to(self._device)
            if image.nbytes <= self._free:
                self._free -= image.nbytes
                self._cached[index] = images[index]
        return images

    def close(self) -> None:
        """Release the memory and the threads."""
        self._readers.shutdown()
        self._cached.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self, index: int) -> Image:
        return np.ascontiguousarray(load(self._files[index]))

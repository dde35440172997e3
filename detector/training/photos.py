"""Decoded photos, kept in memory as far as a budget goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from detector.common.cpu import available_cores
from detector.common.progress import ShowProgress
from detector.errors import ImageError
from detector.formats.records import Failure
from detector.images import load
from proposals import Image

File = TypeVar("File")


def readable(
    files: Sequence[File],
    look: Callable[[File], ImageError | None],
    *,
    strict: bool,
    show_progress: ShowProgress,
) -> tuple[list[File], list[Failure]]:
    """Those files that can be read, and what is wrong with the others.

    Args:
        look: tries to.

    Raises:
        ImageError: with `strict`, the first one that cannot.
    """
    good, bad = [], []
    readers = ThreadPoolExecutor(available_cores())
    try:
        with show_progress(len(files), "photo") as report:
            looked = zip(files, readers.map(look, files), strict=True)
            for number, (file, error) in enumerate(looked, start=1):
                if error is None:
                    good.append(file)
                elif strict:
                    raise error
                else:
                    bad.append(Failure(error.file, error.code, error.message))
                report(number, number)
    finally:
        readers.shutdown(cancel_futures=True)
    return good, bad


class Photos:
    """Photos by their index, as RGB `uint8 [H, W, 3]`: arrays, or tensors on a GPU.

    A photo that is read stays, until the budget is used up; the others are read again whenever
    they are asked for. Regions are drawn evenly, so no choice of those that stay is better.

    Args:
        files: of the photos.
        budget: bytes.
        max_pixels: the limit on width x height.
        device: where they are kept.
    """

    def __init__(
        self, files: Sequence[Path], *, budget: float, max_pixels: int, device: torch.device
    ) -> None:
        self._files, self._max_pixels, self._device = files, max_pixels, device
        self._free = budget
        self._kept: dict[int, Image | Tensor] = {}
        self._readers = ThreadPoolExecutor(available_cores())

    @property
    def kept(self) -> int:
        """How many photos are in memory."""
        return len(self._kept)

    def read(self, indices: Iterable[int]) -> dict[int, Image | Tensor]:
        """The photos of these indices.

        Raises:
            ImageError: one can no longer be read.
        """
        wanted = sorted(set(indices))
        missing = [index for index in wanted if index not in self._kept]
        found = dict(zip(missing, self._readers.map(self._load, missing), strict=True))
        photos = {index: self._kept[index] for index in wanted if index in self._kept}
        for index, image in found.items():
            on_cpu = self._device.type == "cpu"
            photos[index] = image if on_cpu else torch.from_numpy(image).to(self._device)
            if image.nbytes <= self._free:
                self._free -= image.nbytes
                self._kept[index] = photos[index]
        return photos

    def close(self) -> None:
        """Let go of the memory and the threads."""
        self._readers.shutdown()
        self._kept.clear()

    def _load(self, index: int) -> Image:
        image = load(self._files[index], max_pixels=self._max_pixels)
        return np.ascontiguousarray(image)

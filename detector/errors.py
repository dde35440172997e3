"""Everything that can go wrong with what a user hands in.

Each class has a stable `code`, which stands as `error` in files and as `type` in problem details.
Messages are one line that says what was wrong and what is allowed.
"""

from __future__ import annotations

from os import PathLike
from typing import Self


class DetectorError(Exception):
    """The root of all errors that a user can mend."""

    code = "error"


class SettingsError(DetectorError):
    """A setting, an option or a combination of them that is not allowed."""

    code = "bad-settings"


class WorkerError(DetectorError):
    """Processes that should share the work cannot be started."""

    code = "no-workers"


class TrainingError(DetectorError):
    """Data that cannot be trained on, or a training that went wrong."""

    code = "bad-training"


class FormatError(DetectorError):
    """A file whose content is not what its format allows.

    Args:
        file: the file's name.
        line: its line, counted from 1, where there is one.
    """

    code = "bad-format"

    def __init__(self, file: str | PathLike[str], message: str, line: int | None = None) -> None:
        super().__init__(file, message, line)
        self.file, self.message, self.line = str(file), message, line

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}"


class BundleError(FormatError):
    """A bundle or a file of weights that is incomplete, altered or of another make."""

    code = "bad-bundle"


class ImageError(FormatError):
    """An image that cannot be used."""

    code = "bad-image"

    def __init__(self, file: str | PathLike[str], message: str) -> None:
        super().__init__(file, message)
        self.args = (file, message)  # what pickle hands to the constructor


class UnreadableImage(ImageError):
    """A file that is missing or may not be read."""

    code = "unreadable-image"


class EmptyImage(ImageError):
    """No bytes at all."""

    code = "empty-image"


class NotAnImage(ImageError):
    """Bytes of no known image format."""

    code = "not-an-image"


class UnsupportedImage(ImageError):
    """A known format, or a kind of pixels, that this program does not read."""

    code = "unsupported-image"


class OversizedImage(ImageError):
    """More pixels than the limit, as the header says."""

    code = "oversized-image"


class TruncatedImage(ImageError):
    """The end of the image is missing."""

    code = "truncated-image"


class BrokenImage(ImageError):
    """An image whose bytes contradict themselves."""

    code = "broken-image"


class MissingProposals(ImageError):
    """An image for which the given proposals have no entry, or one of another size."""

    code = "missing-proposals"


class LostWorker(ImageError):
    """The process that worked on the image died: out of memory, or a crash in a library."""

    code = "lost-worker"

    @classmethod
    def of(cls, name: str, error: Exception) -> Self:
        """Of an error that ended the work on an image."""
        return cls(name, f"could not be worked on: {str(error).strip() or 'out of memory'}")

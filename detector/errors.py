"""The errors that users can cause and can fix.

Each class has a stable `code`, which is the `error` in files and the `type` in problem details.
Each message is one line that says what is wrong and what is allowed.
"""

from __future__ import annotations

from os import PathLike
from typing import Self


def install_hint(extra: str) -> str:
    """Return the command that installs an optional part of the program."""
    return f"pip install 'going-deeper-detector[{extra}]'"


class DetectorError(Exception):
    """Base class of all errors that a user can fix."""

    code = "error"


class SettingsError(DetectorError):
    """A setting, an option, or a combination of them is not allowed."""

    code = "bad-settings"


class OutputError(DetectorError):
    """An output cannot be written."""

    code = "unwritable-output"


class WorkerError(DetectorError):
    """Worker processes cannot be started."""

    code = "no-workers"


class TrainingError(DetectorError):
    """The data cannot be trained on, or training has failed."""

    code = "bad-training"


class FormatError(DetectorError):
    """The content of a file is not what its format allows.

    Args:
        file: Name of the file.
        message: What is wrong and what is allowed.
        line: Line in the file, counted from 1, if the error is in a line.
    """

    code = "bad-format"

    def __init__(self, file: str | PathLike[str], message: str, line: int | None = None) -> None:
        super().__init__(file, message, line)
        self.file = str(file)
        self.message = message
        self.line = line

    def __str__(self) -> str:
        location = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{location}: {self.message}"


class BundleError(FormatError):
    """A bundle or a file of weights is incomplete, altered, or of another architecture."""

    code = "bad-bundle"


class ImageError(FormatError):
    """An image cannot be used."""

    code = "bad-image"

    def __init__(self, file: str | PathLike[str], message: str) -> None:
        super().__init__(file, message)
        self.args = (file, message)  # pickle passes these to the constructor


class UnreadableImage(ImageError):
    """The file is missing or may not be read."""

    code = "unreadable-image"


class EmptyImage(ImageError):
    """There are no bytes."""

    code = "empty-image"


class NotAnImage(ImageError):
    """The bytes are not in a known image format."""

    code = "not-an-image"


class UnsupportedImage(ImageError):
    """The format, or the type of the pixels, is known but not supported."""

    code = "unsupported-image"


class OversizedImage(ImageError):
    """According to its header, the image has more pixels or parts than allowed."""

    code = "oversized-image"


class TruncatedImage(ImageError):
    """The end of the image is missing."""

    code = "truncated-image"


class BrokenImage(ImageError):
    """The bytes of the image are damaged."""

    code = "broken-image"


class ExcessiveImage(ImageError):
    """The work on the image took more time or memory than allowed."""

    code = "excessive-image"


class MissingProposals(ImageError):
    """The file of proposals has no entry for the image, or one for another size."""

    code = "missing-proposals"


class LostWorker(ImageError):
    """The process that worked on the image died, by lack of memory or a crash in a library."""

    code = "lost-worker"

    @classmethod
    def from_error(cls, name: str, error: Exception) -> Self:
        """Make the error of an image from another error that ended the work on it.

        Args:
            name: Name of the image.
            error: The other error.
        """
        return cls(name, f"could not be worked on: {str(error).strip() or 'out of memory'}")

"""Loading images: files, bytes, PIL images and arrays become RGB `uint8 [H, W, 3]`, upright."""

from __future__ import annotations

import errno
import io
import os
import stat
import warnings
from os import PathLike
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from detector.errors import (
    BrokenImage,
    EmptyImage,
    ImageError,
    NotAnImage,
    OversizedImage,
    TruncatedImage,
    UnreadableImage,
    UnsupportedImage,
)
from detector.image_containers import reduce_container
from detector.image_limits import ImageLimits
from detector.orientation import ORIENTATION, TRANSPOSES, read_orientation
from proposals import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Supported formats, by Pillow's names."""

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"}
)
"""Suffixes of image files, in lower case."""

DEFAULT_LIMITS = ImageLimits()


@runtime_checkable
class Readable(Protocol):
    """A file that need not be on a disk, such as an object in a store."""

    def read_bytes(self) -> bytes:
        """Return the content of the file.

        Raises:
            OSError: The file cannot be read.
        """
        ...


Source = str | Readable | PathLike[str] | bytes | PillowImage.Image | Image
"""Anything that `load` accepts."""

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}
"""First bytes of supported formats. Those of BMP ("BM") and WEBP ("RIFF") are left out, because
other files begin with them too."""

_OTHER_SIGNATURES = {
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"\x00\x00\x01\x00": "ICO",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"<svg": "SVG",
    b"v/1\x01": "OpenEXR",
}
"""First bytes of known formats that are not supported."""


def load(source: Source, *, name: str | None = None, limits: ImageLimits = DEFAULT_LIMITS) -> Image:
    """Load an image as RGB `uint8 [H, W, 3]`, rotated according to its EXIF tag.

    Grey, palette, 16-bit and CMYK pixels are converted. Transparent pixels are blended with white.
    The first of several frames is taken. Colour profiles are not applied.

    Args:
        source: A path, the bytes of an encoded image, a PIL image, or an RGB `uint8 [H, W, 3]`
            array.
        name: Name of the image in error messages. The default is its path.
        limits: Limits, checked on the header before decoding.

    Raises:
        ImageError: The image cannot be used; each reason is a subclass (see `detector.errors`).
    """
    if isinstance(source, np.ndarray):
        return _check_array(source, name or "array", limits)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of broken metadata, which is not used here
        if isinstance(source, PillowImage.Image):
            name = name or getattr(source, "filename", "") or "PIL image"
            _check_size(source.size, name, limits)
            return _upright_rgb(source, name)
        if isinstance(source, bytes):
            return _decode(source, name or "bytes", limits)
        if not isinstance(source, str | PathLike | Readable):
            kind = type(source).__name__
            raise TypeError(f"image must be a path, bytes, PIL image or array, not {kind}")
        return _decode(read(source), name or str(source), limits)


def read(path: str | PathLike[str] | Readable) -> bytes:
    """Return the bytes of an image file. What is not a file, such as a pipe, is not waited for.

    Raises:
        UnreadableImage: The file is missing, may not be read, or is no file.
    """
    try:
        return _read_file(path) if isinstance(path, str | PathLike) else path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UnreadableImage(str(path), f"cannot be read: {reason}") from error


def _read_file(path: str | PathLike[str]) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is a pipe, a device or a socket, and not a file")
        return file.read()


def _decode(data: bytes, name: str, limits: ImageLimits) -> Image:
    if not data:
        raise EmptyImage(name, "the file is empty")
    container = reduce_container(data, name, limits)

    # This reads the header alone.
    try:
        image = PillowImage.open(io.BytesIO(container.data), formats=FORMATS)
    except PillowImage.DecompressionBombError as error:
        raise OversizedImage(name, f"more pixels than the {limits.max_pixels:,} allowed") from error
    except UnidentifiedImageError as error:
        raise _unidentified(data, name) from error
    except MemoryError:  # not the image's fault
        raise
    except Exception as error:  # decoders raise many types on broken headers
        raise _broken(name, "the image's header is broken", error) from error

    with image:
        _check_size(image.size, name, limits)
        return _upright_rgb(image, name, container.exif)


def _unidentified(data: bytes, name: str) -> ImageError:
    """Return the error for bytes that Pillow does not recognise, which depends on their format."""
    allowed = "allowed are " + ", ".join(FORMATS)
    if data[4:8] == b"ftyp":
        return UnsupportedImage(name, f"HEIF, AVIF or a film: {allowed}")
    for signature, format_name in _OTHER_SIGNATURES.items():
        if data.startswith(signature):
            return UnsupportedImage(name, f"{format_name}: {allowed}")
    for signature, format_name in _SIGNATURES.items():
        if data.startswith(signature):
            return BrokenImage(name, f"a {format_name} whose header is broken or cut off")
    return NotAnImage(name, f"not an image: {allowed}")


def _broken(name: str, problem: str, error: Exception) -> ImageError:
    """Return the error for an image that Pillow cannot decode."""
    reason = str(error).lower()
    if "truncated" in reason or "incomplete" in reason:
        return TruncatedImage(name, "the end of the image is missing")
    return BrokenImage(name, f"{problem} ({error})")


def _check_size(size: tuple[int, int], name: str, limits: ImageLimits) -> None:
    """Check that an image has pixels, and not too many."""
    width, height = size
    if width < 1 or height < 1:
        raise BrokenImage(name, f"an image of {width}x{height} pixels")
    if width * height > limits.max_pixels:
        raise OversizedImage(
            name, f"{width}x{height} are more pixels than the {limits.max_pixels:,} allowed"
        )
    if max(width, height) > limits.max_side:
        raise OversizedImage(
            name, f"{width}x{height} is longer than the {limits.max_side:,} pixels allowed"
        )


def _check_array(array: Image, name: str, limits: ImageLimits) -> Image:
    """Return an array in C order after checking its type, shape and size."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise UnsupportedImage(
            name, f"{array.dtype} {list(array.shape)}: arrays must be RGB uint8 [H, W, 3]"
        )

    height, width = array.shape[:2]
    _check_size((width, height), name, limits)
    return np.ascontiguousarray(array)


def _upright_rgb(image: PillowImage.Image, name: str, exif: bytes | None = None) -> Image:
    """Decode an opened image; return RGB `uint8 [H, W, 3]`, turned upright.

    Args:
        image: The image.
        name: Its name in errors.
        exif: Its block of EXIF tags, if that was not left to Pillow.
    """
    try:
        image.load()
    except MemoryError:  # not the image's fault
        raise
    except Exception as error:  # decoders raise many types on broken data
        raise _broken(name, "the image is broken", error) from error

    rgb = _rgb(image, name)
    orientation = _orientation(image) if exif is None else read_orientation(exif)
    if orientation in TRANSPOSES:
        rgb = rgb.transpose(TRANSPOSES[orientation])
    return np.asarray(rgb)


def _orientation(image: PillowImage.Image) -> int:
    """Return the orientation of a decoded image by its EXIF tag, from 1 to 8.

    Pillow turns a TIFF upright itself and removes the tag.
    """
    block = image.info.get("exif")
    if isinstance(block, bytes) and image.format != "TIFF":
        return read_orientation(block)
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # the pixels are good even if a tag is not
        return 1


def _rgb(image: PillowImage.Image, name: str) -> PillowImage.Image:
    """Convert pixels of any mode to RGB."""
    if image.mode == "I":
        raise UnsupportedImage(
            name, "32-bit integers, which say nothing of their range: allowed are 8 and 16 bits"
        )
    if image.mode.startswith("I"):
        return _from_integers(image).convert("RGB")
    if image.mode == "F":
        raise UnsupportedImage(name, "floating-point pixels: allowed are 8 and 16 bits")

    try:
        if image.has_transparency_data and not _has_unused_alpha(image):
            foreground = image.convert("RGBA")
            background = PillowImage.new("RGBA", foreground.size, "white")
            return PillowImage.alpha_composite(background, foreground).convert("RGB")
        return image.convert("RGB")
    except ValueError as error:
        raise UnsupportedImage(name, f"pixels of kind {image.mode}: {error}") from error


def _has_unused_alpha(image: PillowImage.Image) -> bool:
    """Return whether an image is a BMP whose alpha channel is 0 everywhere.

    Many programs leave the fourth byte of a pixel at 0, although the header calls it alpha.
    """
    is_candidate = image.format == "BMP" and image.mode == "RGBA"
    return is_candidate and not np.asarray(image.getchannel("A")).any()


def _from_integers(image: PillowImage.Image) -> PillowImage.Image:
    """Scale 16-bit grey to 8 bits; Pillow would clip it at 255."""
    grey = np.asarray(image)
    scaled = (grey.astype(np.uint32) * 255 + 32767) // 65535  # rounded to the nearest
    return PillowImage.fromarray(scaled.astype(np.uint8))

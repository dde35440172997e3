"""Bundles: the weights, classes and settings of a detector in one directory.

A bundle holds `bundle.json`, weights as `*.safetensors` in half precision, and `MODEL_CARD.md`.
Weights are checked against the sha256 in `bundle.json` when they are loaded, and never unpickled.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from detector.bundles.manifest import (
    BundledMultiBox,
    Manifest,
    Member,
    MemberRecipe,
    MultiBoxRecipe,
)
from detector.common.config import describe_error, shorten, validate
from detector.common.text_files import decode_text, read_bytes
from detector.errors import BundleError, FormatError
from detector.models.googlenet import Shapes, classifier_shapes, convolutions
from detector.models.multibox import count_sample_weights, multibox_shapes
from detector.models.weights import LARGEST_HEADER, Weights, check_weights, decode_weights
from detector.settings import Settings

SHIPPED = Path(__file__).parent
"""Folder of the bundles that ship with the program."""

DEFAULT = "voc20"
"""Name of the bundle that is used if none is given."""

MANIFEST = "bundle.json"
MODEL_CARD = "MODEL_CARD.md"

LARGEST_MANIFEST = 4 << 20
"""Largest size of `bundle.json` in bytes. That of six members and 200 classes has 40,000."""

BYTES_OF_VALUE = 8
"""Most bytes of a weight. BatchNorm's counts have as many."""

MOST_VALUES = 1 << 27
"""Most weights of a network: twenty times those of GoogLeNet."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Args:
        directory: Directory of the bundle.
        manifest: Content of `bundle.json`.
        sha256: Digest of `bundle.json`. It identifies everything that the bundle contributes to a
            result, because `bundle.json` holds the digests of all weights.
    """

    directory: Path
    manifest: Manifest
    sha256: str

    @classmethod
    def load(cls, name: str | Path | None = None) -> Bundle:
        """Find a bundle and read its `bundle.json`; weights are not read yet.

        Args:
            name: A directory, the name of a shipped bundle, or None for the default bundle.

        Raises:
            BundleError: There is no such bundle, or its `bundle.json` is wrong.
            SettingsError: The settings in `bundle.json` are wrong.
        """
        directory = find_bundle(name)
        file = directory / MANIFEST
        data = _read(file, LARGEST_MANIFEST)
        try:
            manifest = Manifest.model_validate_json(decode_text(file, data))
        except ValidationError as error:
            raise BundleError(file, describe_error(error, Manifest)) from error
        except FormatError as error:
            raise BundleError(file, error.message) from error
        validate(Settings, manifest.settings, f"{file}: settings")
        return cls(directory, manifest, hashlib.sha256(data).hexdigest())

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the bundle."""
        networks = (*self.manifest.members, self.manifest.multibox)
        weights = [network.file for network in networks if network is not None]
        return tuple(self.directory / name for name in (MANIFEST, MODEL_CARD, *weights))

    @property
    def has_activation_ranges(self) -> bool:
        """Whether all members can run in 8-bit integers."""
        return all(member.ranges is not None for member in self.manifest.members)

    def read_files(self) -> dict[str, bytes]:
        """Return the files, by their names, that another machine needs to load the bundle.

        Raises:
            BundleError: Weights are missing or altered.
        """
        files = {MANIFEST: _read(self.directory / MANIFEST, LARGEST_MANIFEST)}
        for network in (*self.manifest.members, self.manifest.multibox):
            if network is not None:
                files[network.file] = self._read_verified(network, self._shapes(network))
        return files

    def classifier_weights(self, member: Member) -> Weights:
        """Read a member's weights, in float32.

        Raises:
            BundleError: The weights are missing, altered or of another architecture, or the
                activation ranges belong to another network.
        """
        weights = self._weights(member)
        self._check_activation_ranges(member)
        return weights

    def multibox_weights(self, recipe: BundledMultiBox) -> Weights:
        """Read the weights of MultiBox's network, in float32.

        Args:
            recipe: MultiBox's entry in the manifest.

        Raises:
            BundleError: The weights are missing, altered or of another architecture.
        """
        return self._weights(recipe)

    def verify(self) -> None:
        """Read the weights of every network once.

        Raises:
            BundleError: A file is missing, altered or of another architecture. The message names
                the first such file.
        """
        for member in self.manifest.members:
            self.classifier_weights(member)
        if self.manifest.multibox is not None:
            self.multibox_weights(self.manifest.multibox)

    def _weights(self, network: Member | BundledMultiBox) -> Weights:
        """Read and check the weights of a network."""
        file = self.directory / network.file
        shapes = self._shapes(network)
        weights = decode_weights(file, self._read_verified(network, shapes))
        check_weights(weights, shapes, file)
        return weights

    def _shapes(self, network: Member | BundledMultiBox) -> Shapes:
        return network_shapes(network, len(self.manifest.classes), self.directory / network.file)

    def _read_verified(self, network: Member | BundledMultiBox, shapes: Shapes) -> bytes:
        """Return the bytes of a file of weights after checking its size and their digest."""
        file = self.directory / network.file
        largest = BYTES_OF_VALUE * sum(map(math.prod, shapes.values())) + LARGEST_HEADER
        data = _read(file, largest)
        digest = hashlib.sha256(data).hexdigest()
        if digest != network.sha256:
            raise BundleError(file, f"sha256 is {digest}, but {MANIFEST} says {network.sha256}")
        return data

    def _check_activation_ranges(self, member: Member) -> None:
        """Check that the activation ranges, if there are any, name the network's convolutions."""
        if member.ranges is None:
            return
        names = {layer.name for layer in convolutions(member.architecture)}
        mismatched = sorted(names ^ member.ranges.keys())
        if mismatched:
            name = mismatched[0]
            problem = "has no convolution" if name in member.ranges else "lacks the range of"
            place = self.directory / MANIFEST
            raise BundleError(place, f"{member.file}: {problem} {shorten(name)}")


def network_shapes(network: MemberRecipe | MultiBoxRecipe, classes: int, file: Path) -> Shapes:
    """Return the shapes that the tensors of a network must have.

    Args:
        network: The network.
        classes: Number of classes, without the background.
        file: File of the network's weights, for the error message.

    Raises:
        BundleError: They would be larger than any network that this program can use.
    """
    if isinstance(network, MemberRecipe):
        shapes = classifier_shapes(network.architecture, 1 + classes)
        computed = 0
    else:
        shapes = multibox_shapes(network)
        computed = count_sample_weights(network)

    values = sum(map(math.prod, shapes.values())) + computed
    if values > MOST_VALUES:
        problem = f"would have {values:,} weights; at most {MOST_VALUES:,} are possible"
        raise BundleError(file, problem)
    return shapes


def _read(file: Path, limit: int) -> bytes:
    """Read a file of a bundle that may have at most `limit` bytes."""
    try:
        return read_bytes(file, limit=limit)
    except FormatError as error:
        raise BundleError(file, error.message) from error


def find_bundle(name: str | Path | None = None) -> Path:
    """Return the directory of a bundle.

    Args:
        name: A directory, the name of a shipped bundle, or None for the default bundle.

    Raises:
        BundleError: There is no such bundle.
    """
    candidates = [SHIPPED / DEFAULT] if name is None else [Path(name), SHIPPED / name]
    for directory in candidates:
        if (directory / MANIFEST).is_file():
            return directory

    shipped = ", ".join(sorted(path.parent.name for path in SHIPPED.glob(f"*/{MANIFEST}")))
    raise BundleError(
        name or DEFAULT,
        f"no bundle: give a directory with a {MANIFEST}, or one of those shipped ({shipped})",
    )

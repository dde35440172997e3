"""Bundles: the weights, classes and settings of a detector in one directory.

A bundle holds `bundle.json`, weights as `*.safetensors` in half precision, and `MODEL_CARD.md`.
Weights are checked against the sha256 in `bundle.json` when they are loaded, and never unpickled.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from detector.bundles.manifest import BundledMultiBox, Description, Manifest, Member, Recipe
from detector.errors import BundleError
from detector.settings import Settings, check, describe

if TYPE_CHECKING:
    import torch

    from detector.backends.choice import BackendName
    from detector.backends.pytorch import Precision
    from detector.models.googlenet import GoogLeNet
    from detector.models.multibox_network import MultiBoxNetwork
    from proposals.multibox import MultiBox

SHIPPED = Path(__file__).parent
DEFAULT = "voc20"
MANIFEST = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Args:
        directory: where it lies.
        manifest: what `bundle.json` says.
        sha256: the digest of `bundle.json`, which holds the digests of all weights: it names
            everything that the bundle contributes to a result.
    """

    directory: Path
    manifest: Manifest
    sha256: str

    @classmethod
    def load(cls, name: str | Path | None = None) -> Bundle:
        """Find a bundle, by its directory or as one that ships with the program, and read it.

        Raises:
            BundleError: there is none, or its `bundle.json` is not one.
        """
        directory = find(name)
        file = directory / MANIFEST
        try:
            data = file.read_bytes()
        except OSError as error:
            raise BundleError(file, f"cannot be read: {error.strerror}") from error
        try:
            manifest = Manifest.model_validate_json(data)
        except ValidationError as error:
            raise BundleError(file, describe(error, Manifest)) from error
        check(Settings, manifest.settings, f"{file}: settings")
        return cls(directory, manifest, hashlib.sha256(data).hexdigest())

    @property
    def has_activation_ranges(self) -> bool:
        """Is all there that 8-bit integers need?"""
        return all(member.ranges is not None for member in self.manifest.members)

    def contents(self) -> dict[str, bytes]:
        """The files from which it can be loaded elsewhere.

        Raises:
            BundleError: weights are missing or altered.
        """
        files = {MANIFEST: (self.directory / MANIFEST).read_bytes()}
        for network in (*self.manifest.members, self.manifest.multibox):
            if network is not None:
                files[network.file] = self._verified(network)
        return files

    def network(self, member: Member) -> GoogLeNet:
        """A member's network with its weights in float32, ready to classify.

        Raises:
            BundleError: the weights are missing, altered or of another architecture, or the ranges
                are another network's.
        """
        from detector.models.googlenet import GoogLeNet
        from detector.models.quantization import convolutions
        from detector.models.weights import load_weights, read_weights

        file = self.directory / member.file
        data = self._verified(member)
        network = GoogLeNet(
            1 + len(self.manifest.classes),
            crop_size=member.warp.crop_size,
            architecture=member.architecture,
        )
        load_weights(network, read_weights(file, data), file)
        if member.ranges is not None:
            names = {name for name, _ in convolutions(network)}
            if wrong := sorted(names ^ member.ranges.keys()):
                known = "has no convolution" if wrong[0] in member.ranges else "lacks the range of"
                raise BundleError(self.directory / MANIFEST, f"{member.file}: {known} {wrong[0]}")
        return network.eval()

    def multibox(
        self,
        count: int,
        device: torch.device,
        precision: Precision,
        backend: BackendName = "auto",
    ) -> MultiBox | None:
        """MultiBox for a number of boxes, if the bundle has one and the number is not 0.

        Raises:
            BundleError: the weights are missing, altered or of another shape.
        """
        recipe = self.manifest.multibox
        if recipe is None or count == 0:
            return None
        from detector.backends.choice import make_localiser
        from proposals.multibox import CORNERS, WHOLE, MultiBox

        views = (WHOLE, *CORNERS) if recipe.views == "corners" else (WHOLE,)
        network = make_localiser(
            backend,
            self.localiser(recipe),
            recipe,
            len(views),
            device,
            precision,
            digest=recipe.sha256,
        )
        return MultiBox(network, size=recipe.size, count=count, views=views)

    def localiser(self, recipe: BundledMultiBox) -> MultiBoxNetwork:
        """MultiBox's network with its weights in float32.

        Raises:
            BundleError: the weights are missing, altered or of another shape.
        """
        from detector.models.multibox_network import MultiBoxNetwork
        from detector.models.weights import load_weights, read_weights

        file = self.directory / recipe.file
        network = MultiBoxNetwork(recipe)
        load_weights(network, read_weights(file, self._verified(recipe)), file)
        return network.eval()

    def verify(self) -> None:
        """Load every network once.

        Raises:
            BundleError: naming the first file that is missing, altered or of another architecture.
        """
        for member in self.manifest.members:
            self.network(member)
        if self.manifest.multibox is not None:
            self.localiser(self.manifest.multibox)

    def _verified(self, network: Member | BundledMultiBox) -> bytes:
        file = self.directory / network.file
        try:
            data = file.read_bytes()
        except OSError as error:
            raise BundleError(file, f"cannot be read: {error.strerror}") from error
        digest = hashlib.sha256(data).hexdigest()
        if digest != network.sha256:
            raise BundleError(file, f"sha256 is {digest}, but {MANIFEST} says {network.sha256}")
        return data


def find(name: str | Path | None = None) -> Path:
    """The directory of a bundle: a path, the name of a shipped one, or the default one.

    Raises:
        BundleError: there is no such bundle.
    """
    for directory in [SHIPPED / DEFAULT] if name is None else [Path(name), SHIPPED / name]:
        if (directory / MANIFEST).is_file():
            return directory
    known = ", ".join(sorted(path.parent.name for path in SHIPPED.glob(f"*/{MANIFEST}")))
    raise BundleError(
        name or DEFAULT,
        f"no bundle: give a directory with a {MANIFEST}, or one of those shipped ({known})",
    )


def pack(
    directory: Path, recipe: Recipe, weights: Sequence[Path], multibox: Path | None = None
) -> Bundle:
    """Make a bundle from files of weights, in half precision, and verify it.

    Args:
        directory: to be made; it must not exist.
        recipe: all that is not weights.
        weights: a safetensors file for each member of the recipe.
        multibox: that of MultiBox, if the recipe has one.

    Raises:
        BundleError: the directory exists, or a file is not one of weights or does not fit.
    """
    if directory.exists():
        raise BundleError(directory, "exists already: name a new directory")
    if (recipe.multibox is None) != (multibox is None):
        raise BundleError(directory, "MultiBox needs both its weights and a place in the recipe")
    if len(weights) != len(recipe.members):
        counts = f"{len(recipe.members)} members, but {len(weights)} files of weights were given"
        raise BundleError(directory, counts)
    aside = directory.with_name(directory.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    members = []
    for number, (member, path) in enumerate(zip(recipe.members, weights, strict=True), start=1):
        file = f"member_{number}.safetensors"
        members.append(Member(file=file, sha256=_store(path, aside / file), **dict(member)))
    bundled = None
    if recipe.multibox is not None and multibox is not None:
        file = "multibox.safetensors"
        digest = _store(multibox, aside / file)
        bundled = BundledMultiBox(file=file, sha256=digest, **dict(recipe.multibox))
    described = {key: getattr(recipe, key) for key in Description.model_fields}
    manifest = Manifest(**described, members=tuple(members), multibox=bundled)
    (aside / "MODEL_CARD.md").write_text(recipe.card, encoding="utf-8")
    content = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (aside / MANIFEST).write_text(content + "\n", encoding="utf-8")
    Bundle.load(aside).verify()
    aside.rename(directory)
    return Bundle.load(directory)


def _store(weights: Path, file: Path) -> str:
    """Write weights in half precision; returns the sha256 of what was written."""
    from safetensors.torch import save

    from detector.models.weights import half_precision, read_weights

    data = save(half_precision(read_weights(weights)))
    file.write_bytes(data)
    return hashlib.sha256(data).hexdigest()

"""Packing: a recipe and files of weights become a bundle."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from detector.bundles.bundle import MANIFEST, MODEL_CARD, Bundle, network_shapes
from detector.bundles.manifest import BundledMultiBox, Description, Manifest, Member, Recipe
from detector.errors import BundleError
from detector.models.googlenet import Shapes
from detector.models.weights import check_weights, half_precision, read_weights


def pack(
    directory: Path, recipe: Recipe, weights: Sequence[Path], multibox: Path | None = None
) -> Bundle:
    """Make a bundle, with weights in half precision, and verify it.

    Args:
        directory: Directory to create; it must not exist.
        recipe: Everything except weights.
        weights: A safetensors file for each member of the recipe, in the same order.
        multibox: A safetensors file for MultiBox, if the recipe has it.

    Raises:
        BundleError: The directory exists, or a file does not hold weights that fit the recipe.
    """
    if directory.exists():
        raise BundleError(directory, "exists already: name a new directory")
    if (recipe.multibox is None) != (multibox is None):
        raise BundleError(directory, "MultiBox needs both its weights and a table in the recipe")
    if len(weights) != len(recipe.members):
        counts = f"{len(recipe.members)} members, but {len(weights)} files of weights were given"
        raise BundleError(directory, counts)

    # The bundle gets its name only when it is complete and verified.
    temporary = directory.with_name(directory.name + ".partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        manifest = _write_weights(temporary, recipe, weights, multibox)
        (temporary / MODEL_CARD).write_text(recipe.card, encoding="utf-8")
        content = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False)
        (temporary / MANIFEST).write_text(content + "\n", encoding="utf-8")
        Bundle.load(temporary).verify()
        temporary.rename(directory)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Bundle.load(directory)


def _write_weights(
    directory: Path, recipe: Recipe, weights: Sequence[Path], multibox: Path | None
) -> Manifest:
    """Write all files of weights and return the manifest with their digests."""
    members = []
    for number, (member, path) in enumerate(zip(recipe.members, weights, strict=True), start=1):
        file = f"member_{number}.safetensors"
        shapes = network_shapes(member, len(recipe.classes), path)
        digest = _write_half_precision(path, shapes, directory / file)
        members.append(Member(file=file, sha256=digest, **dict(member)))

    bundled_multibox = None
    if recipe.multibox is not None and multibox is not None:
        file = "multibox.safetensors"
        shapes = network_shapes(recipe.multibox, len(recipe.classes), multibox)
        digest = _write_half_precision(multibox, shapes, directory / file)
        bundled_multibox = BundledMultiBox(file=file, sha256=digest, **dict(recipe.multibox))

    description = {key: getattr(recipe, key) for key in Description.model_fields}
    return Manifest(**description, members=tuple(members), multibox=bundled_multibox)


def _write_half_precision(weights: Path, shapes: Shapes, file: Path) -> str:
    """Write weights in half precision and return the sha256 of the written file.

    Raises:
        BundleError: A tensor is not what the network needs, or is beyond the range of half
            precision.
    """
    tensors = read_weights(weights)
    check_weights(tensors, shapes, weights)
    halved = half_precision(tensors)
    for name, tensor in halved.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise BundleError(weights, f"{name} has values beyond the range of float16, 65504")

    data = save(halved)
    file.write_bytes(data)
    return hashlib.sha256(data).hexdigest()

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from detector.bundles.bundle import Bundle
from detector.bundles.manifest import MultiBoxRecipe, Recipe
from detector.bundles.pack import pack
from detector.errors import BundleError

RECIPE = Recipe.model_validate(
    {"name": "x", "version": "1", "classes": ["a"], "card": "", "members": [{"warp": {}}]}
)


def test_packed_bundle_has_all_its_parts(tiny_bundle: Bundle, tiny_weights: list[Path]) -> None:
    names = {path.name for path in tiny_bundle.directory.iterdir()}
    members = {"member_1.safetensors", "member_2.safetensors"}
    assert names == {"bundle.json", "MODEL_CARD.md"} | members
    assert tiny_bundle.manifest.classes == ("cat", "dog", "person")
    assert (tiny_bundle.directory / "MODEL_CARD.md").read_text().startswith("# tiny")
    half = tiny_bundle.directory / "member_1.safetensors"
    full = tiny_weights[0]
    assert half.stat().st_size < 0.6 * full.stat().st_size


def test_packing_over_something_is_refused(tmp_path: Path, tiny_weights: list[Path]) -> None:
    with pytest.raises(BundleError, match="exists already"):
        pack(tmp_path, RECIPE, tiny_weights[:1])


def test_packing_needs_a_file_for_each_member(tmp_path: Path, tiny_weights: list[Path]) -> None:
    with pytest.raises(BundleError, match="1 members, but 2 files"):
        pack(tmp_path / "new", RECIPE, tiny_weights)


def test_packing_weights_that_do_not_fit_leaves_nothing(
    tmp_path: Path, tiny_weights: list[Path]
) -> None:
    with pytest.raises(BundleError, match="has shape"):
        pack(tmp_path / "new", RECIPE, tiny_weights[:1])
    assert not (tmp_path / "new").exists()


def test_multibox_keeps_its_priors(
    multibox_bundle: Bundle, tiny_multibox: tuple[MultiBoxRecipe, Path]
) -> None:
    recipe = multibox_bundle.manifest.multibox
    assert recipe is not None
    exact = load_file(tiny_multibox[1])["priors"]
    np.testing.assert_array_equal(multibox_bundle.multibox_weights(recipe)["priors"], exact)

"""The networks of a bundle on one runtime: loaded once, shared by all detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from detector.backends import make_classifier, make_multibox, release_memory
from detector.bundles.bundle import Bundle
from detector.bundles.manifest import MemberRecipe, Normalisation
from detector.models.weights import Weights
from detector.regions.ensemble import Ensemble
from detector.runtime import Runtime
from proposals.multibox import CORNERS, WHOLE, MultiBox


@dataclass(frozen=True, eq=False)
class Networks:
    """Loaded networks, shared by all detectors that are made on them.

    As a context manager it releases the networks at the end.

    Args:
        name: Name of the bundle.
        version: Version of the bundle.
        sha256: Digest of the bundle's manifest, which names everything that changes results.
        classes: Class names, without the background.
        ensemble: The classifiers.
        multibox: MultiBox, if the bundle has one and it was loaded.
        runtime: Where and how the networks run.
        available_members: Number of classifiers in the bundle, loaded or not.
        has_multibox: Whether the bundle has MultiBox, loaded or not.
    """

    name: str
    version: str
    sha256: str
    classes: tuple[str, ...]
    ensemble: Ensemble
    multibox: MultiBox | None
    runtime: Runtime
    available_members: int
    has_multibox: bool

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        runtime: Runtime,
        *,
        members: int | Literal["all"] = "all",
        multibox: bool = True,
    ) -> Self:
        """Load the networks of a bundle. This is slow and happens once.

        Args:
            bundle: The bundle.
            runtime: Where and how the networks run.
            members: Number of classifiers to load, from the first one on.
            multibox: Whether to load MultiBox, if the bundle has it.

        Raises:
            BundleError: Weights are missing, altered, or of another architecture.
        """
        manifest = bundle.manifest
        chosen = manifest.members if members == "all" else manifest.members[:members]
        classifiers = [
            (
                make_classifier(
                    bundle.classifier_weights(member),
                    member.architecture,
                    member.warp.crop_size,
                    runtime,
                    activation_ranges=member.ranges,
                ),
                member.warp,
            )
            for member in chosen
        ]

        ensemble = Ensemble(
            classifiers,
            manifest.normalisation,
            classes=1 + len(manifest.classes),
            batch_size=runtime.batch_size,
        )

        return cls(
            name=manifest.name,
            version=manifest.version,
            sha256=bundle.sha256,
            classes=manifest.classes,
            ensemble=ensemble,
            multibox=load_multibox(bundle, runtime) if multibox else None,
            runtime=runtime,
            available_members=len(manifest.members),
            has_multibox=manifest.multibox is not None,
        )

    @classmethod
    def from_classifier(
        cls,
        weights: Weights,
        member: MemberRecipe,
        normalisation: Normalisation,
        classes: tuple[str, ...],
        runtime: Runtime,
    ) -> Self:
        """Load a single classifier that is in memory, as training does to score it.

        Args:
            weights: Tensors by their names, without auxiliary heads.
            member: Warp of its crops and variant of the network.
            normalisation: Normalisation of the pixels.
            classes: Class names, without the background.
            runtime: Where and how the network runs.
        """
        backend = make_classifier(weights, member.architecture, member.warp.crop_size, runtime)
        ensemble = Ensemble(
            [(backend, member.warp)],
            normalisation,
            classes=1 + len(classes),
            batch_size=runtime.batch_size,
        )
        return cls(
            name="in memory",
            version="",
            sha256="",
            classes=classes,
            ensemble=ensemble,
            multibox=None,
            runtime=runtime,
            available_members=1,
            has_multibox=False,
        )

    def close(self) -> None:
        """Release the classifiers and the GPU's memory."""
        self.ensemble.close()
        release_memory(self.runtime)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load_multibox(bundle: Bundle, runtime: Runtime) -> MultiBox | None:
    """Load the MultiBox of a bundle, if it has one.

    Raises:
        BundleError: Weights are missing, altered, or of another architecture.
    """
    recipe = bundle.manifest.multibox
    if recipe is None:
        return None
    views = (WHOLE, *CORNERS) if recipe.views == "corners" else (WHOLE,)
    network = make_multibox(bundle.multibox_weights(recipe), recipe, len(views), runtime)
    return MultiBox(network, size=recipe.size, views=views)

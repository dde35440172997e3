"""A bundle of small random networks, with which a detection takes milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from detector.bundles.bundle import Bundle
from detector.bundles.manifest import Member, Recipe
from detector.models.googlenet import Shapes, classifier_shapes
from detector.models.weights import Weights

if TYPE_CHECKING:
    from detector.models.torch_googlenet import GoogLeNet

RECIPE = Recipe.model_validate(
    {
        "name": "tiny",
        "version": "1",
        "classes": ["cat", "dog", "person"],
        "card": "# tiny\n\nSeeded random weights, for tests.\n",
        "members": [
            {
                "warp": {"crop_size": 64, "resampling": "area"},
                "architecture": {"width": 0.25, "normalisation": normalisation},
            }
            for normalisation in ("lrn", "batchnorm")
        ],
    }
)


def random_weights(shapes: Shapes, seed: int) -> Weights:
    """Random weights, drawn as Caffe's "xavier" draws them; BatchNorm changes nothing."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            weights[name] = np.zeros(shape, np.int64)
        elif ".norm." in name:
            fill = 1.0 if name.endswith((".weight", ".running_var")) else 0.0
            weights[name] = np.full(shape, fill, np.float32)
        elif name.endswith(".bias"):
            weights[name] = np.full(shape, 0.2, np.float32)
        else:
            bound = np.sqrt(3 / np.prod(shape[1:]))
            weights[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    return weights


def write_tiny_weights(folder: Path) -> list[Path]:
    """Write seeded random weights of the recipe's members and return their files."""
    paths = []
    for seed, member in enumerate(RECIPE.members):
        weights = random_weights(classifier_shapes(member.architecture, 4), seed)
        weights["classifier.weight"] *= 20  # so that scores differ from box to box
        weights["classifier.bias"][:] = 0
        paths.append(folder / f"{seed}.safetensors")
        save_file(weights, paths[-1])
    return paths


def load_network(bundle: Bundle, member: Member) -> GoogLeNet:
    """A member's network in PyTorch."""
    from detector.models.torch_googlenet import make_googlenet

    weights = bundle.classifier_weights(member)
    return make_googlenet(weights, member.architecture, member.warp.crop_size)

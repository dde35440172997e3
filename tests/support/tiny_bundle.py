"""A bundle of small random networks, with which a detection takes milliseconds."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from detector.bundles.bundle import Bundle
from detector.bundles.manifest import Member, Recipe
from detector.models.googlenet import GoogLeNet, make_googlenet

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


def write_tiny_weights(folder: Path) -> list[Path]:
    """Seeded random weights of the recipe's members."""
    paths = []
    for seed, member in enumerate(RECIPE.members):
        torch.manual_seed(seed)
        network = GoogLeNet(4, crop_size=64, architecture=member.architecture)
        network.classifier.weight.data *= 20  # so that scores differ from box to box
        paths.append(folder / f"{seed}.safetensors")
        save_file(network.state_dict(), paths[-1])
    return paths


def load_network(bundle: Bundle, member: Member) -> GoogLeNet:
    """A member's network in PyTorch."""
    weights = bundle.classifier_weights(member)
    return make_googlenet(weights, member.architecture, member.warp.crop_size)

"""Fixtures for all tests: photos where they are, and a detector that takes milliseconds."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image as PillowImage
from safetensors.numpy import save_file

from detector import Detector
from detector.bundles.bundle import Bundle
from detector.bundles.manifest import Architecture, MultiBoxRecipe
from detector.bundles.pack import pack
from detector.models.multibox import multibox_shapes
from tests.support.data import DATA, needs
from tests.support.images import paint, scene
from tests.support.tiny_bundle import RECIPE, random_weights, write_tiny_weights

# How long an example takes depends on the machine. Where the suite gates a change, its examples are
# always the same ones; elsewhere they are new each time.
settings.register_profile("suite", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("suite")

# Programs that a shell starts in the background ignore SIGINT, and so do the programs they start.
# Some tests send it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

OPTIONAL = ("boto3", "fastapi", "moto", "ray", "scipy", "selenium", "torch", "uvicorn")
"""Packages of the extras; without them, the tests that need them are skipped."""


class OptionalModule(pytest.Module):
    """A module of tests that is skipped if it needs an extra that is not installed."""

    def _getobj(self) -> object:
        try:
            return super()._getobj()  # type: ignore[no-untyped-call]
        except self.CollectError as error:
            for package in OPTIONAL:
                if f"No module named '{package}" in str(error) and find_spec(package) is None:
                    pytest.skip(
                        f"needs {package}, which an extra installs", allow_module_level=True
                    )
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Collect every module so that it can be skipped."""
    return OptionalModule.from_parent(parent, path=module_path)


@pytest.fixture(scope="session")
def voc_photos() -> list[Path]:
    return sorted(needs(DATA / "voc2007" / "val").glob("*.jpg"))


@pytest.fixture(scope="session")
def imagenet() -> Path:
    return needs(DATA / "imagenet_val500")


@pytest.fixture(scope="session")
def ilsvrc_mini() -> Path:
    return needs(DATA / "ilsvrc_mini")


@pytest.fixture(scope="session")
def ilsvrc_devkit() -> Path:
    return needs(DATA / "ilsvrc_devkit")


@pytest.fixture(scope="session")
def bvlc_weights() -> Path:
    return needs(DATA.parent / "weights" / "bvlc_googlenet_fp16.safetensors")


@pytest.fixture(scope="session")
def imagenet_labels() -> Path:
    return needs(DATA.parent / "weights" / "imagenet_synsets.txt")


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_weights: list[Path]) -> Bundle:
    return pack(tmp_path_factory.mktemp("bundles") / "tiny", RECIPE, tiny_weights)


@pytest.fixture(scope="session")
def tiny_detector(tiny_bundle: Bundle) -> Iterator[Detector]:
    with Detector.load(tiny_bundle, device="cpu") as detector:
        yield detector


@pytest.fixture(scope="session")
def tiny_multibox(tmp_path_factory: pytest.TempPathFactory) -> tuple[MultiBoxRecipe, Path]:
    """A MultiBox of 30 seeded random priors, and its weights."""
    recipe = MultiBoxRecipe(
        size=64, priors=30, hidden=8, architecture=Architecture(width=0.25, normalisation="none")
    )
    corners = np.random.default_rng(0).random((30, 2, 2), np.float32)
    weights = random_weights(multibox_shapes(recipe), seed=0)
    weights["priors"] = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    for layer in ("locations", "confidences"):  # boxes are near their priors
        weights[f"head.{layer}.weight"] *= 0.1
        weights[f"head.{layer}.bias"][:] = 0
    path = tmp_path_factory.mktemp("multibox") / "weights.safetensors"
    save_file(weights, path)
    return recipe, path


@pytest.fixture(scope="session")
def multibox_bundle(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_weights: list[Path],
    tiny_multibox: tuple[MultiBoxRecipe, Path],
) -> Bundle:
    """The tiny bundle with a MultiBox."""
    multibox, weights = tiny_multibox
    recipe = RECIPE.model_copy(update={"multibox": multibox})
    directory = tmp_path_factory.mktemp("bundles") / "with_multibox"
    return pack(directory, recipe, tiny_weights, weights)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three photos, one of them in a subfolder; low ones have quick proposals."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b c é.png", "more/d.png"]):
        PillowImage.fromarray(scene(number, height=24)).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The annotation file of four photos; the proposals are cached beside it."""
    return paint(tmp_path_factory.mktemp("data") / "painted", 4)


TRAINING = """\
warp = { crop_size = 64, resampling = "area" }
architecture = { width = 0.25 }
sampling = { foreground = 4, background = 4 }
augmentation = { distortion = 0.2, jitter = 0.05 }
optimisation = { steps = 6, averaging = 0.5, precision = "float32" }
run = { log_every = 1, checkpoint_every = 2 }
"""


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """Settings of a training that takes a second."""
    file = tmp_path / "training.toml"
    file.write_text(TRAINING)
    return file

"""Load classifiers from files of weights, to score them on whole images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detector.backends import Backend, make_classifier
from detector.bundles.manifest import Architecture
from detector.evaluation.classification import CROP_SIZE
from detector.models.googlenet import classifier_shapes
from detector.models.weights import check_weights, read_weights
from detector.runtime import Runtime


def load_classifiers(files: Sequence[Path], classes: int, runtime: Runtime) -> list[Backend]:
    """Load GoogLeNets of the paper's architecture.

    Args:
        files: safetensors files.
        classes: Number of outputs.
        runtime: Where and how the networks run.

    Raises:
        BundleError: A file is missing, or its weights are of another architecture.
    """
    architecture = Architecture()
    shapes = classifier_shapes(architecture, classes)
    classifiers = []
    for file in files:
        weights = read_weights(file)
        check_weights(weights, shapes, file)
        classifiers.append(make_classifier(weights, architecture, CROP_SIZE, runtime))
    return classifiers

"""Load classifiers from files of weights, to score them on whole images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detector.backends import Backend, make_classifier
from detector.evaluation.classification import CROP_SIZE
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
    from detector.models.googlenet import GoogLeNet
    from detector.models.weights import load_weights, read_weights

    classifiers = []
    for file in files:
        network = GoogLeNet(classes, crop_size=CROP_SIZE).eval()
        load_weights(network, read_weights(file), file)
        classifiers.append(make_classifier(network, CROP_SIZE, runtime))
    return classifiers

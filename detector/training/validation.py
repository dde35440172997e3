"""Mean average precision on held-out photos while a network is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.numpy import save

from detector.batch.journal import Journal
from detector.batch.proposal_cache import Photo
from detector.bundles.manifest import MemberRecipe
from detector.common.progress import ShowProgress
from detector.datasets.ground_truth import GroundTruth
from detector.detector import Detector
from detector.errors import SettingsError
from detector.evaluation import voc
from detector.evaluation.detections import from_entries
from detector.formats.records import Entry
from detector.images import load
from detector.models.googlenet import GoogLeNet
from detector.models.modules import as_shipped, weights_of
from detector.models.weights import half_precision
from detector.networks import Networks
from detector.runtime import BackendName, Runtime
from detector.settings import Settings
from detector.stages import ProposedImage
from detector.training.results import AUXILIARY_HEADS
from detector.training.settings import RegionTraining


class Validator:
    """Detects in held-out photos as `detector-eval` does and scores by VOC's rule.

    Args:
        photos: with their proposals.
        classes: names, with the ids that the ground truth gives them.
        out: a folder for what is found; a validation that was killed goes on from it.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        classes: Mapping[str, int],
        recipe: RegionTraining,
        *,
        out: Path,
        device: torch.device,
        backend: BackendName | Literal["auto"],
        show_progress: ShowProgress,
    ) -> None:
        self._photos, self._classes, self._recipe = photos, classes, recipe
        self._out, self._device, self._reports = out, device, show_progress
        self._backend = backend
        self._settings = Settings.read(scoring=True)

    def __call__(self, network: GoogLeNet, step: int, *, final: bool) -> Mapping[str, object]:
        """The score of a network, as `detector-eval --json` writes it; empty without photos."""
        validation = self._recipe.validation
        count = validation.final if final else validation.photos
        photos = self._photos if count == "all" else self._photos[:count]
        if not photos:
            return {}
        detector = self._detector(network)
        path = self._out / f"validation-{step}.jsonl"
        recipe = self._recipe.model_dump(mode="json", exclude={"run", "validation"})
        names = tuple(self._classes)
        unit = "held-out photo"
        with (
            Journal(path) as journal,
            self._reports(len(photos), unit) as report,
        ):
            _begin(journal, {"step": step, "recipe": recipe, "weights": _digest(network)})
            computed = 0
            for finished, photo in enumerate(photos, start=1):
                if journal.digest(photo.image.file) is None:
                    proposed = ProposedImage(load(photo.file), photo.proposals, {})
                    (result,) = detector.predict_batch([proposed])
                    image = photo.image
                    entry = Entry(image.file, image.width, image.height, {}, result.detections)
                    journal.append(entry.to_json() | {"digest": ""})
                    computed += 1
                report(finished, computed)
            entries = [Entry.from_json(journal[photo.image.file]) for photo in photos]
        truth = GroundTruth(self._classes, tuple(photo.image for photo in photos))
        if not final:  # the last one stays, for a training that goes on after its end
            path.unlink()
        labels = {name: label for label, name in enumerate(names)}
        columns, _ = from_entries(entries, truth.images, labels)
        return voc.evaluate(truth, columns)[0].to_json()

    def _detector(self, network: GoogLeNet) -> Detector:
        """Return a detector with this network alone, with weights as a bundle has them."""
        recipe = self._recipe
        runtime = Runtime.resolve(
            device=str(self._device),
            backend=self._backend,
            precision=recipe.optimisation.precision,
            batch_size=self._settings.classifier.batch_size,
        )
        weights = {
            name: tensor
            for name, tensor in weights_of(as_shipped(network)).items()
            if not name.startswith(AUXILIARY_HEADS)
        }
        networks = Networks.from_classifier(
            weights,
            MemberRecipe(warp=recipe.warp, architecture=recipe.architecture),
            recipe.normalisation,
            tuple(self._classes),
            runtime,
        )
        return Detector(networks, self._settings)


def _begin(journal: Journal, fingerprint: Mapping[str, Any]) -> None:
    """What another training in the same folder found is of no use."""
    try:
        journal.begin(fingerprint)
    except SettingsError:
        journal.begin(fingerprint, overwrite=True)


def _digest(network: GoogLeNet) -> str:
    return hashlib.sha256(save(half_precision(weights_of(network)))).hexdigest()

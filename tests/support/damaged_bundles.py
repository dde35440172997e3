"""Damaged bundles, and how the program ends on each of them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import re
import shutil
import warnings
from collections.abc import Callable
from enum import Enum
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from detector import Detector
from detector.bundles.bundle import Bundle
from detector.commands.bundle import command as bundle_command
from detector.commands.run import command as run_command
from detector.errors import DetectorError
from tests.support.damage import damage_bytes, swap_value
from tests.support.images import scene

LONGEST_LINE = 1000
"""Most characters of an error."""

OTHER_NUMBERS = ("0", "-1", "1", "3", "0.001", "0.7", "65", "300", "1024", "10000", "1e9", "1e300")
"""What a damaged manifest may have in the place of any number."""

Damage = Callable[[random.Random, Path], None]
"""Changes the files of a bundle in a directory."""


class Outcome(Enum):
    """How a try ends, if it ends as it should."""

    SAME = "the detections of the sound bundle"
    OTHER = "sound, with other detections"
    REFUSED = "refused in one line"


class Trials:
    """Tries of damaged copies of a bundle.

    Args:
        bundle: The sound bundle.
        folder: Empty folder for the copies.
    """

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self.bundle = bundle
        self.copy = folder / "bundle"
        self.image = scene(0, 40, 32)
        self.photo = folder / "photo.png"
        self.photo.write_bytes(b"")  # a run that gets as far as its images fails with another code
        self.sound = self._detect(bundle.directory)

    def attempt(self, damage: Damage, seed: int) -> Outcome:
        """Damage a copy and give it to every command.

        Raises:
            AssertionError: A command ends in another way than it should.
        """
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.bundle.directory, self.copy)
        damage(random.Random(seed), self.copy)

        shown = run(bundle_command, ["show", str(self.copy)])
        is_sound = run(bundle_command, ["verify", str(self.copy)])
        assert shown or not is_sound, "verified, but not shown"
        assert not is_sound or holds_what_it_says(self.copy), "verified, but altered"
        if not is_sound:
            options = ["--out", str(self.copy.parent / "out.json"), "--bundle", str(self.copy)]
            assert not run(run_command, ["--images", str(self.photo), *options])
            return Outcome.REFUSED

        # Detections follow from the manifest, which has the digests; a tenth is enough to see it.
        if Bundle.load(self.copy).manifest == self.bundle.manifest and seed % 10:
            return Outcome.SAME
        try:
            detections = self._detect(self.copy)
        except DetectorError as error:  # such as a class in the settings that the bundle lacks
            check_line(str(error))
            return Outcome.REFUSED
        return Outcome.SAME if detections == self.sound else Outcome.OTHER

    def _detect(self, directory: Path) -> list[tuple[object, ...]]:
        """Return what a bundle finds in an image, after checking that it has numbers."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Detector.load(directory, device="cpu", threshold=0) as detector:
                preprocessed = detector.preprocessor.preprocess(self.image)
                (classified,) = detector.classify([detector.propose(preprocessed)])
                result = detector.postprocess(classified)
        assert np.isfinite(classified.probabilities).all(), "probabilities that are no numbers"
        return [(found.label, found.score, *found.box) for found in result.detections]


def run(command: Callable[[list[str]], int], arguments: list[str]) -> bool:
    """Run a command, check how it ends, and return whether it did what it should."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        code = command(arguments)
    assert code in (0, 2), f"exit code {code}"
    if code:
        line = errors.getvalue()
        assert line.startswith("error: ")
        check_line(line.removesuffix("\n"))
    else:
        assert errors.getvalue() == ""
    return code == 0


def check_line(line: str) -> None:
    """Check that an error is one line that can be read."""
    assert len(line.splitlines()) == 1, line
    assert len(line) <= LONGEST_LINE, line


def holds_what_it_says(directory: Path) -> bool:
    """Return whether all weights are those of the digests, and numbers."""
    content = json.loads((directory / "bundle.json").read_bytes())
    for network in [*content["members"], *filter(None, [content.get("multibox")])]:
        file = directory / network["file"]
        if hashlib.sha256(file.read_bytes()).hexdigest() != network["sha256"]:
            return False
        tensors = load_file(file).values()
        if not all(np.isfinite(tensor.astype(np.float64)).all() for tensor in tensors):
            return False
    return True


def correct_digests(directory: Path) -> None:
    """Write the digests of the weights as they are now."""
    file = directory / "bundle.json"
    content = json.loads(file.read_bytes())
    for network in [*content["members"], *filter(None, [content.get("multibox")])]:
        data = (directory / network["file"]).read_bytes()
        network["sha256"] = hashlib.sha256(data).hexdigest()
    file.write_text(json.dumps(content))


def weights_of(rng: random.Random, directory: Path) -> Path:
    """Return the file of a random network."""
    return rng.choice(sorted(directory.glob("*.safetensors")))


def damage_manifest_bytes(rng: random.Random, directory: Path) -> None:
    """Flip and cut `bundle.json`."""
    file = directory / "bundle.json"
    file.write_bytes(damage_bytes(rng, file.read_bytes()))


def damage_manifest_values(rng: random.Random, directory: Path) -> None:
    """Swap a value of `bundle.json` for another, or drop it."""
    file = directory / "bundle.json"
    file.write_text(json.dumps(swap_value(rng, json.loads(file.read_bytes()))))


def damage_manifest_numbers(rng: random.Random, directory: Path) -> None:
    """Swap a number of `bundle.json` for another, so that its type is right."""
    file = directory / "bundle.json"
    text = file.read_text()
    number = rng.choice(list(re.finditer(r"(?<=[:,\s\[])-?\d+(\.\d+)?(?=[,\s\]}])", text)))
    other = rng.choice(OTHER_NUMBERS)
    file.write_text(text[: number.start()] + other + text[number.end() :])


def damage_weights(rng: random.Random, directory: Path) -> None:
    """Flip and cut weights, and keep the digest."""
    file = weights_of(rng, directory)
    file.write_bytes(damage_bytes(rng, file.read_bytes()))


def damage_weights_and_digest(rng: random.Random, directory: Path) -> None:
    """Flip and cut weights, and correct the digest."""
    damage_weights(rng, directory)
    correct_digests(directory)


def damage_header(rng: random.Random, directory: Path) -> None:
    """Swap a value in the header of weights, and correct its length and the digest."""
    file = weights_of(rng, directory)
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(swap_value(rng, json.loads(data[8:end]))).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])
    correct_digests(directory)


def damage_tensor(rng: random.Random, directory: Path) -> None:
    """Flip a bit of one value of a tensor, and correct the digest."""
    file = weights_of(rng, directory)
    tensors = {name: tensor.copy() for name, tensor in load_file(file).items()}
    values = rng.choice(sorted(tensors.items()))[1].reshape(-1)
    bits = values.view(f"u{values.itemsize}")
    bits[rng.randrange(len(bits))] ^= bits.dtype.type(1 << rng.randrange(8 * bits.itemsize))
    file.write_bytes(save(tensors))
    correct_digests(directory)


def damage_card(rng: random.Random, directory: Path) -> None:
    """Flip and cut the model card, which changes no detection."""
    file = directory / "MODEL_CARD.md"
    file.write_bytes(damage_bytes(rng, file.read_bytes()))


KINDS: dict[str, Damage] = {
    "manifest, bytes": damage_manifest_bytes,
    "manifest, values": damage_manifest_values,
    "manifest, numbers": damage_manifest_numbers,
    "weights": damage_weights,
    "weights and digest": damage_weights_and_digest,
    "header": damage_header,
    "tensor": damage_tensor,
    "model card": damage_card,
}
"""The kinds of damage by their names."""

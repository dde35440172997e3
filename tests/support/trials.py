"""Tries of damaged annotation files on the program, and how each of them ends."""

from __future__ import annotations

import contextlib
import io
import json
import random
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from detector.commands.eval import command
from detector.errors import FormatError
from tests.support.damaged_annotations import Kind, Truth


class Outcome(Enum):
    """How a try ends, if it ends as it should."""

    UNCHANGED = "read, the same as the sound file"
    ALTERED = "read, with the altered value"
    REFUSED = "refused in one line"


@dataclass(frozen=True)
class DataSet:
    """A data set whose file is damaged again and again.

    Args:
        kind: What it is.
        root: Its folder.
        sound: Bytes of the sound file.
        truth: What the sound file says.
    """

    kind: Kind
    root: Path
    sound: bytes
    truth: Truth

    def damaged(self, seed: int) -> bytes:
        """Return damaged bytes of the file."""
        return self.kind.damage(random.Random(seed), self.sound)


def make_data_set(kind: Kind, root: Path) -> DataSet:
    """Write a data set into a new folder."""
    root.mkdir()
    kind.make(root)
    return DataSet(kind, root, (root / kind.file).read_bytes(), kind.literal(root))


def attempt(data_set: DataSet, data: bytes) -> Outcome:
    """Read and score a data set with these bytes in the file, and return how it ends.

    Raises:
        AssertionError: It is misread, or ends in another way than in a score or in one line.
    """
    kind = data_set.kind
    root = data_set.root
    kind.find(root, data_set.truth)
    (root / kind.file).write_bytes(data)
    try:
        truth = kind.read(root)
    except FormatError:
        code, message = _score(kind, root)
        assert code == 2, f"exit code {code} for a file that the reader refuses"
        assert message.startswith(f"error: {root}"), message
        assert len(message.splitlines()) == 1, message
        return Outcome.REFUSED

    literal = kind.literal(root)
    assert truth == literal
    kind.find(root, literal)
    code, message = _score(kind, root)
    assert code == 0, f"exit code {code}: {message}"
    if data == data_set.sound:
        assert message == ""
    else:  # the detections have the sound file's sizes
        assert all("images have another size" in line for line in message.splitlines()), message
    if _are_apart(literal):
        mean_ap = json.loads((root / "scores.json").read_bytes())["mean_ap"]
        assert mean_ap in (None, 1), f"perfect detections have a mean AP of {mean_ap}"
    return Outcome.UNCHANGED if truth == data_set.truth else Outcome.ALTERED


def _are_apart(truth: Truth) -> bool:
    """Return whether no two objects of a class share an area, so that each is found by itself."""
    for _, items in truth:
        for position, (name, (left, top, right, bottom), _) in enumerate(items):
            for other, (x1, y1, x2, y2), _ in items[:position]:
                is_beside = x2 <= left or right <= x1 or y2 <= top or bottom <= y1
                if name == other and not is_beside:
                    return False
    return True


def _score(kind: Kind, root: Path) -> tuple[int, str]:
    """Run `detector-eval`, and return its exit code and what it prints to stderr."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        code = command([*kind.arguments(root), "--quiet", "--json", str(root / "scores.json")])
    return code, errors.getvalue()

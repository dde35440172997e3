"""Damaged annotations end in one line, or are read as a literal reading of the file has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.datasets import ilsvrc
from detector.errors import FormatError
from tests.support.damaged_annotations import KINDS
from tests.support.trials import Outcome, attempt, make_data_set

FAST = [name for name in KINDS if name != "kit's .mat"]
"""Each `.mat` file is read by a process of its own, which takes half a second."""


@pytest.mark.parametrize("name", KINDS)
def test_sound_files_are_read_literally(name: str, tmp_path: Path) -> None:
    data_set = make_data_set(KINDS[name], tmp_path / "data")
    assert attempt(data_set, data_set.sound) == Outcome.UNCHANGED


@pytest.mark.parametrize("name", FAST)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_damage_is_one_line_or_read_literally(
    name: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data_set = make_data_set(KINDS[name], tmp_path_factory.mktemp("data") / "set")
    attempt(data_set, data_set.damaged(seed))


def test_damage_to_the_kit_is_noticed(tmp_path: Path) -> None:
    data_set = make_data_set(KINDS["kit's .mat"], tmp_path / "data")
    outcomes = [attempt(data_set, data_set.damaged(seed)) for seed in range(4)]
    assert Outcome.REFUSED in outcomes


@pytest.mark.parametrize("kind", ["hostile", "empty", "text", "folder"])
def test_a_file_in_the_kits_place(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "ground_truth.mat"
    cases = Path(__file__).parents[2] / "cases" / "ilsvrc"
    match kind:
        case "hostile":  # it ends the interpreter that SciPy runs in
            file.write_bytes((cases / "hostile_ground_truth.mat").read_bytes())
        case "folder":
            file.mkdir()
        case _:
            file.write_text("" if kind == "empty" else "text " * 100)
    with pytest.raises(FormatError, match=r"\.mat: (not the kit's|cannot be)") as caught:
        ilsvrc._read_kit_annotations(file)
    assert "\n" not in str(caught.value)

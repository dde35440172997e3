from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.evaluation.average_precision import area, eleven_points, hundred_and_one_points

OCTAVE = Path(__file__).parent / "octave"
"""`eleven_points.m` made `eleven_points.csv` with Octave."""

rankings = st.lists(st.booleans(), max_size=30).flatmap(
    lambda right: st.tuples(st.just(right), st.integers(max(1, sum(right)), sum(right) + 10))
)


def points(right: list[bool], positives: int) -> list[tuple[Fraction, Fraction]]:
    """Recall and precision after each detection, exactly."""
    return [
        (Fraction(sum(right[:n]), positives), Fraction(sum(right[:n]), n))
        for n in range(1, len(right) + 1)
    ]


def literal_area(right: list[bool], positives: int) -> Fraction:
    """`VOCap.m` step by step: sentinels, envelope from behind, sum where recall changes."""
    curve = points(right, positives)
    recall = [Fraction(0), *(r for r, _ in curve), Fraction(1)]
    precision = [Fraction(0), *(p for _, p in curve), Fraction(0)]
    for index in range(len(precision) - 2, -1, -1):
        precision[index] = max(precision[index], precision[index + 1])
    return sum(
        ((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall))), Fraction(0)
    )


def literal_points(right: list[bool], positives: int, recalls: list[Fraction]) -> Fraction:
    curve = points(right, positives)
    best = [max((p for r, p in curve if r >= recall), default=Fraction(0)) for recall in recalls]
    return sum(best, Fraction(0)) / len(recalls)


TENTHS = [Fraction(str(n * 0.1)) for n in range(11)]
"""As VOCevaldet.m has them: `0:0.1:1` holds 0.30000000000000004, which 3 of 10 objects do not
reach."""

HUNDREDTHS = [Fraction(str(n)) for n in np.linspace(0, 1, 101)]
"""As pycocotools has them: 0.7 is 0.7000000000000001, which 7 of 10 objects do not reach."""


@given(rankings)
def test_equal_the_literal_rules(case: tuple[list[bool], int]) -> None:
    right, positives = case
    flags = np.array(right, np.bool_)
    assert area(flags, positives) == pytest.approx(float(literal_area(right, positives)), abs=1e-12)
    for rule, recalls in ((eleven_points, TENTHS), (hundred_and_one_points, HUNDREDTHS)):
        expected = float(literal_points(right, positives, recalls))
        assert rule(flags, positives) == pytest.approx(expected, abs=1e-12)


def test_eleven_points_are_those_of_the_official_code_run_by_octave() -> None:
    with open(OCTAVE / "eleven_points.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 84
    for row in rows:
        flags = np.array([flag == "1" for flag in row["right"]], np.bool_)
        expected = float(row["ap"])
        assert eleven_points(flags, int(row["positives"])) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("found", "reached"), [(3, 3), (4, 5), (6, 6), (7, 7), (8, 9), (10, 11)])
def test_recalls_of_exactly_3_6_and_7_tenths_do_not_reach_their_point(
    found: int, reached: int
) -> None:
    flags = np.array([True] * found, np.bool_)
    assert eleven_points(flags, 10) == pytest.approx(reached / 11, abs=1e-12)


@given(rankings, st.data())
def test_weights_are_repetitions(case: tuple[list[bool], int], data: st.DataObject) -> None:
    """A wrong detection that counts three times is three wrong ones, and so on."""
    right, positives = case
    n = len(right)
    weights = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    flags = np.repeat(np.array(right, np.bool_), weights)
    for rule in (area, eleven_points, hundred_and_one_points):
        weighted = rule(np.array(right, np.bool_), 3 * positives, np.array(weights, np.int64))
        assert weighted == pytest.approx(rule(flags, 3 * positives), abs=1e-12)


@pytest.mark.parametrize(
    ("right", "positives", "by_area", "by_points"),
    [
        pytest.param([], 3, 0, 0, id="nothing found"),
        pytest.param([True], 1, 1, 1, id="all found"),
        pytest.param([True], 3, 1 / 3, 4 / 11, id="one of three"),
        pytest.param([False, True], 1, 0.5, 0.5, id="second"),
        pytest.param([True, False, True], 2, 0.5 + 1 / 3, (6 + 5 * 2 / 3) / 11, id="a gap"),
    ],
)
def test_known_values(right: list[bool], positives: int, by_area: float, by_points: float) -> None:
    flags = np.array(right, np.bool_)
    assert area(flags, positives) == pytest.approx(by_area, abs=1e-12)
    assert eleven_points(flags, positives) == pytest.approx(by_points, abs=1e-12)

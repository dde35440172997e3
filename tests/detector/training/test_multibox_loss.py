"""MultiBox's training against a slow, literal version of the paper's formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.training.multibox_loss import (
    Targets,
    assignment_loss,
    cluster_boxes,
    match_boxes,
    match_priors,
)
from detector.training.settings import ALPHA

seeds = st.integers(0, 10_000)


def boxes(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Random boxes as shares of a picture's sides."""
    corners = rng.random((count, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)


def f_match(
    locations: NDArray[np.float32],
    objects: NDArray[np.float32],
    x: set[tuple[int, int]],
    spread: float,
) -> float:
    total = 0.0
    for i, j in x:
        for c in range(4):
            total += 0.5 * (float(locations[i][c] - objects[j][c]) / spread) ** 2
    return total


def f_conf(logits: NDArray[np.float32], x: set[tuple[int, int]]) -> float:
    c = [1 / (1 + math.exp(-logit)) for logit in logits]
    used = {i for i, _ in x}
    return -sum(math.log(c[i]) for i in used) - sum(
        math.log(1 - c[i]) for i in range(len(c)) if i not in used
    )


def assignments(k: int, m: int) -> list[set[tuple[int, int]]]:
    """All one-to-one assignments of min(k, m) pairs."""
    if m <= k:
        return [
            {(i, j) for j, i in enumerate(chosen)} for chosen in itertools.permutations(range(k), m)
        ]
    return [
        {(i, j) for i, j in enumerate(chosen)} for chosen in itertools.permutations(range(m), k)
    ]


@settings(deadline=None)
@given(seeds, st.integers(1, 5), st.integers(0, 6))
def test_prior_matching_is_the_best_of_all_assignments(seed: int, k: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    priors, objects = boxes(rng, k), boxes(rng, m)
    found = set(zip(*map(np.ndarray.tolist, match_priors(priors, objects)), strict=True))
    costs = [f_match(priors, objects, x, 1.0) for x in assignments(k, m)]
    assert f_match(priors, objects, found, 1.0) == pytest.approx(min(costs))
    assert len(found) == min(k, m)


@settings(deadline=None)
@given(seeds, st.integers(1, 5), st.integers(0, 6))
def test_matching_of_boxes_minimises_the_loss(seed: int, k: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    found, objects = boxes(rng, k), boxes(rng, m)
    logits = rng.normal(0, 2, k).astype(np.float32)
    pairs = match_boxes(found, logits, objects, np.full((k, 4), 0.1, np.float32))
    x = set(zip(*map(np.ndarray.tolist, pairs), strict=True))
    costs = [ALPHA * f_match(found, objects, x, 0.1) + f_conf(logits, x) for x in assignments(k, m)]
    cost = ALPHA * f_match(found, objects, x, 0.1) + f_conf(logits, x)
    assert cost == pytest.approx(min(costs))


@given(seeds, st.integers(1, 3))
def test_loss_equals_the_formulas(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    k = 7
    found = np.stack([boxes(rng, k) for _ in range(n)])
    logits = rng.normal(0, 3, (n, k)).astype(np.float32)
    objects = [boxes(rng, int(rng.integers(0, 10))) for _ in range(n)]  # none, and more than K
    expected, parts = 0.0, []
    for picture in range(n):
        i, j = match_priors(found[picture], objects[picture])
        x = set(zip(i.tolist(), j.tolist(), strict=True))
        expected += ALPHA * f_match(found[picture], objects[picture], x, 0.05)
        expected += f_conf(logits[picture], x)
        parts.append((np.full(len(i), picture), i, objects[picture][j]))
    pictures, indices, matched = (np.concatenate(part) for part in zip(*parts, strict=True))
    targets = Targets(*map(torch.from_numpy, (pictures, indices, matched)))
    got = assignment_loss(
        torch.from_numpy(found), torch.from_numpy(logits), targets, torch.full((k, 4), 0.05)
    )
    assert got.item() == pytest.approx(expected / n, rel=1e-4)


def test_two_objects_nearest_to_one_prior_have_two() -> None:
    priors = np.array([[0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]], np.float32)
    objects = np.array([[0.1, 0.1, 0.5, 0.52], [0.1, 0.1, 0.5, 0.5]], np.float32)
    rows, columns = match_priors(priors, objects)
    assert dict(zip(columns.tolist(), rows.tolist(), strict=True)) == {0: 1, 1: 0}


def test_clusters_are_where_boxes_are() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0.1, 0.1, 0.3, 0.3], [0.2, 0.5, 0.9, 1.0], [0.5, 0.0, 1.0, 0.4]])
    some = (np.repeat(centres, 50, axis=0) + rng.normal(0, 0.005, (150, 4))).astype(np.float32)
    np.testing.assert_allclose(cluster_boxes(some, 3), centres, atol=0.005)
    np.testing.assert_array_equal(cluster_boxes(some, 3, seed=5), cluster_boxes(some, 3, seed=5))


def test_clusters_need_as_many_boxes() -> None:
    with pytest.raises(ValueError, match="3 priors need as many distinct boxes, not 1"):
        cluster_boxes(np.zeros((5, 4), np.float32), 3)

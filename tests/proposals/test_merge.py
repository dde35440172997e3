from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from proposals import Proposals
from proposals.boxes import iou, round_boxes
from proposals.merge import NEAR_DUPLICATE, merge


def random_proposals(seed: int, count: int, source: str) -> Proposals:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 12, (count, 2, 2))
    boxes = round_boxes(np.concatenate([corners.min(1), corners.max(1)], axis=1), 12, 12)
    scores = rng.random(len(boxes)).astype(np.float32)
    return Proposals(boxes, scores, np.full(len(boxes), source))


@given(st.integers(0, 1000), st.integers(0, 30), st.integers(0, 30))
def test_union_without_near_duplicates(seed: int, n: int, m: int) -> None:
    first, second = (
        random_proposals(seed, n, "selective_search"),
        random_proposals(seed + 1, m, "multibox"),
    )
    merged = merge(first, second)
    rows = {
        (*box.tolist(), score, source)
        for part in (first, second)
        for box, score, source in zip(part.boxes, part.scores, part.sources, strict=True)
        if part is first
        or not any(iou(box[None], other[None])[0, 0] >= NEAR_DUPLICATE for other in first.boxes)
    }
    found = {
        (*box.tolist(), score, source)
        for box, score, source in zip(merged.boxes, merged.scores, merged.sources, strict=True)
    }
    assert found == rows
    assert merged.boxes.tolist() == sorted(merged.boxes.tolist())
    assert merged.counts()["merged"] == len(rows)

from __future__ import annotations

import numpy as np
import pytest

from proposals import Proposals


def test_counts_each_source_and_all() -> None:
    sources = np.array(["multibox", "selective_search", "multibox"])
    proposals = Proposals(np.zeros((3, 4), np.float32), np.ones(3, np.float32), sources)
    assert proposals.counts() == {"multibox": 2, "selective_search": 1, "merged": 3}


def test_no_proposals_are_counted() -> None:
    empty = Proposals.from_one_source(np.empty((0, 4), np.float32), "selective_search")
    assert empty.counts() == {"merged": 0}


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"boxes \(2, 4\), scores \(1,\)"):
        Proposals(np.zeros((2, 4), np.float32), np.ones(1, np.float32), np.array(["a", "b"]))

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.negotiation import weight


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", 0),
        ("image/png", 1),
        ("IMAGE/PNG", 1),
        ("image/png;q=0", 0),
        ("image/png; q=0.5", 0.5),
        ("image/*", 1),
        ("image/*;q=0.3, image/png;q=0.2", 0.2),
        ("*/*;q=0.1, image/*;q=0.3", 0.3),
        ("application/json", 0),
        ("image/png-foo", 0),
        ("image/png;q=much", 1),
        (";;,,;q=,/", 0),
    ],
)
def test_weights(accept: str, expected: float) -> None:
    assert weight(accept, "image/png") == expected


@given(st.text(st.characters(max_codepoint=255), max_size=50))
def test_any_header_has_a_weight(accept: str) -> None:
    assert 0 <= weight(f"image/{accept}", "image/png") <= 1


@given(st.floats())
def test_any_number_is_a_weight(q: float) -> None:
    assert 0 <= weight(f"image/png;q={q}", "image/png") <= 1

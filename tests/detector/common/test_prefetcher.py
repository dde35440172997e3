from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from detector.common.prefetcher import Prefetcher


def test_batches_come_in_order_and_none_after_the_last() -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return step * step

    ahead = Prefetcher(make, steps=5)
    assert [ahead(step) for step in range(2, 5)] == [4, 9, 16]
    ahead.close()
    assert made == [2, 3, 4]


def test_an_error_comes_with_its_step() -> None:
    def make(step: int) -> int:
        if step == 1:
            raise ValueError("step 1")
        return step

    ahead = Prefetcher(make, steps=3)
    assert ahead(0) == 0
    with pytest.raises(ValueError, match="step 1"):
        ahead(1)
    ahead.close()


def test_a_given_thread_is_left_to_its_owner() -> None:
    with ThreadPoolExecutor(1) as thread:
        ahead = Prefetcher(lambda step: threading.get_ident(), 3, thread)
        assert ahead(0) == thread.submit(threading.get_ident).result()
        ahead.close()
        assert thread.submit(int).result() == 0

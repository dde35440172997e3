from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from detector.training.interruption import PostponedSignals

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def interrupting() -> Iterator[None]:
    """Both signals raise KeyboardInterrupt, as in a command."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(block: Callable[[PostponedSignals], None], *, once: bool = True) -> None:
    with PostponedSignals(once=once) as signals:
        block(signals)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits_for_the_end_of_the_block(number: signal.Signals) -> None:
    received = []

    def block(signals: PostponedSignals) -> None:
        signal.raise_signal(number)
        received.append(signals.received)

    with pytest.raises(KeyboardInterrupt):
        run(block)
    assert received == [True]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_does_not_wait(number: signal.Signals) -> None:
    def block(_: PostponedSignals) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(number)
        pytest.fail("it waits")

    with pytest.raises(KeyboardInterrupt):
        run(block)


def test_in_a_group_all_signals_wait() -> None:
    finished = []

    def block(_: PostponedSignals) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        finished.append(True)

    with pytest.raises(KeyboardInterrupt):
        run(block, once=False)
    assert finished


def test_admitted_signals_do_not_wait() -> None:
    def block(signals: PostponedSignals) -> None:
        with signals.admitted():
            pass
        with signals.admitted():
            signal.raise_signal(signal.SIGINT)
            pytest.fail("it waits")

    with pytest.raises(KeyboardInterrupt):
        run(block)


def test_one_that_waits_is_delivered_where_signals_are_admitted() -> None:
    def block(signals: PostponedSignals) -> None:
        signal.raise_signal(signal.SIGINT)
        with signals.admitted():
            pytest.fail("it waits")

    with pytest.raises(KeyboardInterrupt):
        run(block)


def test_an_error_of_an_interrupted_block_is_an_interruption() -> None:
    """Such as the lost connection to another process that was interrupted as well."""

    def block(_: PostponedSignals) -> None:
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError

    with pytest.raises(KeyboardInterrupt):
        run(block)


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with PostponedSignals(once=True) as signals:
        signal.raise_signal(signal.SIGINT)
        assert not signals.received
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN

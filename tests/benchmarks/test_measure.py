"""What is timed, in which order, and what is made of it."""

from __future__ import annotations

import gc
import itertools
import time

import pytest
from benchmarks.measure import QUICK, Effort, Spread, Times, measure, measure_rates


def test_candidates_take_turns() -> None:
    calls: list[str] = []
    times = measure({name: lambda n=name: calls.append(n) for name in "abc"}, QUICK)  # type: ignore[misc]
    assert calls == list("abc") * 4  # two rounds to warm up, two that count
    assert times["a"].n == 2


def test_enough_rounds_for_the_time_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()  # a second passes whenever somebody looks
    monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: float(next(clock)))
    work = {"a": lambda: None, "b": lambda: None}
    for seconds, rounds in [(0.0, 3), (10.0, 5), (1000.0, 20)]:
        assert measure(work, Effort(seconds, (3, 20), sample=0.0))["b"].n == rounds


def test_what_is_short_is_repeated_within_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: float(next(clock)))
    calls: list[int] = []
    times = measure({"a": lambda: calls.append(1)}, Effort(0.0, (2, 2), sample=5.0))
    assert len(calls) == 1 + 1 + 2 * 5
    assert times["a"].median == pytest.approx(1 / 5)


def test_a_spread_is_a_median_and_quartiles() -> None:
    assert Spread.of([5.0]) == Spread(5.0, 5.0, 5.0, 1)
    assert Spread.of([4.0, 1.0, 2.0, 3.0, 5.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert Spread(2.0, 1.0, 4.0, 9).rate(8) == Spread(4.0, 2.0, 8.0, 9)


def test_ratios_are_of_pairs() -> None:
    times = Times({"a": [1.0, 10.0, 2.0], "b": [2.0, 20.0, 5.0]})  # a busy spell in the second round
    assert times.ratio("b", "a") == Spread(2.0, 2.0, 2.25, 3)


def test_rates_are_of_what_was_done() -> None:
    units = itertools.cycle([1, 2, 4])

    def work() -> int:
        n = next(units)
        time.sleep(0.004 * n)
        return n

    times = measure_rates({"a": work}, Effort(0.0, (3, 3)))
    assert times["a"].n == 3
    assert times["a"].low >= 0.004


def test_the_collector_is_off_meanwhile_and_then_as_it_was() -> None:
    assert gc.isenabled()
    on: list[bool] = []
    measure({"a": lambda: on.append(gc.isenabled())}, QUICK)
    assert not any(on)
    assert gc.isenabled()

    def fails() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        measure({"a": fails}, QUICK)
    assert gc.isenabled()
    gc.disable()
    try:
        measure({"a": lambda: None}, QUICK)
        assert not gc.isenabled()
    finally:
        gc.enable()

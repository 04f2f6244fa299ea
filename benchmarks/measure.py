"""Interleaved timing: every candidate once a round, so that other load on the machine affects all alike."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

Work = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Spread:
    """The median and the lower and upper quartile of `n` measurements."""

    median: float
    low: float
    high: float
    n: int = 1

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """The spread of one value or more."""
        if len(values) == 1:
            return Spread(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(median, low, high, len(values))

    def __truediv__(self, divisor: float) -> Spread:
        return Spread(self.median / divisor, self.low / divisor, self.high / divisor, self.n)

    def rate(self, amount: int) -> Spread:
        """The spread of `amount` / seconds, this being a spread of seconds."""
        return Spread(amount / self.median, amount / self.high, amount / self.low, self.n)


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    seconds: target time of one comparison. rounds: minimum and maximum number of rounds. sample: minimum
        seconds of one measurement; shorter work is repeated within it.
    """

    seconds: float = 8.0
    rounds: tuple[int, int] = (7, 101)
    sample: float = 2e-3


QUICK = Effort(seconds=0.0, rounds=(2, 2), sample=0.0)
"""For a smoke test: everything runs, but the times are meaningless."""


class Times(Generic[Name]):
    """The seconds of every candidate in every round."""

    def __init__(self, seconds: Mapping[Name, list[float]]) -> None:
        self.seconds = dict(seconds)

    def __getitem__(self, name: Name) -> Spread:
        return Spread.of(self.seconds[name])

    def ratio(self, numerator: Name, denominator: Name) -> Spread:
        """The spread of the ratios of both candidates' times within a round.

        Other load on the machine affects both times of a round, so these ratios vary less than the times.
        """
        pairs = zip(self.seconds[numerator], self.seconds[denominator], strict=True)
        return Spread.of([a / b for a, b in pairs])


def measure(work: Mapping[Name, Work], effort: Effort, *, device: str = "cpu") -> Times[Name]:
    """Time every candidate, interleaved: A B A B ...

    Two rounds for warm-up are not counted. The garbage collector is off. On a GPU, a measurement ends when
    the GPU has finished.
    """
    sync = torch.cuda.synchronize if device.startswith("cuda") else _nothing
    with collector_off():
        for run in work.values():
            run()
        once = {name: _time(run, 1, sync) for name, run in work.items()}
        number = {name: max(1, math.ceil(effort.sample / seconds)) for name, seconds in once.items()}
        a_round = sum(once[name] * number[name] for name in work)
        fewest, most = effort.rounds
        rounds = min(most, max(fewest, math.ceil(effort.seconds / a_round)))
        seconds: dict[Name, list[float]] = {name: [] for name in work}
        for _ in range(rounds):
            for name, run in work.items():
                seconds[name].append(_time(run, number[name], sync))
    return Times(seconds)


def measure_rates(work: Mapping[str, Callable[[], int]], effort: Effort) -> Times[str]:
    """Like `measure`, on the CPU, for work that returns its number of units; times are seconds a unit."""
    fewest, most = effort.rounds
    seconds: dict[str, list[float]] = {name: [] for name in work}
    with collector_off():
        for run in work.values():
            run()
        begin = time.perf_counter()
        for done in range(most):
            if done >= fewest and time.perf_counter() - begin >= effort.seconds:
                break
            for name, run in work.items():
                start = time.perf_counter()
                units = run()
                seconds[name].append((time.perf_counter() - start) / units)
    return Times(seconds)


@contextmanager
def collector_off() -> Iterator[None]:
    """Collect garbage once, then turn the collector off inside the context."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _time(run: Work, number: int, sync: Callable[[], object]) -> float:
    sync()
    begin = time.perf_counter()
    for _ in range(number):
        run()
    sync()
    return (time.perf_counter() - begin) / number


def _nothing() -> None:
    pass

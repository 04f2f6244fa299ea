"""Timing side by side: every candidate in turn, round after round, so that a busy spell hits all alike."""

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
    """A median, and the quartiles below and above it; `n` measurements."""

    median: float
    low: float
    high: float
    n: int = 1

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Of one value or more."""
        if len(values) == 1:
            return Spread(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(median, low, high, len(values))

    def __truediv__(self, divisor: float) -> Spread:
        return Spread(self.median / divisor, self.low / divisor, self.high / divisor, self.n)

    def rate(self, amount: int) -> Spread:
        """`amount` a second, where this is the seconds that it takes."""
        return Spread(amount / self.median, amount / self.high, amount / self.low, self.n)


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    seconds: aimed at for one comparison. rounds: the fewest and the most. sample: seconds that one
        measurement lasts at least; work that is shorter is repeated within it.
    """

    seconds: float = 8.0
    rounds: tuple[int, int] = (7, 101)
    sample: float = 2e-3


QUICK = Effort(seconds=0.0, rounds=(2, 2), sample=0.0)
"""For the smoke run, which shows that everything runs, and no times worth reading."""


class Times(Generic[Name]):
    """Seconds of every candidate in every round."""

    def __init__(self, seconds: Mapping[Name, list[float]]) -> None:
        self.seconds = dict(seconds)

    def __getitem__(self, name: Name) -> Spread:
        return Spread.of(self.seconds[name])

    def ratio(self, numerator: Name, denominator: Name) -> Spread:
        """The spread of the ratios within a round, which share what else the machine did."""
        pairs = zip(self.seconds[numerator], self.seconds[denominator], strict=True)
        return Spread.of([a / b for a, b in pairs])


def measure(work: Mapping[Name, Work], effort: Effort, *, device: str = "cpu") -> Times[Name]:
    """Time each piece of work, A B A B ..; the first two rounds warm up and are dropped.

    The garbage collector is off meanwhile. On a GPU, a measurement ends when the GPU is done.
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
    """As `measure`, on the CPU, of work that says how many units it has done: seconds a unit."""
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
    """No garbage collection within; what is there is collected before."""
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

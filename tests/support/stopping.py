"""Runs that are stopped at a moment of the test's choice, and what makes two runs the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from endmark.run import BEST, REPLAY, WEIGHTS, read_metrics
from endmark.training import TrainConfig, train
from endmark.training.state_file import STATE


class StopAfter:
    """Says to stop when it is asked for the nth time."""

    def __init__(self, n: int) -> None:
        self.left = n

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


def run(config: TrainConfig[Any], directory: Path, stop: StopAfter, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Train, or go on, until the stop; whether it came before the end."""

    @contextmanager
    def stop_on_signal() -> Iterator[StopAfter]:
        yield stop

    monkeypatch.setattr("endmark.training.loop.stop_on_signal", stop_on_signal)
    return train(config, directory, lambda *_: None, resume=(directory / STATE).exists()).stopped


def lines_of(directory: Path) -> list[dict[str, float | None]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(directory)]


def assert_same_run(given: Path, want: Path) -> None:
    """In all that was logged, and byte for byte in weights and replay."""
    assert lines_of(given) == lines_of(want)
    for file in (WEIGHTS, BEST, REPLAY):
        paths = [directory / file for directory in (given, want)]
        assert paths[0].exists() == paths[1].exists()
        assert not paths[0].exists() or paths[0].read_bytes() == paths[1].read_bytes(), file


def assert_goes_on_wherever_it_is_stopped(
    config: TrainConfig[Any], seed: str, directory: Path, monkeypatch: pytest.MonkeyPatch, *, at_least: int
) -> Path:
    """Stop a run at random moments until it ends: the same as one never stopped, whose directory is given.

    seed: of the moments. at_least: so many stops, or the test shows little.
    """
    never = StopAfter(10**9)
    assert not run(config, directory / "whole", never, monkeypatch)
    asked = 10**9 - never.left
    moments, stops = random.Random(seed), 0
    while run(config, directory / "stopped", StopAfter(moments.randrange(asked // 3)), monkeypatch):
        stops += 1
    assert stops >= at_least
    assert_same_run(directory / "stopped", directory / "whole")
    return directory / "whole"

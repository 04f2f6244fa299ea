"""A sweep: all cells of a grid, wherever they run, each brought to its end once.

Killed at any moment and started again, it keeps what is finished and goes on with what had begun.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from endmark.experiments.cell import Outcome
from endmark.experiments.cells import Cell, identity
from endmark.experiments.directory import Experiment
from endmark.training import TrainConfig

SECONDS_BETWEEN_TRIES = 0.5
SECONDS_IN_USE = 120.0
"""Until a cell whose directory belongs to another process is given up."""


@runtime_checkable
class Pool(Protocol):
    """Where cells run."""

    @property
    def running(self) -> Sequence[Cell]:
        """The cells that run."""
        ...

    def has_room(self, cell: Cell) -> bool:
        """Whether this cell may start."""
        ...

    def start(self, cell: Cell) -> None:
        """Start it."""
        ...

    def wait(self, seconds: float) -> list[tuple[Cell, Outcome]]:
        """The cells that ended, after at most so many seconds."""
        ...

    def stop(self) -> None:
        """Let every cell save its state and end."""
        ...


@dataclass
class Tally:
    """Where a sweep is: names of cells."""

    finished: set[str]
    failed: dict[str, str]
    """With the last line of each one's error."""
    stopped: set[str] = field(default_factory=set)
    in_use: set[str] = field(default_factory=set)
    """Their directories belong to other processes."""


def run_sweep(
    experiment: Experiment,
    cells: Sequence[Cell],
    pool: Pool,
    stop: threading.Event,
    on_progress: Callable[[Tally, Sequence[Cell]], None],
    *,
    retry: bool = False,
) -> Tally:
    """Run every cell that is not finished, but those that failed before unless `retry`; how all ended.

    on_progress: called several times a second with where the sweep is, and the cells that run.
    """
    kept = experiment.failed()
    tally = Tally(
        {cell.name for cell in cells if experiment.is_finished(cell.name)},
        {} if retry else {cell.name: kept[cell.name] for cell in cells if cell.name in kept},
    )
    tally.failed = {name: line for name, line in tally.failed.items() if name not in tally.finished}
    others = {name: line for name, line in kept.items() if name not in {cell.name for cell in cells}}
    waiting = deque(cell for cell in cells if cell.name not in tally.finished | tally.failed.keys())
    locked: dict[str, tuple[Cell, float, float]] = {}  # with the times of its first try and its next one
    if kept.keys() != others.keys() | tally.failed.keys():
        experiment.save_failed(others | tally.failed)
    is_stopping = False
    while waiting or locked or pool.running:
        if stop.is_set() and not is_stopping:
            is_stopping = True
            pool.stop()
        if is_stopping:
            tally.stopped |= {cell.name for cell in waiting} | locked.keys()
            waiting.clear()
            locked.clear()
        now = time.monotonic()
        for name, (cell, _, due) in list(locked.items()):
            if now >= due and pool.has_room(cell):
                pool.start(cell)
                locked[name] = cell, locked[name][1], float("inf")
        while waiting and pool.has_room(waiting[0]):
            pool.start(waiting.popleft())
        on_progress(tally, pool.running)
        for cell, outcome in pool.wait(0.2):
            first = locked.pop(cell.name, (cell, time.monotonic(), 0.0))[1]
            if outcome.kind == "finished":
                tally.finished.add(cell.name)
            elif outcome.kind == "failed":
                tally.failed[cell.name] = outcome.line
                experiment.save_failed(others | tally.failed)
            elif outcome.kind == "stopped" or is_stopping:
                tally.stopped.add(cell.name)
            elif outcome.kind == "lost":
                waiting.appendleft(cell)
            elif time.monotonic() - first < SECONDS_IN_USE:
                locked[cell.name] = cell, first, time.monotonic() + SECONDS_BETWEEN_TRIES
            else:
                tally.in_use.add(cell.name)
    tally.stopped -= tally.finished | tally.failed.keys()
    on_progress(tally, pool.running)
    return tally


def unproven(experiment: Experiment, cells: Iterable[Cell]) -> list[list[Cell]]:
    """Cells whose like has never begun here: one of each kind of run, those on one environment together.

    Each needs a look at whether its environment and its networks can be made.
    """
    begun: set[str] = set()
    firsts: dict[str, Cell] = {}
    for cell in cells:
        key = identity(replace(cell.config, seed=0))
        if experiment.has_run(cell.name):
            begun.add(key)
        firsts.setdefault(key, cell)
    groups: dict[Any, list[Cell]] = {}
    for key, cell in firsts.items():
        if key not in begun:
            groups.setdefault(_environment(cell.config), []).append(cell)
    return list(groups.values())


def _environment(config: TrainConfig[Any]) -> tuple[Any, ...]:
    return config.env, config.env_arg, config.episode_limit

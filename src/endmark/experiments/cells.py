"""The runs of a grid one by one, each with its name and its whole configuration."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from endmark.envs.known import FAMILIES
from endmark.experiments.grid import Grid, Settings
from endmark.experiments.settings import NONE, algorithm_settings, is_axis, run_settings
from endmark.training import TrainConfig
from endmark.training.config import from_json
from endmark.wording import joined, shown

LONGEST_NAME = 150
"""Characters of a name. Most file systems take 255 bytes, encrypted ones 143, and a log's name is longer."""
MOST_CELLS = 20_000
_NOT_PORTABLE = re.compile(r"[^A-Za-z0-9._+=,-]+")


class Cell(NamedTuple):
    """One run of a grid. name: of its directory."""

    name: str
    config: TrainConfig[Any]

    @property
    def kind(self) -> tuple[str, str]:
        """Its algorithm and its task: runs of one kind take about the same time a step."""
        return self.config.name, self.config.env


def cells_of(grid: Grid) -> list[Cell]:
    """All runs of the grid, seed by seed, so that a sweep that is stopped early leaves whole comparisons.

    A name has the algorithm, the task, the values of settings that are axes for it, and the seed. So it stays
    the same when the grid gets more algorithms, tasks, seeds or values.

    ValueError, which names the cell, for a configuration that is none, and for two cells of one name.
    """
    kinds = [_Settings(grid, algorithm, task) for task in grid.tasks for algorithm in grid.algorithms]
    if (n_cells := sum(kind.n_values for kind in kinds) * len(grid.seeds)) > MOST_CELLS:
        raise ValueError(f"the grid has {n_cells} cells, want at most {MOST_CELLS}")
    configs = [pair for kind in kinds for pair in kind.configs()]
    cells = []
    for seed, (config, axes) in itertools.product(grid.seeds, configs):
        config = dataclasses.replace(config, seed=seed)
        cells.append(Cell(_name(config, axes), config))
    _check_names(cells)
    return cells


def identity(config: TrainConfig[Any]) -> str:
    """A text that two configurations share only if they are equal."""
    return json.dumps(config.to_json(), sort_keys=True)


class _Settings:
    """The settings of the runs of one algorithm on one task: fixed ones, and axes."""

    def __init__(self, grid: Grid, algorithm: str, task: str) -> None:
        types = {**algorithm_settings(algorithm), **run_settings()}
        given = {
            **{name: value for name, value in grid.settings.items() if name in types},
            **grid.algorithm.get(algorithm, {}),
            **{name: value for name, value in grid.task.get(task, {}).items() if name in types},
        }
        self._algorithm, self._task = algorithm, task
        self._axes = {name: given[name] for name in sorted(given) if is_axis(given[name], types[name])}
        self._fixed = {name: value for name, value in given.items() if name not in self._axes}
        self.n_values = math.prod(len(values) for values in self._axes.values())

    def configs(self) -> Iterator[tuple[TrainConfig[Any], Settings]]:
        """The configuration for each choice of the axes' values, and this choice."""
        for values in itertools.product(*self._axes.values()):
            chosen = dict(zip(self._axes, values, strict=True))
            yield _config(self._algorithm, self._task, self._fixed | chosen, chosen), chosen


def _config(algorithm: str, task: str, values: Settings, axes: Settings) -> TrainConfig[Any]:
    runs = run_settings()
    of_run = {name: value for name, value in values.items() if name in runs}
    of_algorithm = {name: value for name, value in values.items() if name not in of_run}
    try:
        return from_json({"algorithm": {"name": algorithm, **of_algorithm}, "env": task, **of_run})
    except ValueError as error:
        chosen = "".join(f", {name} {shown(value)}" for name, value in axes.items())
        raise ValueError(f"cell {algorithm} on {task}{chosen}: {joined(error)}") from None


def _name(config: TrainConfig[Any], axes: Settings) -> str:
    words = [_portable(config.name), task_name(config.env)]
    for name in axes:  # the value as the configuration has it, so that 1e-3 and 0.001 are one
        home = config if hasattr(config, name) else config.algorithm
        words.append(f"{name}={_word(getattr(home, name))}")
    name = "-".join([*words, f"seed{config.seed}"])
    if len(name) <= LONGEST_NAME:
        return name
    end = f"~{_digest(name)}-seed{config.seed}"
    return name[: LONGEST_NAME - len(end)] + end


def task_name(env: str) -> str:
    """An environment's id as a part of a name: without the module that is the same for a whole family."""
    homes = [family.home for family in FAMILIES if family.home]
    home = next((home for home in homes if env.startswith(home)), "")
    return _portable(env.removeprefix(home).replace(":", "-"))


def _word(value: Any) -> str:
    """A value as a part of a name."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: NONE}[value]
    if isinstance(value, tuple):
        return ",".join(map(_word, value))
    return _portable(str(value))


def _portable(text: str) -> str:
    """The text in characters that every file system takes; what is lost is told apart by a digest."""
    made = _NOT_PORTABLE.sub("-", text)
    return made if made == text else f"{made}~{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _check_names(cells: list[Cell]) -> None:
    """No two cells share a name, also where a file system takes upper case for lower case."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        other = seen.setdefault(cell.name.casefold(), cell)
        if other is cell:
            continue
        if identity(other.config) == identity(cell.config):
            raise ValueError(f"cell {cell.name}: given twice, want each value of a setting once")
        raise ValueError(f"cells {other.name} and {cell.name}: too alike for the names of two directories")

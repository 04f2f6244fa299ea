"""A grid of runs: algorithms, tasks, seeds and settings, from TOML, JSON or the command line.

    algorithms = ["qmix", "mappo"]
    tasks = ["lbforaging:Foraging-5x5-2p-1f-v3", "smax:3m"]
    seeds = "0:5"

    [settings]
    gamma = [0.95, 0.99]
    [algorithm.qmix]
    lr = 1e-3
    [task."smax:3m"]
    steps = 1_000_000

A list of values is an axis of the grid. A setting in `[settings]` or in a task's table goes to every run that
has it; a task's or an algorithm's value comes before that in `[settings]`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endmark.experiments.settings import algorithm_settings, run_settings, section, table, unknown
from endmark.wording import joined, quoted, shortened, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KEYS = "algorithms", "tasks", "seeds", "settings", "algorithm", "task"
LARGEST_FILE = 1_000_000
MOST_SEEDS = 100_000

Settings = Mapping[str, Any]
"""From a setting to its value, or to the list of its values."""


@dataclass(frozen=True)
class Grid:
    """What to run. `cells_of` has the runs one by one."""

    algorithms: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Settings
    algorithm: Mapping[str, Settings]
    task: Mapping[str, Settings]

    def to_json(self) -> dict[str, Any]:
        """The grid as JSON has it; `grid_from` reads it."""
        return {name: getattr(self, name) for name in KEYS}


def read_grid(path: Path) -> Grid:
    """The grid in this file, TOML, or JSON as `Grid.to_json` gives it; ValueError for any other."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"{path}: too large for a grid, want at most {LARGEST_FILE} bytes")
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ValueError(f"{path}: no {kind}: {shortened(joined(error))}") from None
    try:
        return grid_from(raw)
    except ValueError as error:
        raise ValueError(f"{path}: {joined(error)}") from None


def grid_of_words(
    algorithms: str, tasks: str | None, seeds: str, settings: Iterable[str], task_option: str = "--env"
) -> Grid:
    """The grid that the command line gives in words, such as `qmix,mappo`, `smax:3m`, `0:5`, `lr=5e-4,1e-3`.

    settings: `key=values`, for every run that has it; `qmix.key=values` or `smax:3m.key=values` for some.
    """
    if not tasks:
        raise ValueError(f"{task_option}: missing, want an environment's id, or several with commas between")
    raw: dict[str, Any] = {"algorithms": algorithms.split(","), "tasks": tasks.split(","), "seeds": seeds}
    for words in settings:
        key, equals, value = words.partition("=")
        owner, _, name = key.rpartition(".")
        kind = {"": "settings"} | dict.fromkeys(raw["tasks"], "task")
        kind |= dict.fromkeys(raw["algorithms"], "algorithm")
        if not equals or not name:
            raise ValueError(f"--set: given {quoted(words)}, want key=value")
        if owner not in kind:
            unknown(f"--set {quoted(key)}", "algorithm or task", owner, [name for name in kind if name])
        home = raw.setdefault(kind[owner], {})
        home = home.setdefault(owner, {}) if owner else home
        if name in home:
            raise ValueError(f"--set {key}: given twice, want one list of values, such as {key}=1,2")
        values = _values_of(value)
        home[name] = values[0] if len(values) == 1 else values
    return grid_from(raw)


def grid_from(raw: object) -> Grid:
    """The grid that this is; ValueError, which says where, if it is none."""
    raw = table("grid", raw, KEYS, "key")
    algorithms = _names("algorithms", raw.get("algorithms"))
    tasks = _names("tasks", raw.get("tasks"))
    own = {name: algorithm_settings(name) for name in algorithms}
    general, some = run_settings(), own.values()
    algorithm = table("algorithm", raw.get("algorithm", {}), algorithms, "algorithm in this grid")
    task = table("task", raw.get("task", {}), tasks, "task in this grid")
    grid = Grid(
        algorithms,
        tasks,
        _seeds(raw.get("seeds", [0])),
        section("settings", raw.get("settings", {}), [general, *some]),
        {
            name: section(f"algorithm.{name}", given, [general, own[name]])
            for name, given in algorithm.items()
        },
        {name: section(f"task.{quoted(name)}", given, [general, *some]) for name, given in task.items()},
    )
    for name, settings in grid.algorithm.items():
        for task_name, others in grid.task.items():
            if both := sorted(settings.keys() & others.keys()):
                raise ValueError(
                    f"{both[0]}: given for algorithm.{name} and for task.{quoted(task_name)}, want it for one"
                )
    return grid


def _names(where: str, given: object) -> tuple[str, ...]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not names or not all(isinstance(n, str) and n for n in names):
        raise ValueError(f"{where}: given {shown(given)}, want a list of names")
    return tuple(_unique(where, names))


def _seeds(given: object) -> tuple[int, ...]:
    """Seeds from a number, a list of numbers, or a text such as `0:10` or `0,3,5:8`."""
    wrong = ValueError(f'seeds: given {shown(given)}, want such as [0, 1, 2] or "0:3", 0 <= seed < 2**63')
    seeds: list[Any] = []
    if isinstance(given, str):
        for part in given.split(","):
            first, colon, end = part.partition(":")
            if not first.strip().isdecimal() or (colon and not end.strip().isdecimal()):
                raise wrong
            span = range(int(first), int(end) if colon else int(first) + 1)
            if not 0 < span.stop - span.start <= MOST_SEEDS:
                raise wrong
            seeds += span
    else:
        seeds += given if isinstance(given, list | tuple) else [given]
    if not 0 < len(seeds) <= MOST_SEEDS or not all(type(s) is int and 0 <= s < 2**63 for s in seeds):
        raise wrong
    return tuple(_unique("seeds", seeds))


def _unique(where: str, values: Iterable[Any]) -> list[Any]:
    seen: dict[Any, None] = {}
    for value in values:
        if value in seen:
            raise ValueError(f"{where}: given {shown(value)} twice")
        seen[value] = None
    return list(seen)


def _values_of(text: str) -> list[Any]:
    """Values with commas between them. A value is JSON, or else a text."""
    try:
        values: list[Any] = json.loads(f"[{text}]", parse_constant=str)
        if values:
            return values
    except (ValueError, RecursionError):
        pass
    return [_value_of(part) for part in text.split(",")]


def _value_of(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text

"""An experiment directory: one run directory a cell, and what the sweep itself keeps.

grid.json      the grid, so that `endmark sweep --directory D` goes on with it
NAME/          the run directory of a cell, as `endmark train` makes it
logs/NAME.log  what the cell printed
failed.json    from the name of each cell that failed to the last line of its error
lock           held by the sweep that runs here
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from endmark.disk import LOCK, replacing
from endmark.experiments.cells import Cell, identity
from endmark.experiments.grid import Grid, read_grid
from endmark.run import CONFIG, RunError, is_finished
from endmark.training import TrainConfig, load_config, pinned
from endmark.training.final import FINAL
from endmark.wording import joined, shown

GRID, FAILED, LOGS = "grid.json", "failed.json", "logs"
_BEGUN = {LOCK, f"{CONFIG}.unfinished"}  # what a run may leave that was killed before its config.json


class Experiment:
    """An experiment directory, and what it says of its runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def log(self, name: str) -> Path:
        """The file with what this cell printed."""
        return self.directory / LOGS / f"{name}.log"

    def grid(self) -> Grid:
        """The grid that was swept here last; ValueError if the directory is no experiment."""
        if not self.directory.is_dir():
            raise ValueError(f"{self.directory}: no such directory, want that of a sweep, or a grid")
        if not (self.directory / GRID).is_file():
            raise ValueError(f"{self.directory} is no experiment directory: it has no {GRID}")
        return read_grid(self.directory / GRID)

    def place(self, cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
        """The cells, those with a run here under that run's name; and the names of the other runs here.

        A cell is known by its configuration, so that its run is found also when a new axis changed its name.
        ValueError for a run that cannot be read, and for a name whose run has another configuration.
        """
        if (self.directory / CONFIG).exists():
            raise ValueError(f"{self.directory} is a run directory, want one that holds runs")
        runs = self._runs({cell.name for cell in cells})
        by_config = {identity(config): name for name, config in runs.items()}
        pins: dict[tuple[str, ...], tuple[str, ...]] = {}
        placed = []
        for cell in cells:
            config = _pinned(cell.config, pins)
            name = by_config.get(identity(config), cell.name)
            if name in runs and identity(runs[name]) != identity(config):
                what = _difference(runs[name], config)
                raise ValueError(f"{self.directory / name} holds a run with {what}; delete it to run it anew")
            placed.append(Cell(name, config))
        ours = {cell.name for cell in placed}
        return placed, sorted(runs.keys() - ours)

    def is_finished(self, name: str) -> bool:
        """Whether this cell's run came to its end, the evaluation there included."""
        run = self.directory / name
        return self.has_run(name) and is_finished(run) and (run / FINAL).exists()

    def has_run(self, name: str) -> bool:
        """Whether this cell has begun."""
        return (self.directory / name / CONFIG).exists()

    def save_grid(self, grid: Grid) -> None:
        """Keep the grid."""
        self._write(GRID, grid.to_json())

    def failed(self) -> dict[str, str]:
        """The last line of the error of each cell that failed."""
        path = self.directory / FAILED
        try:
            raw = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} is no JSON: {joined(error)}; delete it to try those cells again"
            ) from None
        if not isinstance(raw, dict) or not all(isinstance(line, str) for line in raw.values()):
            raise ValueError(f"{path}: given {shown(raw)}, want an object of texts")
        return raw

    def save_failed(self, failed: Mapping[str, str]) -> None:
        """Keep which cells failed, and why."""
        self._write(FAILED, dict(failed))

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        with replacing(self.directory / name) as unfinished:
            unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def _runs(self, names: Container[str]) -> dict[str, TrainConfig[Any]]:
        """The runs here by their names. Of others than `names`, those that can be read."""
        runs = {}
        for path in sorted(self.directory.iterdir()) if self.directory.is_dir() else []:
            if (path / CONFIG).exists():
                with nullcontext() if path.name in names else suppress(RunError):
                    runs[path.name] = load_config(path)
            elif path.name in names and (others := {entry.name for entry in path.iterdir()} - _BEGUN):
                raise ValueError(f"{path} is no run directory: it has {min(others)} and no {CONFIG}")
        return runs


def _pinned(config: TrainConfig[Any], pins: dict[tuple[str, ...], tuple[str, ...]]) -> TrainConfig[Any]:
    """What `pinned` gives. It reads the weights of all partners: once for each list of partners."""
    if config.partners not in pins:
        pins[config.partners] = pinned(config).partners
    return replace(config, partners=pins[config.partners]) if config.partners else config


def _difference(run: TrainConfig[Any], cell: TrainConfig[Any]) -> str:
    """The first setting in which they differ, in words."""
    given, wants = (_flat(config.to_json()) for config in (run, cell))
    name = next(name for name in {**given, **wants} if given.get(name) != wants.get(name))
    return f"{name} {shown(given.get(name))}, and the grid has {shown(wants.get(name))}"


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    inner = {f"algorithm.{name}": value for name, value in config["algorithm"].items()}
    return {**{name: value for name, value in config.items() if name != "algorithm"}, **inner}

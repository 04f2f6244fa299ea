"""`endmark sweep`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.text import Text

from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.disk import owned
from endmark.experiments.cells import Cell, cells_of
from endmark.experiments.directory import Experiment
from endmark.experiments.display import SweepDisplay, ending, grid_table
from endmark.experiments.grid import Grid, grid_of_words, read_grid
from endmark.experiments.local import Processes, jobs_for, problems
from endmark.experiments.sweep import Pool, run_sweep, unproven
from endmark.training.signals import stop_on_signal

STOPPED = 3
"""Exit status of a sweep that a signal stopped before its end, as of `endmark train`: start it again."""
FAILED = 1
"""Exit status of a sweep with cells that failed."""


@dataclass(frozen=True)
class SweepCommand:
    """Run a grid: algorithms x environments x seeds x settings. Stopped or killed, it goes on where it was.

    Every cell is an ordinary run directory. docs/sweep.md shows a grid.
    """

    grid: tyro.conf.Positional[str | None] = None
    """GRID.toml, or algorithms with commas between; by default the grid that --directory keeps."""
    env: str | None = None
    """With algorithms: the environments, with commas between."""
    seeds: str | None = None
    """With algorithms: the seeds, such as 0:10 (without 10) or 0,3,5; by default 0."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """With algorithms: a setting and its values, such as lr=5e-4,1e-3; qmix.lr=1e-3: for one algorithm."""
    directory: Path | None = None
    """Where to put the runs; by default runs/NAME for NAME.toml, and otherwise runs/sweep."""
    jobs: int | None = None
    """Runs at once on this machine; by default as many as its cores take."""
    retry: bool = False
    """Try those cells again that failed."""
    dry_run: bool = False
    """Show the grid and what is left of it, and run nothing."""
    ray: str | None = None
    """Run on a Ray cluster: auto, or its address HOST:PORT. --directory must be on storage that it shares."""

    def __call__(self, console: Console) -> int:
        """Run the command; its exit status."""
        if self.jobs is not None and self.jobs < 1:
            raise ValueError(f"jobs: given {self.jobs}, want at least 1")
        if self.jobs is not None and self.ray is not None:
            raise ValueError("jobs: given with --ray, which knows how many cores its nodes have")
        experiment = Experiment(self._directory())
        grid = self._grid(experiment)
        cells = cells_of(grid)
        jobs = self.jobs or jobs_for(cells)
        if self.dry_run:
            placed, _ = experiment.place(cells)
            for part in grid_table(experiment, placed, jobs):
                console.print(part)
            return 0
        with owned(experiment.directory):
            placed, others = experiment.place(cells)
            if others:
                words = f"not in this grid, and left as they are: {len(others)} runs"
                console.print(Text(words), soft_wrap=True)
            failed = {} if self.retry else experiment.failed()
            _check(experiment, [cell for cell in placed if cell.name not in failed], jobs, console)
            experiment.save_grid(grid)
            display = SweepDisplay(console, experiment, placed, jobs)
            with self._pool(experiment, jobs) as pool, stop_on_signal() as stop, display:
                tally = run_sweep(experiment, placed, pool, stop, display, retry=self.retry)
            ending(experiment, placed, tally, console)
        return FAILED if tally.failed or tally.in_use else STOPPED if tally.stopped else 0

    def _pool(self, experiment: Experiment, jobs: int) -> AbstractContextManager[Pool]:
        if self.ray is None:
            return Processes(experiment, jobs)
        from endmark.experiments.on_ray import RayTasks

        return RayTasks(experiment, self.ray)

    def _directory(self) -> Path:
        if self.directory is not None:
            return self.directory
        if self.grid is None:
            raise ValueError(
                "sweep: given nothing, want GRID.toml, algorithms such as qmix,mappo, or --directory"
            )
        return Path("runs") / (Path(self.grid).stem if _is_file(self.grid) else "sweep")

    def _grid(self, experiment: Experiment) -> Grid:
        words = {"--env": self.env, "--seeds": self.seeds, "--set": self.set or None}
        is_of_words = self.grid is not None and not _is_file(self.grid)
        if not is_of_words and (given := [option for option, value in words.items() if value is not None]):
            raise ValueError(f"{given[0]}: given beside a grid that has it, want algorithms before it")
        if self.grid is None:
            return experiment.grid()
        if is_of_words:
            return grid_of_words(self.grid, self.env, self.seeds or "0", self.set)
        return read_grid(Path(self.grid))


def _is_file(grid: str) -> bool:
    return grid.endswith((".toml", ".json"))


def _check(experiment: Experiment, cells: Sequence[Cell], jobs: int, console: Console) -> None:
    """ValueError, which names a cell, if its environment or its networks cannot be made."""
    groups = unproven(experiment, cells)
    if groups and console.is_terminal:
        console.print(f"environments to check: {len(groups)}", highlight=False)
    found = problems([[cell.config for cell in group] for group in groups], jobs)
    for group, problem in zip(groups, found, strict=True):
        if problem is not None:
            raise ValueError(f"cell {group[0].name}: {problem}")


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    status: int = parse(SweepCommand, "sweep", args)(Terminal())
    return status

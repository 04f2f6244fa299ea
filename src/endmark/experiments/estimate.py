"""How long a sweep will take, from the runs that are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from endmark.experiments.cells import Cell
from endmark.experiments.directory import Experiment
from endmark.run import read_progress

Kind = tuple[str, str]
"""An algorithm and a task."""


class Pace:
    """What is known of the time that steps take: by algorithm and task, from the metrics of the runs."""

    def __init__(self, experiment: Experiment, cells: Sequence[Cell]) -> None:
        self._experiment, self._cells = experiment, cells
        self._progress: dict[str, tuple[int, float]] = {}
        self.update(cells)

    def update(self, cells: Iterable[Cell]) -> None:
        """Read anew how far these are."""
        for cell in cells:
            if (progress := read_progress(self._experiment.directory / cell.name))[0] > 0:
                self._progress[cell.name] = progress

    def steps(self, cell: Cell) -> int:
        """Environment steps that this cell has logged."""
        return self._progress.get(cell.name, (0, 0.0))[0]

    def seconds_per_step(self) -> dict[Kind, float]:
        """The mean over all steps of the runs of a kind; no entry for a kind that has logged nothing."""
        sums: dict[Kind, tuple[int, float]] = {}
        for cell in self._cells:
            steps, seconds = self._progress.get(cell.name, (0, 0.0))
            before = sums.get(cell.kind, (0, 0.0))
            sums[cell.kind] = before[0] + steps, before[1] + seconds
        return {kind: seconds / steps for kind, (steps, seconds) in sums.items() if steps}

    def seconds_left(self, cells: Iterable[Cell], jobs: int) -> float | None:
        """For these cells to end, so many at a time; None if nothing is known.

        A kind without a run is taken to be as fast as the mean of the others.
        """
        rates = self.seconds_per_step()
        if not rates:
            return None
        mean = sum(rates.values()) / len(rates)
        left = [max(0, cell.config.steps - self.steps(cell)) * rates.get(cell.kind, mean) for cell in cells]
        return max(sum(left) / max(1, jobs), max(left, default=0.0))

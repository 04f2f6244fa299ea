"""What a person sees of a sweep: one display of all cells, the grid as a table, and what failed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from endmark.experiments.cells import Cell, task_name
from endmark.experiments.directory import Experiment
from endmark.experiments.estimate import Pace
from endmark.experiments.sweep import Tally

MOST_CELLS = 8
"""Running cells that are shown one by one."""


class SweepDisplay:
    """Live progress of all cells; plain lines now and then where the output is no terminal.

    jobs: cells that run at once. plain_every: seconds between two plain lines.
    """

    def __init__(
        self,
        console: Console,
        experiment: Experiment,
        cells: Sequence[Cell],
        jobs: int,
        *,
        plain_every: float = 5.0,
    ) -> None:
        self._console, self._cells, self._jobs = console, cells, jobs
        self._pace = Pace(experiment, cells)
        self._plain_every, self._next_line = plain_every, time.monotonic() + plain_every
        self._next_read = 0.0
        # Without a thread that draws: processes are started all the while.
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )

    def __call__(self, tally: Tally, running: Sequence[Cell]) -> None:
        """Show where the sweep is."""
        now = time.monotonic()
        if now >= self._next_read:
            self._next_read = now + 1.0
            self._pace.update(running)
        if self._live is not None:
            self._live.update(self._picture(tally, running), refresh=True)
        elif now >= self._next_line:
            self._next_line = now + self._plain_every
            self._console.print(
                ", ".join(self._words(tally, running)), highlight=False, markup=False, soft_wrap=True
            )

    def _words(self, tally: Tally, running: Sequence[Cell]) -> list[str]:
        ended = tally.finished | tally.failed.keys() | tally.stopped | tally.in_use
        left = self._pace.seconds_left([cell for cell in self._cells if cell.name not in ended], self._jobs)
        words = [f"{len(tally.finished)}/{len(self._cells)} finished", f"{len(running)} running"]
        words += [f"{len(tally.failed)} failed"] if tally.failed else []
        return [*words, "- left" if left is None else f"{timedelta(seconds=round(left))} left"]

    def _picture(self, tally: Tally, running: Sequence[Cell]) -> RenderableType:
        words = [Text(word, "red" if "failed" in word else "") for word in self._words(tally, running)]
        head = Table.grid(padding=(0, 2, 0, 0))
        room = self._console.width - sum(text.cell_len + 2 for text in words) - 2
        cells: list[RenderableType] = list(words)
        if room >= 8:
            cells.insert(0, ProgressBar(len(self._cells), len(tally.finished), width=min(room, 40)))
        for _ in cells:
            head.add_column(no_wrap=True)
        head.add_row(*cells)
        rows = Table.grid(padding=(0, 2, 0, 0))
        rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        rows.add_column(no_wrap=True, justify="right")
        shown = running[: max(1, min(MOST_CELLS, self._console.height - 3))]
        for cell in shown:
            rows.add_row(Text(f"  {cell.name}"), f"{self._pace.steps(cell)}/{cell.config.steps} steps")
        if len(running) > len(shown):
            rows.add_row(f"  and {len(running) - len(shown)} more", "")
        return Group(head, rows)

    def __enter__(self) -> SweepDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


def grid_table(experiment: Experiment, cells: Sequence[Cell], jobs: int) -> list[RenderableType]:
    """The grid as a table, one row an algorithm and a task, and what is left to do.

    s/1000: seconds for 1000 environment steps, as measured by the runs that are there.
    """
    pace, failed = Pace(experiment, cells), experiment.failed()
    rates = pace.seconds_per_step()
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("runs of", overflow="fold")
    for column in ("cells", "done", "begun", "failed", "steps", "s/1000", "left"):
        table.add_column(column, justify="right")
    unfinished: list[Cell] = []
    for kind in dict.fromkeys(cell.kind for cell in cells):
        mine = [cell for cell in cells if cell.kind == kind]
        todo = [cell for cell in mine if not experiment.is_finished(cell.name)]
        begun = sum(experiment.has_run(cell.name) for cell in todo)
        unfinished += todo
        steps = sorted({cell.config.steps for cell in mine})
        left = pace.seconds_left(todo, 1)
        table.add_row(
            Text(f"{kind[0]} on {task_name(kind[1])}"),
            str(len(mine)),
            str(len(mine) - len(todo)),
            str(begun),
            str(sum(cell.name in failed for cell in todo)),
            " to ".join(map(str, dict.fromkeys([steps[0], steps[-1]]))),
            f"{1000 * rates[kind]:.2g}" if kind in rates else "-",
            str(timedelta(seconds=round(left))) if kind in rates and left is not None else "-",
        )
    total = pace.seconds_left(unfinished, jobs)
    words = f"{len(unfinished)} of {len(cells)} cells are left, {jobs} at a time: "
    known = "nothing here says yet how long they take"
    if total is not None:
        known = f"about {timedelta(seconds=round(total))}"
        if without := {cell.kind for cell in unfinished} - rates.keys():
            known += f", where {len(without)} of the rows without a run are taken to be as fast as the others"
    return [table, Text(words + known)]


def ending(experiment: Experiment, cells: Sequence[Cell], tally: Tally, console: Console) -> None:
    """Print how the sweep ended: each failure with its error and its log, and what is left."""
    for name, line in tally.failed.items():
        console.print(Text(f"failed: {name}: {line}"), soft_wrap=True)
        console.print(Text(f"        {experiment.log(name)}"), soft_wrap=True)
    for name in sorted(tally.in_use):
        where = experiment.directory / name
        console.print(Text(f"left out: another process trains in {where}"), soft_wrap=True)
    words = f"{len(tally.finished)} of {len(cells)} cells finished"
    words += f", {len(tally.failed)} failed (--retry tries them again)" if tally.failed else ""
    words += f", {len(tally.stopped | tally.in_use)} to go on with" if tally.stopped | tally.in_use else ""
    console.print(Text(f"{words}: {experiment.directory}"), soft_wrap=True)

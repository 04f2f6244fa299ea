"""What a person sees in the terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from endmark.rollout import Summary
from endmark.run import Counters


class TrainingDisplay:
    """Live progress of a training run; plain lines now and then where the output is no terminal.

    plain_every: seconds between two plain lines.
    """

    def __init__(self, console: Console, total_steps: int, *, plain_every: float = 5.0) -> None:
        self._console, self._total, self._plain_every = console, total_steps, plain_every
        self._begin = time.monotonic()
        self._first_steps: int | None = None  # of the first call: a resumed run does not start at 0
        self._next_line = self._begin + plain_every
        self._progress = Progress(
            TextColumn("[bold]training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps  {task.fields[episodes]} episodes  {task.fields[updates]} updates"),
            TextColumn("[cyan]greedy {task.fields[greedy]}"),
            TextColumn("{task.fields[speed]:.0f} steps/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(
            "training", total=total_steps, episodes=0, updates=0, greedy="-", speed=0.0
        )

    def __call__(self, counters: Counters, greedy_return: float | None) -> None:
        """Show where the run is."""
        elapsed = time.monotonic() - self._begin
        if self._first_steps is None:
            self._first_steps = counters.env_steps
        speed = (counters.env_steps - self._first_steps) / max(elapsed, 1e-9)
        greedy = "-" if greedy_return is None else f"{greedy_return:.3f}"
        self._progress.update(
            self._task,
            completed=min(counters.env_steps, self._total),
            episodes=counters.episodes,
            updates=counters.updates,
            greedy=greedy,
            speed=speed,
        )
        now = time.monotonic()
        if self._console.is_terminal or (now < self._next_line and counters.env_steps < self._total):
            return
        self._next_line = now + self._plain_every
        left = max(0.0, (self._total - counters.env_steps) / speed) if speed else 0.0
        self._console.print(
            f"{counters.env_steps}/{self._total} steps  {counters.episodes} episodes  "
            f"{counters.updates} updates  greedy {greedy}  {speed:.0f} steps/s  {left:.0f} s left",
            highlight=False,
            soft_wrap=True,
        )

    def __enter__(self) -> TrainingDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()


class ProbeDisplay:
    """A progress bar over the probes of an audit; nothing where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("[bold]audit"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[probe]}"),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._progress.add_task("audit", total=None, probe="")

    def __call__(self, probe: str, done: int, total: int) -> None:
        """Show which probe runs."""
        self._progress.update(self._task, completed=done, total=total, probe=probe)

    def __enter__(self) -> ProbeDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()


def summary_table(title: str, summaries: Mapping[str, Summary]) -> Table:
    """Returns, lengths and ends of episodes, one row a policy."""
    episodes = " and ".join(sorted({str(summary.episodes) for summary in summaries.values()}))
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.title = f"{title}, {episodes} episodes"
    table.add_column("policy")
    for column in ("return", "95 % interval", "steps", "terminated", "truncated"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, s in summaries.items():
        interval = f"{s.return_low:.3f} to {s.return_high:.3f}" if s.episodes > 1 else "one episode"
        ends = f"{s.terminated:.0%}", f"{s.truncated:.0%}"
        table.add_row(name, f"{s.return_mean:.3f}", interval, f"{s.length_mean:.1f}", *ends)
    return table

"""What a person sees in the terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType

from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from endmark.rollout import Interval, Summary
from endmark.run import Counters

WORTH_A_LINE = 1.0
"""Seconds from which on a line says how long the run had to wait for something."""


class TrainingDisplay:
    """Live progress of a training run; plain lines now and then where the output is no terminal.

    plain_every: seconds between two plain lines.
    """

    def __init__(self, console: Console, total_steps: int, *, plain_every: float = 5.0) -> None:
        self._console, self._total, self._plain_every = console, total_steps, plain_every
        self._begin = time.monotonic()  # of what is going on: what prepares the run, then the run
        self._preparing: str | None = None
        self._first_steps: int | None = None  # of the first call: a resumed run does not start at 0
        self._next_line = self._begin + plain_every
        self._counters, self._greedy, self._outcomes = Counters(), "-", ""
        self._live = Live(console=console, get_renderable=self._line) if console.is_terminal else None

    def __call__(self, counters: Counters, greedy: Mapping[str, float]) -> None:
        """Show where the run is.

        greedy: the last evaluation's `return` and outcomes, such as `win`; empty before the first.
        """
        if self._first_steps is None:
            self._first_steps, self._begin = counters.env_steps, time.monotonic()
        self._counters = counters
        self._greedy = f"{greedy['return']:.3f}" if greedy else "-"
        self._outcomes = "  ".join(f"{name} {mean:.2f}" for name, mean in greedy.items() if name != "return")
        now = time.monotonic()
        if self._live is not None or (now < self._next_line and counters.env_steps < self._total):
            return
        self._next_line = now + self._plain_every
        speed, left = self._pace()
        outcomes = f"{self._outcomes}  " if self._outcomes else ""
        self._console.print(
            f"{counters.env_steps}/{self._total} steps  {counters.episodes} episodes  "
            f"{counters.updates} updates  greedy {self._greedy}  {outcomes}"
            f"{speed:.0f} steps/s  {left:.0f} s left",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    @contextmanager
    def preparing(self, what: str) -> Iterator[None]:
        """Show that the run waits for this, such as environments that are compiled, and how long it took."""
        self._preparing, self._begin = what, time.monotonic()
        try:
            yield
        finally:
            self._preparing = None
        if (seconds := time.monotonic() - self._begin) >= WORTH_A_LINE:
            self._console.print(f"{what}: {seconds:.1f} s", highlight=False, markup=False, soft_wrap=True)

    def _pace(self) -> tuple[float, float]:
        """Steps a second, and the seconds left at this speed; 0 before there is one."""
        elapsed = time.monotonic() - self._begin
        speed = (self._counters.env_steps - (self._first_steps or 0)) / max(elapsed, 1e-9)
        return speed, max(0.0, (self._total - self._counters.env_steps) / speed) if speed else 0.0

    def _line(self) -> RenderableType:
        """One line, however narrow: what says least goes first, and a bar comes where there is room."""
        if self._preparing is not None:
            return Text(f"{self._preparing}: {time.monotonic() - self._begin:.0f} s", no_wrap=True)
        counters, (speed, left) = self._counters, self._pace()
        done = min(counters.env_steps, self._total)
        words = {
            "steps": f"{done}/{self._total} steps",
            "episodes": f"{counters.episodes} episodes",
            "updates": f"{counters.updates} updates",
            "greedy": f"greedy {self._greedy}",
            "outcomes": self._outcomes,
            "speed": f"{speed:.0f} steps/s",
            "left": str(timedelta(seconds=int(left))) if speed else "-:--:--",
        }
        of_the_policy = ("greedy", "outcomes")
        texts = {
            name: Text(text, "cyan" if name in of_the_policy else "") for name, text in words.items() if text
        }
        room = self._console.width - 1
        for name in ("episodes", "updates", "speed", "left", "outcomes"):
            if name in texts and _width(texts) > room:
                del texts[name]
        cells: list[RenderableType] = list(texts.values())
        if (bar := room - _width(texts) - 2) >= 8:
            cells.insert(0, ProgressBar(self._total, done, width=min(bar, 40)))
        line = Table.grid(padding=(0, 2, 0, 0))
        for _ in cells:
            line.add_column(no_wrap=True)
        line.add_row(*cells)
        return line

    def __enter__(self) -> TrainingDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


def _width(texts: Mapping[str, Text]) -> int:
    """Of the texts with two spaces between them."""
    return sum(text.cell_len + 2 for text in texts.values()) - 2


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


class CountsDisplay:
    """Progress bars over things counted, one kind after another; plain lines where the output is no terminal.

    plain_every: seconds between two plain lines.
    """

    def __init__(self, console: Console, *, plain_every: float = 5.0) -> None:
        what = TextColumn("[bold]{task.description}")
        columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._console, self._plain_every = console, plain_every
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._what, self._task = "", self._progress.add_task("", total=None)
        self._begin = self._last_call = time.monotonic()
        self._next_line = self._begin + plain_every

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how many of these are done, and how long the others will take."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._begin = what, now if done == 0 else self._last_call
            self._progress.reset(self._task, description=what)
        self._last_call = now
        self._progress.update(self._task, completed=done, total=total)
        if done > 0 and not self._console.is_terminal and now >= self._next_line:
            self._next_line = now + self._plain_every
            left = (now - self._begin) / done * (total - done)
            self._console.print(f"{done}/{total} {what}  {left:.0f} s left", highlight=False, soft_wrap=True)

    def __enter__(self) -> CountsDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()


def summary_table(title: str, summaries: Mapping[str, Summary]) -> Table:
    """Returns, outcomes, lengths and ends of episodes, one row a policy."""
    episodes = " and ".join(sorted({str(summary.episodes) for summary in summaries.values()}))
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.title = Text(f"{title}, {episodes} episodes")  # no markup: an environment may be called anything
    table.add_column("policy")
    outcomes = list(dict.fromkeys(name for summary in summaries.values() for name in summary.outcomes))
    for column in ("return", *outcomes):
        table.add_column(Text(column), justify="right", no_wrap=True)
        table.add_column("95 % interval", justify="right", min_width=8)  # where it is narrow, in two lines
    for column in ("steps", "terminated", "truncated"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, s in summaries.items():
        means = {"return": Interval(s.return_mean, s.return_low, s.return_high), **s.outcomes}
        cells = [cell for column in ("return", *outcomes) for cell in _mean(means.get(column))]
        table.add_row(name, *cells, f"{s.length_mean:.1f}", f"{s.terminated:.0%}", f"{s.truncated:.0%}")
    return table


def _mean(mean: Interval | None) -> tuple[str, str]:
    """A mean and its interval, in words."""
    if mean is None:
        return "-", "-"
    interval = "one episode" if mean.low == -math.inf else f"{mean.low:.3f} to {mean.high:.3f}"
    return f"{mean.mean:.3f}", interval

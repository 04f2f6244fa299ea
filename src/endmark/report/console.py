"""What a person sees in the terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType

from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

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
        self._counters, self._greedy = Counters(), "-"
        self._live = Live(console=console, get_renderable=self._line) if console.is_terminal else None

    def __call__(self, counters: Counters, greedy_return: float | None) -> None:
        """Show where the run is."""
        if self._first_steps is None:
            self._first_steps = counters.env_steps
        self._counters = counters
        self._greedy = "-" if greedy_return is None else f"{greedy_return:.3f}"
        now = time.monotonic()
        if self._live is not None or (now < self._next_line and counters.env_steps < self._total):
            return
        self._next_line = now + self._plain_every
        speed, left = self._pace()
        self._console.print(
            f"{counters.env_steps}/{self._total} steps  {counters.episodes} episodes  "
            f"{counters.updates} updates  greedy {self._greedy}  {speed:.0f} steps/s  {left:.0f} s left",
            highlight=False,
            soft_wrap=True,
        )

    def _pace(self) -> tuple[float, float]:
        """Steps a second, and the seconds left at this speed; 0 before there is one."""
        elapsed = time.monotonic() - self._begin
        speed = (self._counters.env_steps - (self._first_steps or 0)) / max(elapsed, 1e-9)
        return speed, max(0.0, (self._total - self._counters.env_steps) / speed) if speed else 0.0

    def _line(self) -> RenderableType:
        """One line, however narrow: what says least goes first, and a bar comes where there is room."""
        counters, (speed, left) = self._counters, self._pace()
        done = min(counters.env_steps, self._total)
        words = {
            "steps": f"{done}/{self._total} steps",
            "episodes": f"{counters.episodes} episodes",
            "updates": f"{counters.updates} updates",
            "greedy": f"[cyan]greedy {self._greedy}[/]",
            "speed": f"{speed:.0f} steps/s",
            "left": str(timedelta(seconds=int(left))) if speed else "-:--:--",
        }
        texts = {name: Text.from_markup(text) for name, text in words.items()}
        room = self._console.width - 1
        for name in ("episodes", "updates", "speed", "left"):
            if _width(texts) > room:
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


def summary_table(title: str, summaries: Mapping[str, Summary]) -> Table:
    """Returns, lengths and ends of episodes, one row a policy."""
    episodes = " and ".join(sorted({str(summary.episodes) for summary in summaries.values()}))
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.title = Text(f"{title}, {episodes} episodes")  # no markup: an environment may be called anything
    table.add_column("policy")
    for column in ("return", "95 % interval", "steps", "terminated", "truncated"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, s in summaries.items():
        interval = f"{s.return_low:.3f} to {s.return_high:.3f}" if s.episodes > 1 else "one episode"
        ends = f"{s.terminated:.0%}", f"{s.truncated:.0%}"
        table.add_row(name, f"{s.return_mean:.3f}", interval, f"{s.length_mean:.1f}", *ends)
    return table
